//! Starting, connecting, answering, and what it weighs.

use std::time::{Duration, Instant};

use lab::{Amphora, addresses};

use crate::{
    Result,
    client::{Connection, Server, get, info},
    floors,
    report::{Report, Target},
    site::Site,
    stats::Samples,
};

/// The dead man's switch, which is executed as `/proc/self/exe`.
const WATCHER: &str = "exe";

/// From exec to the first answer, with the speaker running already: what a restart or an upgrade takes.
pub(crate) fn start(site: &Site, report: &mut Report) -> Result<()> {
    let amphora = site.amphora();
    let (api, floor) = (site.api(amphora)?, site.server(amphora, floors::s_server_address(amphora))?);
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..15 {
        amphora.stop_agent()?;
        let exec = Instant::now();
        amphora.start_agent(&[])?;
        ours.push(site.first_answer(&api, &get("GET", "/"))? - exec);
        let exec = Instant::now();
        let server = floors::s_server(amphora)?;
        theirs.push(site.first_answer(&floor, &info())? - exec);
        server.kill_and_wait()?;
    }
    let how = "fork, exec, state and certificates read, `GET /` answered; a client that tries every 0.2 ms. \
               Floor: the same of s_server. Both include the lab's entering of namespaces";
    let both = (&ours.into(), &theirs.into());
    report.times("exec to first answer, p50", Target::Time(Duration::from_millis(50)), Samples::p50, both, how);
    Ok(())
}

/// A connection, its handshake, one `GET /1.0/info`.
pub(crate) fn new_connection(site: &Site, report: &mut Report) -> Result<()> {
    let amphora = site.amphora();
    let (api, floor) = (site.api(amphora)?, site.server(amphora, floors::s_server_address(amphora))?);
    let server = floors::s_server(amphora)?;
    site.first_answer(&floor, &info())?;
    let (ours, theirs, suites) = site.as_controller(|| {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        let negotiated = |server: &Server| -> Result<String> {
            let mut connection = Connection::open(server)?;
            connection.exchange(&info())?;
            Ok(connection.suite())
        };
        let suites = [negotiated(&api)?, negotiated(&floor)?];
        for round in 0..41 {
            for (server, times) in [(&api, &mut ours), (&floor, &mut theirs)] {
                let block = connect(server, 10)?;
                times.extend(block.into_iter().filter(|_| round > 0)); // the first warms up
            }
        }
        Ok((ours, theirs, suites))
    })?;
    server.kill_and_wait()?;
    if suites[0] != suites[1] {
        return Err(format!("the two speak different TLS: {suites:?}").into());
    }
    let how = format!(
        "one client, one connection at a time, blocks of 10 in turn; TLS 1.3, {}, no tickets. Floor: `openssl s_server \
         -tls1_3 -Verify 1 -HTTP` with the agent's certificate and the agent's own answer as its page",
        suites[0]
    );
    let both = (&ours.into(), &theirs.into());
    report.times("new mTLS connection + `GET /1.0/info`, p50", Target::Ratio(1.2), Samples::p50, both, &how);
    Ok(())
}

fn connect(server: &Server, number: usize) -> Result<Vec<Duration>> {
    let one = |_| {
        let start = Instant::now();
        let mut connection = Connection::open(server)?;
        connection.exchange(&info())?;
        Ok(start.elapsed())
    };
    (0..number).map(one).collect()
}

fn ask(connection: &mut Connection, number: usize) -> Result<Vec<Duration>> {
    let request = info();
    let one = |_| {
        let start = Instant::now();
        connection.exchange(&request)?;
        Ok(start.elapsed())
    };
    (0..number).map(one).collect()
}

/// Requests on a kept connection, and what the agent weighs before and after them.
pub(crate) fn keep_alive(site: &Site, report: &mut Report, answer: Vec<u8>) -> Result<()> {
    let amphora = site.amphora();
    let idle = weight(amphora)?;
    let how = format!(
        "agent and its dead man's switch ({:.2} MiB of it) together (smaps_rollup), after start and one request, BGP \
         session up. Floor: an idle s_server",
        pss(amphora, WATCHER)?
    );
    let server = floors::s_server(amphora)?;
    site.first_answer(&site.server(amphora, floors::s_server_address(amphora))?, &info())?;
    let floor = pss(amphora, "openssl")?;
    server.kill_and_wait()?;
    report.amount("PSS idle", ("<= 12 MiB", Some(12.0)), (idle, Some(floor)), "MiB", &how);
    let how = "beside the agent, with one session and no announcement";
    report.amount("PSS of gobgpd", ("-", None), (pss(amphora, "gobgpd")?, None), "MiB", how);

    let floor = site.server(amphora, floors::rustls_loop(amphora, answer)?)?;
    let api = site.api(amphora)?;
    let (ours, theirs) = site.as_controller(|| {
        let (mut to_agent, mut to_floor) = (Connection::open(&api)?, Connection::open(&floor)?);
        ask(&mut to_agent, 200)?;
        ask(&mut to_floor, 200)?;
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..30 {
            ours.extend(ask(&mut to_agent, 100)?);
            theirs.extend(ask(&mut to_floor, 100)?);
        }
        Ok((ours, theirs))
    })?;
    let how = "`GET /1.0/info` on one connection, blocks of 100 in turn. Floor: a blocking rustls loop in a thread of \
               its own that answers the same bytes";
    let both = (&ours.into(), &theirs.into());
    report.times("keep-alive request, p50", Target::Time(Duration::from_micros(300)), Samples::p50, both, how);

    // With the 3,200 above: 300 new connections, every fifth of which asks 27 times, are 5,000 and some.
    let load = || {
        site.as_controller(|| {
            for n in 0..300 {
                ask(&mut Connection::open(&api)?, if n % 5 == 0 { 27 } else { 1 })?;
            }
            Ok(())
        })
    };
    load()?;
    let after = weight(amphora)?;
    let how = "3,200 of them on one connection, the others on 300. Floor: the same before";
    let row = "PSS after 5,000 requests";
    report.amount(row, ("<= 1.03x idle", Some(idle * 1.03)), (after, Some(idle)), "MiB", how);
    load()?;
    load()?;
    let how = "3,720 more requests on 600 connections. Floor: the row above";
    report.amount(
        "PSS after 8,780 requests",
        ("<= 1.03x", Some(after * 1.03)),
        (weight(amphora)?, Some(after)),
        "MiB",
        how,
    );
    Ok(())
}

/// Others' requests while 1,000 connections lie idle, and while they do not, in turn.
pub(crate) fn idle_connections(site: &Site, report: &mut Report) -> Result<()> {
    const IDLE: usize = 1_000;
    const ROUNDS: usize = 8;
    let api = site.api(site.amphora())?;
    let before = weight(site.amphora())?;
    let mut during = 0.0;
    let [quiet, crowded] = site.as_controller(|| {
        let mut all = [const { (Vec::new(), Vec::new()) }; 2];
        for _ in 0..ROUNDS {
            for (number, (asked, connected)) in [0, IDLE].into_iter().zip(&mut all) {
                let open = |_| {
                    let mut connection = Connection::open(&api)?;
                    connection.shake_hands()?;
                    Ok(connection)
                };
                let mut held = (0..number).map(open).collect::<Result<Vec<Connection>>>()?;
                let mut other = Connection::open(&api)?;
                ask(&mut other, 50)?;
                asked.extend(ask(&mut other, 1_000)?);
                connected.extend(connect(&api, 200)?);
                if let Some(first) = held.first_mut() {
                    first.exchange(&info())?; // fails if it has been closed to make room
                    during = weight(site.amphora())?;
                }
            }
        }
        Ok(all.map(|(asked, connected)| [Samples::from(asked), Samples::from(connected)]))
    })?;
    let how = "eight rounds each in turn; the oldest of the idle still answers afterwards. Floor: without the 1,000";
    for (n, what) in ["keep-alive request", "new connection + request"].into_iter().enumerate() {
        let row = format!("{what} with 1,000 idle mTLS connections held, p99");
        report.times(&row, Target::Ratio(2.0), Samples::p99, (&crowded[n], &quiet[n]), how);
    }
    let how = "agent and watcher together. Floor: before the first of them";
    report.amount("PSS with 1,000 idle connections held", ("-", None), (during, Some(before)), "MiB", how);
    let how = "what the allocator keeps of it. Floor: as above";
    report.amount("PSS when they are gone", ("-", None), (weight(site.amphora())?, Some(before)), "MiB", how);
    Ok(())
}

/// What the agent and its watcher weigh, in MiB; without the proxy for metrics, which shares their pages.
pub(crate) fn weight(amphora: &Amphora) -> Result<f64> {
    let agent = pss_of(amphora, "amphora-agent", |line| !line.contains("prometheus-proxy"))?;
    Ok(agent + pss(amphora, WATCHER)?)
}

/// The proportional set size of every process of that name, in MiB.
pub(crate) fn pss(amphora: &Amphora, program: &str) -> Result<f64> {
    pss_of(amphora, program, |_| true)
}

/// As [`pss`], of those with a command line that is meant.
pub(crate) fn pss_of(amphora: &Amphora, program: &str, meant: impl Fn(&str) -> bool) -> Result<f64> {
    let mut sum = 0.0;
    for pid in amphora.pids(program)? {
        if !meant(&amphora.node().read_file(&format!("/proc/{pid}/cmdline"))?) {
            continue;
        }
        let text = amphora.node().read_file(&format!("/proc/{pid}/smaps_rollup"))?;
        let line = text.lines().find_map(|l| l.strip_prefix("Pss:")).ok_or("no Pss in smaps_rollup")?;
        sum += line.trim().trim_end_matches(" kB").parse::<f64>()? / 1024.0;
    }
    Ok(sum)
}

/// The agent's own answer to `GET /1.0/info`.
pub(crate) fn page(site: &Site) -> Result<Vec<u8>> {
    let api = site.api(site.amphora())?;
    let answer = site.as_controller(|| Ok(Connection::open(&api)?.exchange(&info())?.to_vec()))?;
    floors::write_page(site.amphora(), &answer)?;
    Ok(answer)
}

/// The VIP that is plugged and registered over and over.
pub(crate) fn own_vip() -> std::net::IpAddr {
    addresses::vip(7).v4.into()
}
