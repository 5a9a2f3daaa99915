//! The task that keeps a speaker at hand.

use std::{
    net::{IpAddr, Ipv4Addr, UdpSocket},
    pin::pin,
    sync::{Arc, atomic::AtomicBool},
    time::{Duration, SystemTime},
};

use bgp::{Error, Global, Speaker};
use futures_util::StreamExt as _;
use tokio::sync::{mpsc, watch};

use super::{
    Live, Setup, State,
    process::{Process, kill_behind, stop_behind, version_behind},
    record::Record,
};
use crate::{api::error::with_causes, config::Config, crash, pulse::Pulse, services::systemd};

/// Pauses between attempts while nothing answers, in milliseconds; the last for ever.
const PAUSES: [u64; 6] = [5, 5, 20, 100, 500, 1_000];

/// Attempts in a row that a gobgpd may let pass, two seconds each, before it is replaced: some 30 s.
const SILENT: u32 = 11;

/// Where BGP listens; RFC 4271 section 1.1.
const BGP_PORT: u16 = 179;
/// How often the dead man's switch is seen to: it may have been killed.
const SWITCH: Duration = Duration::from_secs(5);

/// Looks for the speaker, configures it, waits for its end, and starts over; for ever.
pub(super) async fn keep(
    mut config: watch::Receiver<Arc<Config>>,
    state: watch::Sender<State>,
    mut silent: mpsc::Receiver<u64>,
    record: Record,
    pulse: Pulse,
) {
    let systemd = systemd::chosen(config.borrow().distributor.services);
    let mut process = Process::new(&Setup::now(&config), systemd);
    let (mut number, mut failures, mut silences) = (0, 0usize, 0);
    loop {
        pulse.works();
        config.mark_unchanged();
        let setup = Setup::now(&config);
        process.ensure(&setup).await;
        match open(&setup).await {
            Ok(speaker) => {
                (number, failures, silences) = (number + 1, 0, 0);
                let events = pin!(speaker.watch());
                tracing::info!(api = ?speaker.api(), "the speaker is up");
                let made = std::fs::metadata(&setup.socket).and_then(|socket| socket.modified());
                let (since, peers_set) = (made.unwrap_or_else(|_| SystemTime::now()), AtomicBool::new(false));
                let live = Arc::new(Live { number, speaker: speaker.clone(), since, setup: setup.clone(), peers_set });
                state.send_replace(State::Up(live));
                let (socket, asked) = (setup.socket.clone(), record.clone());
                record.found(number);
                tokio::spawn(async move { asked.set_version(number, version_behind(&socket).await) });
                tokio::select! {
                    why = over(events, &mut silent, number, &process, &record, &pulse) => {
                        record.lost();
                        tracing::warn!(%why, "the speaker is gone");
                        state.send_replace(State::Down(why.into()));
                    }
                    // It lives on; what it is configured to is looked at anew, from the policies on.
                    () = other(&mut config, &setup) => tracing::info!("[bgp] has changed"),
                }
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
                if let OpenError::Other { .. } = error {
                    tracing::warn!("stopping gobgpd to start it with the configured AS and router id");
                    stop_behind(&setup.socket).await;
                }
                silences = if let OpenError::Speaker(Error::Slow { .. }) = error { silences + 1 } else { 0 };
                if silences == SILENT {
                    tracing::error!("gobgpd takes connections and answers nothing; killing it, to start another");
                    kill_behind(&setup.socket).await;
                    silences = 0;
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
    Other { asn: bgp::Asn, router_id: Ipv4Addr },
    #[error("[bgp] router_id: there is no management IPv4 address to take it from; set router_id")]
    RouterId,
}

/// Dials, and brings a fresh speaker to the point where announcements can be made: nothing is exported
/// before its policies are there.
async fn open(setup: &Setup) -> Result<Speaker, OpenError> {
    let speaker = Speaker::connect(&setup.socket).await?;
    match speaker.global().await? {
        None => {
            let router_id = setup.router_id.or_else(|| management_ipv4(setup)).ok_or(OpenError::RouterId)?;
            let (local_as, listen_port) = (setup.local_as, Some(BGP_PORT));
            crash::point("speaker: before its start");
            speaker.start(&Global { local_as, router_id, listen: Vec::new(), listen_port }).await?;
            crash::point("speaker: started, without policies");
        }
        Some((asn, router_id)) if asn != setup.local_as || setup.router_id.is_some_and(|r| r != router_id) => {
            return Err(OpenError::Other { asn, router_id });
        }
        Some(_) => {}
    }
    speaker.set_policy(&setup.peers).await?;
    crash::point("speaker: policies set");
    Ok(speaker)
}

/// The address the API is bound to, or the one the kernel would dial an IPv4 peer from.
fn management_ipv4(setup: &Setup) -> Option<Ipv4Addr> {
    let usable = |ip: IpAddr| match ip {
        IpAddr::V4(v4) if !v4.is_unspecified() && !v4.is_loopback() => Some(v4),
        _ => None,
    };
    let by_route = |peer: &bgp::Peer| {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
        socket.connect((peer.address, BGP_PORT)).ok()?; // sends nothing
        usable(socket.local_addr().ok()?.ip())
    };
    usable(setup.bind).or_else(|| setup.peers.iter().filter(|p| p.address.is_ipv4()).find_map(by_route))
}

/// Waits until the configuration says something else of the speaker.
async fn other(config: &mut watch::Receiver<Arc<Config>>, setup: &Setup) {
    while Setup::now(config) == *setup {
        if config.changed().await.is_err() {
            std::future::pending::<()>().await; // the agent is going down
        }
    }
}

/// Waits until the speaker has ended or somebody found it silent; why.
async fn over(
    mut events: std::pin::Pin<&mut impl futures_util::Stream<Item = Result<bgp::Event, Error>>>,
    silent: &mut mpsc::Receiver<u64>,
    number: u64,
    process: &Process,
    record: &Record,
    pulse: &Pulse,
) -> String {
    let mut switch = tokio::time::interval(SWITCH);
    loop {
        pulse.waits_for(SWITCH);
        tokio::select! {
            _ = switch.tick() => process.watched(),
            event = events.next() => match event {
                Some(Ok(event)) => {
                    tracing::info!(?event, "session");
                    record.event(&event);
                }
                Some(Err(error)) => return with_causes(&error),
                None => return "the speaker has ended".to_owned(),
            },
            Some(which) = silent.recv() => if which == number {
                return "the speaker does not answer".to_owned();
            },
        }
    }
}
