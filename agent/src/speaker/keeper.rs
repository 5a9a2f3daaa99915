//! The task that keeps a speaker at hand.

use std::{
    pin::pin,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use bgp::{Error, Speaker};
use futures_util::StreamExt as _;
use tokio::sync::{mpsc, watch};

use super::{Live, Setup, State, process::Process};
use crate::{api::error::with_causes, crash};

/// Pauses between attempts while nothing answers, in milliseconds; the last for ever.
const PAUSES: [u64; 6] = [5, 5, 20, 100, 500, 1_000];

/// Looks for the speaker, configures it, waits for its end, and starts over; for ever.
pub(super) async fn keep(setup: Arc<Setup>, state: watch::Sender<State>, mut silent: mpsc::Receiver<u64>) {
    let mut process = Process::new(&setup);
    let (mut number, mut failures) = (0, 0usize);
    loop {
        if setup.supervise {
            process.ensure(&setup).await;
        }
        match open(&setup).await {
            Ok(speaker) => {
                (number, failures) = (number + 1, 0);
                let events = pin!(speaker.watch());
                tracing::info!(api = ?speaker.api(), "the speaker is up");
                let live = Arc::new(Live { number, speaker: speaker.clone(), peers_set: AtomicBool::new(false) });
                state.send_replace(State::Up(live));
                let why = over(events, &mut silent, number).await;
                tracing::warn!(%why, "the speaker is gone");
                state.send_replace(State::Down(why.into()));
            }
            Err(error) => {
                let why = with_causes(&error);
                // Said once, not at every attempt.
                let known = matches!(&*state.borrow(), State::Down(before) if **before == *why);
                if !known {
                    if failures > 2 {
                        tracing::warn!(%why, "no speaker");
                    }
                    state.send_replace(State::Down(why.into()));
                }
                if let OpenError::Other { .. } = error
                    && setup.supervise
                {
                    process.stop(&setup).await;
                }
                failures += 1;
                tokio::time::sleep(Duration::from_millis(PAUSES[(failures - 1).min(PAUSES.len() - 1)])).await;
            }
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum OpenError {
    #[error(transparent)]
    Speaker(#[from] Error),
    /// Its AS cannot be changed while it runs (StartBgp would say yes and do half of it).
    #[error("the speaker runs as AS {asn} with router id {router_id}, not as configured; restart gobgpd")]
    Other { asn: bgp::Asn, router_id: std::net::Ipv4Addr },
}

/// Dials, and brings a fresh speaker to the point where announcements can be made: nothing is exported
/// before its policies are there.
async fn open(setup: &Setup) -> Result<Speaker, OpenError> {
    let speaker = Speaker::connect(&setup.socket).await?;
    match speaker.global().await? {
        None => {
            crash::point("speaker: before its start");
            speaker.start(&setup.global).await?;
            crash::point("speaker: started, without policies");
        }
        Some((asn, router_id)) if asn != setup.global.local_as || router_id != setup.global.router_id => {
            return Err(OpenError::Other { asn, router_id });
        }
        Some(_) => {}
    }
    speaker.set_policy(&setup.peers).await?;
    crash::point("speaker: policies set");
    Ok(speaker)
}

/// Waits until the speaker has ended or somebody found it silent; why.
async fn over(
    mut events: std::pin::Pin<&mut impl futures_util::Stream<Item = Result<bgp::Event, Error>>>,
    silent: &mut mpsc::Receiver<u64>,
    number: u64,
) -> String {
    loop {
        tokio::select! {
            event = events.next() => match event {
                Some(Ok(event)) => tracing::info!(?event, "session"),
                Some(Err(error)) => return with_causes(&error),
                None => return "the speaker has ended".to_owned(),
            },
            Some(which) = silent.recv() => if which == number {
                return "the speaker does not answer".to_owned();
            },
        }
    }
}
