//! Calls that are asked all the time, many at once, and one with more in it than anybody needs.

use std::{
    fs,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use lab::Amphora;

use super::{Stock, memory, processes};
use crate::{
    Result,
    client::{Connection, Server, get, info},
    floors,
    report::{Reports, Target},
    stats::{Samples, show},
};

const CLIENTS: usize = 16;
/// Requests a second the Python agent answered in the runs of which the targets come.
const PEERS_RATE: f64 = 26.0;
const LARGE: usize = 200 * 1000 * 1000;

/// `GET /1.0/details`, each on a connection of its own as the controller's.
pub(crate) fn details(stock: &Stock, reports: &mut Reports) -> Result<()> {
    let amphora = stock.ours();
    let request = get("GET", "/1.0/details");
    let page = stock.call(amphora, &request)?;
    let floor = stock.server(amphora, Some(floors::rustls_loop(amphora, page)?))?;
    let api = stock.server(amphora, None)?;
    let (ours, theirs) = stock.as_controller(|| {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for round in 0..31 {
            for (server, times) in [(&api, &mut ours), (&floor, &mut theirs)] {
                let block = each(server, &request, 10)?;
                times.extend(block.into_iter().filter(|_| round > 0)); // the first warms up
            }
        }
        Ok((Samples::from(ours), Samples::from(theirs)))
    })?;
    let how = "one client, a new mTLS connection each, blocks of 10 in turn; one load balancer runs. Floor: a rustls loop that \
               answers a new connection with the same bytes";
    let figure = "new mTLS connection + `GET /1.0/details`, p50";
    reports.floors.times(figure, Target::Ratio(1.5), Samples::p50, (&ours, &theirs), how);
    let Some(peer) = stock.peer() else { return Ok(()) };
    let server = stock.server(peer, None)?;
    let theirs = stock.as_controller(|| each(&server, &request, 30))?.into();
    reports.peer.times(figure, Target::None, Samples::p50, (&ours, &theirs), "one client");
    Ok(())
}

fn each(server: &Server, request: &[u8], number: usize) -> Result<Vec<Duration>> {
    let one = |_| {
        let start = Instant::now();
        Connection::open(server)?.exchange(request)?;
        Ok(start.elapsed())
    };
    (0..number).map(one).collect()
}

/// Sixteen clients that ask `GET /1.0/info` as fast as they are answered, each time on a new connection.
pub(crate) fn sixteen_clients(stock: &Stock, reports: &mut Reports) -> Result<()> {
    let ours = rate(stock, stock.ours())?;
    let figure = "16 clients on `GET /1.0/info`";
    let how = "a new connection for every request, 5 s, the clients on the same processors";
    let before = format!("{how}. Floor: the rate the Python agent had when the target was set");
    reports.floors.rate(figure, 20.0, (ours, PEERS_RATE), &before);
    let Some(peer) = stock.peer() else { return Ok(()) };
    reports.peer.rate(figure, 20.0, (ours, rate(stock, peer)?), how);
    Ok(())
}

fn rate(stock: &Stock, amphora: &Amphora) -> Result<f64> {
    let server = stock.server(amphora, None)?;
    let answered = AtomicUsize::new(0);
    let start = Instant::now();
    stock.as_controller(|| {
        thread::scope(|scope| {
            let client = || {
                while start.elapsed() < Duration::from_secs(5) {
                    Connection::open(&server)?.exchange(&info())?;
                    answered.fetch_add(1, Ordering::Relaxed);
                }
                Ok(())
            };
            let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(client)).collect();
            clients.into_iter().try_for_each(|client| client.join().expect("clients do not panic"))
        })
    })?;
    #[expect(clippy::cast_precision_loss, reason = "thousands")]
    Ok(answered.load(Ordering::Relaxed) as f64 / start.elapsed().as_secs_f64())
}

/// A plug call of 200 MB, and another client meanwhile.
pub(crate) fn large_body(stock: &Stock, reports: &mut Reports) -> Result<()> {
    const FIGURE: &str = "growth by a body of 200 MB";
    const TARGET: (&str, Option<f64>) = ("<= 4 MiB", Some(4.0));
    let said = |(status, _, took, blocked): (u16, f64, Duration, Duration)| {
        format!("{status} after {}, and another client's slowest `GET /1.0/info` {}", show(took), show(blocked))
    };
    let ours = large(stock, stock.ours())?;
    if ours.0 != 400 {
        return Err(format!("a body of 200 MB was answered with {}", ours.0).into());
    }
    let how = format!(
        "a plug call, answered {}. The most resident memory at any moment, less what there was before",
        said(ours)
    );
    reports.floors.amount(FIGURE, TARGET, (ours.1, None), "MiB", &how);
    let Some(peer) = stock.peer() else { return Ok(()) };
    let theirs = large(stock, peer)?;
    let how = format!("answered {}; the Python agent: {}", said(ours), said(theirs));
    reports.peer.amount(FIGURE, TARGET, (ours.1, Some(theirs.1)), "MiB", &how);
    Ok(())
}

/// The answer's status, the growth in MiB, how long it took, and the slowest other call meanwhile.
fn large(stock: &Stock, amphora: &Amphora) -> Result<(u16, f64, Duration, Duration)> {
    let before = memory(amphora, "status", "VmRSS:")?;
    for pid in processes(amphora)? {
        // Forgets the peak (proc_pid_clear_refs(5)).
        fs::write(format!("/proc/{pid}/clear_refs"), "5")?;
    }
    let path = format!("/1.0/plug/vip/{}", stock.vip(amphora));
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: amphora\r\ncontent-type: application/json\r\ncontent-length: {LARGE}\r\n\r\n"
    );
    let server = stock.server(amphora, None)?;
    let (status, took, slowest) = stock.as_controller(|| {
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            let other = scope.spawn(|| -> Result<Duration> {
                let mut slowest = Duration::ZERO;
                while !done.load(Ordering::Relaxed) {
                    let start = Instant::now();
                    Connection::open(&server)?.exchange(&info())?;
                    slowest = slowest.max(start.elapsed());
                }
                Ok(slowest)
            });
            let start = Instant::now();
            let status = Connection::open(&server)?.upload(head.as_bytes(), LARGE);
            let took = start.elapsed();
            done.store(true, Ordering::Relaxed);
            let slowest = other.join().expect("clients do not panic")?;
            Ok((status?, took, slowest))
        })
    })?;
    Ok((status, memory(amphora, "status", "VmHWM:")? - before, took, slowest))
}
