//! Ten thousand registrations: taking them, holding them, and giving them to a speaker that has lost them.

use std::{
    collections::HashSet,
    sync::Barrier,
    thread,
    time::{Duration, Instant},
};

use bgp::{Change, Prefix, Speaker};
use lab::Amphora;
use nix::sys::signal::Signal;
use serde_json::json;

use crate::{
    Result,
    client::{Connection, post},
    floors,
    http::weight,
    report::{Report, Target},
    routes,
    site::{Site, announcement, foreign_hop, start_speaker, vip, wait_socket},
    stats::{Samples, show},
};

const MANY: u32 = 10_000;
const CONNECTIONS: u32 = 16;
const ROUNDS: usize = 5;
/// The bare client's VIPs come after the agent's.
const BARE: u32 = 0x1_0000;

fn register(n: u32) -> Vec<u8> {
    let id = "00000000-0000-4000-8000-0000000000ff"; // another amphora's: its word alone counts
    post("/1.0/distributor/amphorae", &json!({ "amphora_id": id, "vip_ip": vip(n), "nexthop_ip": foreign_hop() }))
}

/// 10,000 POSTs over 16 connections, against as many appends to a file of the same disk.
pub(crate) fn fill(site: &Site, report: &mut Report) -> Result<()> {
    let api = site.api(site.amphora())?;
    let directory = site.state_directory(site.amphora());
    let bytes = line(site)?;
    let before = floors::appends(&directory, MANY as usize / 2, bytes)?;
    let (took, each) = site.as_controller(|| {
        let requests: Vec<Vec<u8>> = (0..MANY).map(register).collect();
        let barrier = Barrier::new(CONNECTIONS as usize + 1);
        thread::scope(|scope| {
            let mut posters = Vec::new();
            for part in requests.chunks(requests.len() / CONNECTIONS as usize) {
                let (api, barrier) = (&api, &barrier);
                posters.push(scope.spawn(move || -> Result<Vec<Duration>> {
                    let connection = Connection::open(api).and_then(|mut c| c.shake_hands().map(|()| c));
                    barrier.wait();
                    let mut connection = connection?;
                    let mut times = Vec::new();
                    for request in part {
                        let start = Instant::now();
                        connection.exchange(request)?;
                        times.push(start.elapsed());
                    }
                    Ok(times)
                }));
            }
            barrier.wait();
            let start = Instant::now();
            let mut each = Vec::new();
            for poster in posters {
                each.extend(poster.join().map_err(|_| "a poster panicked")??);
            }
            Ok((start.elapsed(), Samples::from(each)))
        })
    })?;
    let answered = Instant::now();
    let speaker = site.speaker(site.amphora())?;
    let announced = wait_all(site, &speaker, &(0..MANY).map(vip).collect::<Vec<_>>())? - answered;
    let after = floors::appends(&directory, MANY as usize / 2, bytes)?;
    let noise = show(before.p99().max(after.p99()));
    let how = format!(
        "each durable when answered; one POST p50 {}, p99 {}; the speaker had the last {} after the last answer. Floor: \
         10,000 appends of {bytes} bytes with fdatasync by one thread, half before and half after: p50 {} and {}, p99 \
         {noise} (the disk's noise)",
        show(each.p50()),
        show(each.p99()),
        show(announced),
        show(before.p50()),
        show(after.p50()),
    );
    let floor = before.sum() + after.sum();
    report.time("10,000 POSTs over 16 connections", Target::Ratio(2.0), (took, floor), &how);
    let how = "agent and watcher together, right after";
    let held = weight(site.amphora())?;
    report.amount("PSS with 10,000 held", ("<= 30 MiB", Some(30.0)), (held, None), "MiB", how);
    Ok(())
}

/// How long a commit of one registration is: what one more adds to the state of the agent that holds nothing.
fn line(site: &Site) -> Result<usize> {
    let api = site.api(site.empty())?;
    let path = site.state_directory(site.empty()).join("amphora-agent/state");
    let length = |n: u32| -> Result<usize> {
        site.as_controller(|| Connection::open(&api)?.exchange(&register(n)).map(drop))?;
        // The file has its full size from the start; what is not used yet is newlines.
        Ok(std::fs::read(&path)?.split(|b| *b == b'\n').filter(|l| !l.is_empty()).map(|l| l.len() + 1).sum())
    };
    let first = length(2 * BARE)?;
    Ok(length(2 * BARE + 1)? - first)
}

/// One more registration where 10,000 are held, and where none is, in turn.
pub(crate) fn one_more(site: &Site, report: &mut Report) -> Result<()> {
    const EACH: u32 = 200;
    let (full, empty) = (site.api(site.amphora())?, site.api(site.empty())?);
    let (many, first) = site.as_controller(|| {
        let (mut to_full, mut to_empty) = (Connection::open(&full)?, Connection::open(&empty)?);
        let (mut many, mut first) = (Vec::new(), Vec::new());
        for n in MANY..MANY + EACH {
            for (connection, times) in [(&mut to_full, &mut many), (&mut to_empty, &mut first)] {
                let request = register(n);
                let start = Instant::now();
                connection.exchange(&request)?;
                times.push(start.elapsed());
            }
        }
        Ok((Samples::from(many), Samples::from(first)))
    })?;
    let how = format!(
        "one at a time, two agents in turn. Floor: the agent that held none before. Max {} and {}",
        show(many.max()),
        show(first.max())
    );
    report.times("one more registration at 10,000 held, p50", Target::Ratio(1.5), Samples::p50, (&many, &first), &how);
    Ok(())
}

/// 10,000 given back to a speaker that lost them, by the agent unasked, and by a bare client with one AddPathStream.
pub(crate) fn replay(site: &Site, report: &mut Report) -> Result<()> {
    let amphora = site.amphora();
    let ours: Vec<_> = (0..MANY).map(vip).collect();
    let theirs: Vec<_> = (BARE..BARE + MANY).map(vip).collect();
    let mut changes = Vec::new();
    for vip in &theirs {
        changes.push(Change::Announce(announcement(*vip, foreign_hop())?));
    }
    let bare = |speaker: &Speaker| -> Result<Duration> {
        let last = Prefix::try_from(*theirs.last().expect("many"))?;
        site.runtime.block_on(async {
            let start = Instant::now();
            let (applied, seen) = tokio::join!(speaker.apply(&changes), wait_for(speaker, last));
            applied?;
            Ok(seen? - start)
        })
    };
    let (mut stream, mut by_speaker, mut by_agent, mut answers) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let gobgpd = start_speaker(site.bare())?;
        let speaker = site.speaker(site.bare())?;
        site.configure(site.bare(), &speaker)?;
        stream.push(bare(&speaker)?);
        gobgpd.kill_and_wait()?;

        let listens = speaker_dies(amphora)?;
        by_speaker.push(wait_all(site, &site.speaker(amphora)?, &ours)? - listens);
        settle(site)?;

        amphora.kill_agent()?;
        amphora.kill_program("gobgpd", Signal::SIGKILL)?;
        let exec = Instant::now();
        amphora.start_agent(&[])?;
        let listens = wait_socket(amphora)?;
        by_agent.push(wait_all(site, &site.speaker(amphora)?, &ours)? - listens);
        answers.push(site.first_answer(&site.api(amphora)?, &crate::client::get("GET", "/"))? - exec);
        settle(site)?;
    }
    let stream = Samples::from(stream);
    let floor = "Floor: one AddPathStream of 10,000 to a bare, configured, empty gobgpd. In both the last prefix is looked \
                 for every 2 ms, and all are counted at the end";
    for (what, samples) in [("speaker", by_speaker), ("agent and speaker", by_agent)] {
        let how = format!("kill -9; from the new gobgpd's socket accepting, so with connecting and policies. {floor}");
        let row = format!("replay of 10,000 after a restart of {what}, p50");
        report.times(&row, Target::Ratio(1.5), Samples::p50, (&samples.into(), &stream), &how);
    }
    let answers = Samples::from(answers);
    let how = "seen only after the replay, so an upper bound. Floor: AddPathStream, as above";
    report.times(
        "exec to answer seen, 10,000 held, gobgpd to start too",
        Target::None,
        Samples::p50,
        (&answers, &stream),
        how,
    );

    let gobgpd = start_speaker(site.bare())?;
    let speaker = site.speaker(site.bare())?;
    site.configure(site.bare(), &speaker)?;
    site.meet(site.bare(), &speaker)?;
    let withdraw: Vec<_> =
        theirs.iter().map(|v| Prefix::try_from(*v).map(Change::Withdraw)).collect::<Result<_, _>>()?;
    let to_tor = routes::many(site, &speaker, &changes, &withdraw)?;
    let how = "for comparison: what the ToR adds. Floor: until gobgpd's table has them";
    report.time("AddPathStream of 10,000, bare, to the ToR's kernel", Target::None, (to_tor, stream.p50()), how);
    gobgpd.kill_and_wait()?;
    Ok(())
}

/// Kills the speaker; when the next one listens.
fn speaker_dies(amphora: &Amphora) -> Result<Instant> {
    amphora.kill_program("gobgpd", Signal::SIGKILL)?;
    wait_socket(amphora)
}

/// Until the session is back and the ToR has what it is sent: the next round shall not pay for this one.
fn settle(site: &Site) -> Result<()> {
    site.wait_session(site.amphora())?;
    thread::sleep(Duration::from_millis(700)); // for the ToR's and gobgpd's own work, which nothing announces the end of
    Ok(())
}

/// When the speaker had the last of `vips`, which are announced in order; all of them are there then.
fn wait_all(site: &Site, speaker: &Speaker, vips: &[std::net::IpAddr]) -> Result<Instant> {
    let last = Prefix::try_from(*vips.last().expect("many"))?;
    site.runtime.block_on(async {
        let seen = wait_for(speaker, last).await?;
        let held = speaker.announcements().await?.announcements;
        let held: HashSet<_> = held.iter().map(|a| a.prefix.address()).collect();
        let missing = vips.iter().filter(|v| !held.contains(v)).count();
        if missing > 0 { Err(format!("{missing} are missing although the last is there").into()) } else { Ok(seen) }
    })
}

async fn wait_for(speaker: &Speaker, last: Prefix) -> Result<Instant> {
    let start = Instant::now();
    loop {
        match speaker.announcement(last).await {
            Ok(Some(_)) => return Ok(Instant::now()),
            Err(error) if start.elapsed() > Duration::from_secs(30) => return Err(error.into()),
            Ok(None) if start.elapsed() > Duration::from_secs(30) => return Err("the last prefix never came".into()),
            Ok(None) | Err(_) => tokio::time::sleep(Duration::from_millis(2)).await,
        }
    }
}
