//! What wakes the converging task, besides commits and timers.

use futures_util::{Stream, StreamExt as _, stream};
use netns::Signal;
use tokio::sync::watch;

use crate::{kernel::Kernel, speaker::State};

/// Everything that happens inside, and the links that come and go outside. Ends when one of the two ends,
/// to be opened again. Events that were lost mean the same as those that were not: read again.
pub(super) fn of(kernel: &Kernel) -> impl Stream<Item = Signal> + Unpin + use<> {
    let ours = |outside: bool| {
        let network = if outside { kernel.outside() } else { kernel.inside() };
        let events = match network.watch() {
            Ok(events) => events.boxed(),
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "no events from the kernel; relying on the timer");
                stream::pending().boxed()
            }
        };
        let concerns = move |s: &Signal| {
            let link = matches!(s, Signal::EventsLost | Signal::Changed(netns::Change::Link));
            std::future::ready(!outside || link)
        };
        events.filter(concerns).map(Some).chain(stream::once(async { None }))
    };
    let both = stream::select(ours(false).boxed(), ours(true).boxed());
    both.take_while(|event| std::future::ready(event.is_some())).filter_map(std::future::ready).boxed()
}

/// Waits for a speaker to come or go; for ever without one.
pub(super) async fn changed(news: &mut Option<watch::Receiver<State>>) {
    if let Some(receiver) = news
        && receiver.changed().await.is_ok()
    {
        return;
    }
    std::future::pending::<()>().await;
}
