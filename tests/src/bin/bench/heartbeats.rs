//! What an amphora with one load balancer costs while nothing happens but heartbeats.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use hyper::Method;
use lab::{
    Fabric, Options, TorKind,
    addresses::{CONTROLLER_HOST, MANAGEMENT},
    heartbeats::{self, KEY, Receiver},
};

use crate::{
    Result,
    floors::insist,
    http::{pss, pss_of},
    report::Report,
};

const LB: &str = "6f4b2f0e-4a4e-4c1b-9f0a-0d3b7a1c2d3e";
const IDLE: Duration = Duration::from_mins(1);
/// Seconds.
const INTERVAL: u32 = 3;

const CONFIGURATION: &str = "global
    user nobody
    stats socket /var/lib/octavia/LB.sock mode 0666 level user
    maxconn 1000
defaults
    retries 3
    option redispatch
frontend 3c2d8d0e-4a4e-4c1b-9f0a-0d3b7a1c2d3e
    bind 127.0.0.1:8080
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
    server 22222222-4a4e-4c1b-9f0a-0d3b7a1c2d3e 127.0.0.1:9001 weight 1 check inter 5s
";

/// A minute of nothing, and what agent and proxy weigh after it.
pub(crate) fn idle(report: &mut Report) -> Result<()> {
    let mut options = Options::new(TorKind::Bird);
    options.amphorae = 1;
    let fabric = Fabric::new("bench-idle", &options)?;
    let amphora = &fabric.amphorae[0];
    let manager = Receiver::new(&fabric.controller, "0.0.0.0:0".parse()?)?;
    let host = MANAGEMENT.host(CONTROLLER_HOST).v4;
    heartbeats::configure(amphora, &[format!("{host}:{}", manager.address()?.port())], INTERVAL, KEY)?;
    amphora.node().run(["mkdir", "-p", "/etc/octavia/amphora-agent.conf.d"])?;
    let agent = amphora.start_agent(&[])?;
    let (mut api, _) = amphora.wait_api(Duration::from_secs(20))?;
    let upload = format!("/1.0/loadbalancer/{}/{LB}/haproxy", amphora.id());
    let configuration = CONFIGURATION.replace("LB", LB).into_bytes();
    for (path, body) in [(upload, configuration), (format!("/1.0/loadbalancer/{LB}/start"), Vec::new())] {
        let reply = api.send(Method::PUT, &path, &[], body)?;
        if reply.status != 202 {
            return Err(format!("{path}: {} {}", reply.status, reply.text()).into());
        }
    }
    api.disconnect();
    let scrape = "curl -sf http://127.0.0.1:9102/metrics >/dev/null";
    insist("the proxy's metrics", || Ok(amphora.haproxy_netns()?.run(["sh", "-c", scrape])?))?;

    // From one heartbeat to one a minute later.
    let whole =
        |size: usize| if size > 300 { Ok(size) } else { Err(format!("a heartbeat of {size} bytes has no pool")) };
    manager.drain()?;
    manager.next(KEY, IDLE)?;
    let (start, before) = (Instant::now(), cpu(agent.pid())?);
    thread::sleep(IDLE);
    let (took, used) = (start.elapsed(), cpu(agent.pid())?.saturating_sub(before));
    let (mut count, mut size) = (0, 0);
    while let Ok(heartbeat) = manager.next(KEY, Duration::from_millis(1)) {
        (count, size) = (count + 1, whole(heartbeat.size)?);
    }
    let how = format!(
        "one load balancer with a listener, a pool and two members on a haproxy the agent runs, no BGP; {count} \
         heartbeats of {size} bytes in {:.0} s. All threads' time on a processor by schedstat",
        took.as_secs_f64()
    );
    let milliseconds = used.as_secs_f64() * 1e3;
    report.amount(
        "CPU of a minute of heartbeats every 3 s",
        ("<= 20 ms", Some(20.0)),
        (milliseconds, None),
        "ms",
        &how,
    );

    let proxy = pss_of(amphora, "amphora-agent", |line| line.contains("prometheus-proxy"))?;
    let both = proxy + pss_of(amphora, "amphora-agent", |line| !line.contains("prometheus-proxy"))?;
    let how = format!(
        "smaps_rollup, after that minute; the proxy ({proxy:.2} MiB of it) has answered. Beside them: haproxy {:.2} MiB",
        pss(amphora, "haproxy")?
    );
    report.amount("PSS of agent and prometheus-proxy", ("<= 15 MiB", Some(15.0)), (both, None), "MiB", &how);
    Ok(())
}

/// The time a process has spent on a processor: the first number of each thread's schedstat (sched-stats.txt of the
/// kernel), in ns.
pub(crate) fn cpu(pid: u32) -> Result<Duration> {
    let mut sum = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let text = fs::read_to_string(task?.path().join("schedstat"))?;
        sum += text.split(' ').next().ok_or("schedstat is empty")?.parse::<u64>()?;
    }
    Ok(Duration::from_nanos(sum))
}
