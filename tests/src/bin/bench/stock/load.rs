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
    report::{Report, Target},
    stats::{Samples, show},
};

const CLIENTS: usize = 16;
/// What the Python agent did in the runs of which the targets come, where it is not measured beside ours.
const PEERS_RATE: f64 = 26.0;
const LARGE: usize = 200 * 1000 * 1000;

/// `GET /1.0/details`, each on a connection of its own as the controller's.
pub(crate) fn details(stock: &Stock, report: &mut Report) -> Result<()> {
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
    report.times(
        "new mTLS connection + `GET /1.0/details`, p50",
        Target::Ratio(1.5),
        Samples::p50,
        (&ours, &theirs),
        how,
    );
    let Some(peer) = stock.peer() else { return Ok(()) };
    let server = stock.server(peer, None)?;
    let theirs = stock.as_controller(|| each(&server, &request, 30))?.into();
    let how = "Floor: the Python agent";
    report.times("`GET /1.0/details` beside the Python agent, p50", Target::None, Samples::p50, (&ours, &theirs), how);
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
pub(crate) fn sixteen_clients(stock: &Stock, report: &mut Report) -> Result<()> {
    let ours = rate(stock, stock.ours())?;
    let theirs = stock.peer().map(|peer| rate(stock, peer)).transpose()?;
    let how = format!(
        "a new connection for every request, 5 s, the clients on the same processors. Floor: {}",
        if theirs.is_some() { "the Python agent" } else { "the rate the Python agent had when the target was set" }
    );
    report.rate("16 clients on `GET /1.0/info`", 20.0, (ours, theirs.unwrap_or(PEERS_RATE)), &how);
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
pub(crate) fn large_body(stock: &Stock, report: &mut Report) -> Result<()> {
    let (status, growth, took, blocked) = large(stock, stock.ours())?;
    let mut how = format!(
        "a plug call; answered {status} after {}. The most resident memory at any moment, less what there was before. \
         Another client's slowest `GET /1.0/info` meanwhile: {}",
        show(took),
        show(blocked)
    );
    let mut floor = None;
    if let Some(peer) = stock.peer() {
        let (status, growth, took, blocked) = large(stock, peer)?;
        floor = Some(growth);
        let theirs = format!("which answered {status} after {}; slowest {}", show(took), show(blocked));
        how = format!("{how}. Floor: the Python agent, {theirs}");
    }
    if status != 400 {
        return Err(format!("a body of 200 MB was answered with {status}").into());
    }
    report.amount("growth by a body of 200 MB", ("<= 4 MiB", Some(4.0)), (growth, floor), "MiB", &how);
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
