use std::{sync::atomic::AtomicUsize, time::Duration};

use super::*;

fn name() -> ServiceName {
    ServiceName::new("haproxy-1").unwrap()
}

/// Counts how often it was done, and takes a while.
fn work(done: &Arc<AtomicUsize>) -> impl Future<Output = Outcome> + Send + 'static {
    let done = done.clone();
    async move {
        tokio::time::sleep(Duration::from_secs(1)).await;
        done.fetch_add(1, Ordering::SeqCst);
        Ok(true)
    }
}

/// Runs these kinds, each a tenth of a second after the one before; how often work was done for it.
async fn counts(kinds: &[Kind]) -> usize {
    let (jobs, done) = (Jobs::default(), Arc::new(AtomicUsize::new(0)));
    let calls = kinds.iter().zip(0u32..).map(|(kind, at)| {
        let (jobs, work) = (jobs.clone(), work(&done));
        async move {
            tokio::time::sleep(Duration::from_millis(100) * at).await;
            assert_eq!(jobs.run(&name(), *kind, work).await, Ok(true));
        }
    });
    futures_util::future::join_all(calls).await;
    assert!(jobs.0.lock().unwrap().is_empty(), "nothing is left in the line");
    done.load(Ordering::SeqCst)
}

#[tokio::test(start_paused = true)]
async fn the_same_is_done_once_and_a_reload_that_runs_is_followed_by_one_more() {
    use Kind::{Install, Reload, Restart, Start, Stop};
    assert_eq!(counts(&[Start, Start, Start]).await, 1);
    assert_eq!(counts(&[Stop, Stop]).await, 1);
    assert_eq!(counts(&[Reload, Reload, Reload, Reload]).await, 2);
    assert_eq!(counts(&[Restart, Restart]).await, 2);
    assert_eq!(counts(&[Install, Install]).await, 2);
    assert_eq!(counts(&[Start, Stop, Start]).await, 3, "not the first start's answer");
    assert_eq!(counts(&[Start, Reload, Reload]).await, 2);
}

#[tokio::test(start_paused = true)]
async fn a_job_goes_on_without_its_caller_and_a_panic_holds_up_nobody() {
    let (jobs, done) = (Jobs::default(), Arc::new(AtomicUsize::new(0)));
    let name = name();
    let call = jobs.run(&name, Kind::Start, work(&done));
    assert!(tokio::time::timeout(Duration::from_millis(10), call).await.is_err());
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(done.load(Ordering::SeqCst), 1);
    let panics = jobs.run(&name, Kind::Stop, async { panic!("of the test") });
    assert!(matches!(panics.await, Err(ServiceError::Backend { .. })));
    assert_eq!(jobs.run(&name, Kind::Stop, work(&done)).await, Ok(true));
}
