//! Calls that change something: plugging a VIP or a member network, starting a load balancer.

use std::time::{Duration, Instant};

use lab::{Amphora, Place, amphora::FRONTEND_NIC, command, net::Segment};

use super::{LB, Stock};
use crate::{
    Result,
    client::{Connection, get, post, put},
    network::Member,
    plug::body,
    report::{Report, Reports, Target},
    stats::Samples,
};

const CONFIGURATION: &str = "global
    user nobody
    stats socket /var/lib/octavia/LB.sock mode 0666 level user
    maxconn 1000
defaults
    retries 3
    option redispatch
frontend 3c2d8d0e-4a4e-4c1b-9f0a-0d3b7a1c2d3e
    bind VIP:80
    mode http
    default_backend 9a1f6c3e-4a4e-4c1b-9f0a-0d3b7a1c2d3e:3c2d8d0e-4a4e-4c1b-9f0a-0d3b7a1c2d3e
    timeout client 50000
frontend prometheus-exporter-internal-endpoint
    bind 127.0.0.1:9101
    mode http
    http-request use-service prometheus-exporter if { path /metrics }
    timeout client 5s
backend 9a1f6c3e-4a4e-4c1b-9f0a-0d3b7a1c2d3e:3c2d8d0e-4a4e-4c1b-9f0a-0d3b7a1c2d3e
    mode http
    balance roundrobin
    timeout connect 5000
    timeout server 50000
    server 11111111-4a4e-4c1b-9f0a-0d3b7a1c2d3e 127.0.0.1:9001 weight 1 check inter 5s
";

/// Plugs a VIP as Nova left the NIC, each round anew; it stays plugged after the last.
pub(crate) fn plug_vip(stock: &Stock, report: &mut Report) -> Result<()> {
    let plug = |amphora: &Amphora| -> Result<Duration> {
        let request = post(&format!("/1.0/plug/vip/{}", stock.vip(amphora)), &body(amphora));
        timed(stock, amphora, &request)
    };
    let mut ours = Vec::new();
    for round in 0..10 {
        if round > 0 {
            stock.call(stock.ours(), &get("DELETE", &format!("/1.0/plug/vip/{}", stock.vip(stock.ours()))))?;
            put_back(stock.ours())?;
        }
        ours.push(plug(stock.ours())?);
    }
    let Some(peer) = stock.peer() else { return Ok(()) };
    let mut theirs = Vec::new();
    for round in 0..3 {
        if round > 0 {
            // It has no call for it; what it keeps is in these two files.
            put_back(peer)?;
            peer.node().run([
                "rm",
                "-f",
                "/var/lib/octavia/plugged_interfaces",
                "/etc/octavia/interfaces/eth1.json",
            ])?;
        }
        theirs.push(plug(peer)?);
    }
    let how = "as the controller sends it for `SINGLE`, on a new connection";
    let (both, target) = ((&ours.into(), &theirs.into()), Target::Time(Duration::from_millis(30)));
    report.times("plug VIP v4, p50", target, Samples::p50, both, how);
    Ok(())
}

/// Plugs one member network after the other, each with a NIC of its own.
pub(crate) fn plug_network(stock: &Stock, report: &mut Report) -> Result<()> {
    let Some(peer) = stock.peer() else { return Ok(()) };
    let members = Segment::new(&stock.fabric.workdir, "net-members")?;
    let plugs = |amphora: &Amphora, numbers: std::ops::Range<u8>| -> Result<Samples> {
        let one = |number| timed(stock, amphora, &Member::new(&members, amphora, number)?.request());
        Ok(numbers.map(one).collect::<Result<Vec<_>>>()?.into())
    };
    let both = (&plugs(stock.ours(), 0..10)?, &plugs(peer, 10..13)?);
    let how = "one IPv4 address, a new NIC each, on a new connection";
    let target = Target::Time(Duration::from_millis(50));
    report.times("plug network v4, p50", target, Samples::p50, both, how);
    Ok(())
}

/// Uploads a configuration, then starts and stops it in turn; it runs after the last.
pub(crate) fn start_listener(stock: &Stock, reports: &mut Reports) -> Result<()> {
    let own = own_start(stock)?;
    let rounds = |amphora: &Amphora| -> Result<(Duration, Vec<Duration>)> {
        let path = format!("/1.0/loadbalancer/{}/{LB}/haproxy", amphora.id());
        let upload = timed(stock, amphora, &put(&path, configuration(stock, amphora).as_bytes()))?;
        let act = |action| put(&format!("/1.0/loadbalancer/{LB}/{action}"), b"");
        let mut starts = vec![timed(stock, amphora, &act("start"))?];
        for _ in 0..9 {
            stock.call(amphora, &act("stop"))?;
            starts.push(timed(stock, amphora, &act("start"))?);
        }
        Ok((upload, starts))
    };
    let (upload, starts) = rounds(stock.ours())?;
    let limit = own.p50() + Duration::from_millis(30);
    let starts = Samples::from(starts);
    let how = "answered when haproxy listens; on a new connection, by the backend without systemd. Floor: `haproxy -W -D` of \
               the same configuration, by hand, whose time plus 30 ms is the target";
    reports.floors.times("start listener, p50", Target::Time(limit), Samples::p50, (&starts, &own), how);
    let Some(peer) = stock.peer() else { return Ok(()) };
    let (their_upload, their_starts) = rounds(peer)?;
    let (both, how) = ((&starts, &Samples::from(their_starts)), "of the same; answered when haproxy runs");
    reports.peer.times("start listener, p50", Target::Time(limit), Samples::p50, both, how);
    let how = "one call each; both have haproxy check it";
    reports.peer.time("haproxy upload", Target::None, (upload, their_upload), how);
    Ok(())
}

/// haproxy's own start, until it has let go of its caller: then it listens.
fn own_start(stock: &Stock) -> Result<Samples> {
    let amphora = stock.ours();
    let (file, pid) = ("/etc/haproxy/floor.cfg", "/run/floor.pid");
    amphora.node().write_file(file, configuration(stock, amphora).replace(LB, "floor"), 0o644)?;
    let inside: Place = amphora.haproxy_netns()?;
    let one = |_| {
        let mut haproxy = command(["haproxy", "-W", "-D", "-f", file, "-p", pid]);
        haproxy.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
        let start = Instant::now();
        let started = inside.spawn("floor", &mut haproxy)?.wait(Duration::from_secs(10))?;
        let took = start.elapsed();
        if !started.success() {
            return Err("haproxy does not start by hand".into());
        }
        // The file is written by the daemon, which is a moment later.
        let end = "until p=$(cat $0 2>/dev/null) && [ -n \"$p\" ]; do sleep 0.01; done; rm $0; kill $p; \
                   while kill -0 $p 2>/dev/null; do sleep 0.01; done";
        inside.run(["sh", "-c", end, pid])?;
        Ok(took)
    };
    Ok((0..10).map(one).collect::<Result<Vec<_>>>()?.into())
}

fn configuration(stock: &Stock, amphora: &Amphora) -> String {
    CONFIGURATION.replace("LB", LB).replace("VIP", &stock.vip(amphora).to_string())
}

fn timed(stock: &Stock, amphora: &Amphora, request: &[u8]) -> Result<Duration> {
    let server = stock.server(amphora, None)?;
    stock.as_controller(|| {
        let start = Instant::now();
        Connection::open(&server)?.exchange(request)?;
        Ok(start.elapsed())
    })
}

/// Takes the NIC out again, as Nova left it.
fn put_back(amphora: &Amphora) -> Result<()> {
    let outside = amphora.node().pid();
    Ok(amphora.haproxy_netns()?.ip(&format!("link set eth1 netns {outside} name {FRONTEND_NIC}"))?)
}
