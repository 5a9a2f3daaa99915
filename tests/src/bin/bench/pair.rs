//! Two pairs of amphorae, each an `ACTIVE_STANDBY` load balancer: ours, and Octavia's Python agents. How long clients of
//! a VIP are without an answer when the master's haproxy dies for good.

use std::{
    io::{self, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};

use hyper::Method;
use lab::{Amphora, Api, Fabric, Options, Peer, TorKind, addresses::FRONTEND, wait_for};
use serde_json::json;

use crate::{
    Result,
    http::pss,
    report::{Report, Target},
    stats::Samples,
};

const LB: &str = "6f4b2f0e-4a4e-4c1b-9f0a-0d3b7a1c2d3e";
/// A ceiling, for a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);
/// How often keepalived looks at haproxy, by Octavia's default.
const CHECK: Duration = Duration::from_secs(5);
/// How often haproxy is killed. Each time a fifth of [`CHECK`] later in keepalived's turn, for that decides most of the time.
const ROUNDS: u32 = 5;

/// One load balancer's amphorae.
struct Pair<'a> {
    fabric: &'a Fabric,
    amphorae: &'a [Amphora],
    vip: Ipv4Addr,
    /// keepalived's, of each.
    configs: Vec<String>,
}

/// Both pairs at the same time: each spends nearly all of it waiting for keepalived's clock.
pub(crate) fn pair(report: &mut Report) -> Result<()> {
    eprintln!("\ntwo pairs with keepalived:");
    let mut options = Options::new(TorKind::Bird);
    options.amphorae = 4;
    let fabric = Fabric::new("bench-pair", &options)?;
    for amphora in &fabric.amphorae {
        amphora.node().run(["mkdir", "-p", "/etc/octavia/amphora-agent.conf.d"])?;
        lab::peer::write_user_group(amphora)?;
    }
    let (ours, theirs) = fabric.amphorae.split_at(2);
    let _peers = theirs.iter().map(Peer::start).collect::<Result<Vec<_>, _>>()?;
    ours.iter().try_for_each(|amphora| amphora.start_agent(&[]).map(drop))?;
    let pair = |amphorae, vip| -> Result<Pair<'_>> {
        let vip = FRONTEND.host(vip).v4;
        Ok(Pair { fabric: &fabric, amphorae, vip, configs: lab::octavia::vrrp(&fabric, vip, amphorae)? })
    };
    let pairs = [pair(ours, 77)?, pair(theirs, 78)?];
    let [ours, theirs] = thread::scope(|scope| {
        let times = pairs.each_ref().map(|pair| scope.spawn(|| pair.times()));
        times.map(|times| times.join().expect("pairs do not panic"))
    });
    let how = "`ACTIVE_STANDBY`, keepalived with Octavia's configuration (a look every 5 s, two failures); kill -9 of \
               haproxy, whose configuration is then one it does not start with, for with a good one it is back after \
               100 ms, under systemd as well. A client tries every 10 ms; the kills are spread over keepalived's 5 s";
    let failed = |who: &'static str| {
        move |error: Box<dyn std::error::Error + Send + Sync>| format!("{who}: {}", lab::error::chain(&*error))
    };
    let ours = ours.map_err(failed("our pair"))?;
    let both = (&Samples::from(ours), &Samples::from(theirs.map_err(failed("the Python agents"))?));
    let figure = "master's haproxy killed to VIP answered by the other amphora";
    report.times(&format!("{figure}, p50"), Target::None, Samples::p50, both, how);
    report.times(&format!("{figure}, max"), Target::None, Samples::max, both, "of the same");
    let keepalived = [pss(&fabric.amphorae[0], "keepalived")?, pss(&fabric.amphorae[2], "keepalived")?];
    let how = "beside the agent in an `ACTIVE_STANDBY` amphora; both its processes";
    report.amount("PSS of keepalived", ("-", None), (keepalived[0], Some(keepalived[1])), "MiB", how);
    Ok(())
}

impl Pair<'_> {
    fn times(&self) -> Result<Vec<Duration>> {
        self.set_up()?;
        wait_for("the VIP is answered", PATIENCE, || self.answering())?;
        let begin = Instant::now();
        let mut times = Vec::new();
        for round in 0..ROUNDS {
            // Long enough for the other to have been found well, twice.
            let settled = begin.elapsed() + CHECK * 2 + Duration::from_secs(1);
            let turns = settled.as_secs() / CHECK.as_secs() + 1;
            let at = CHECK * u32::try_from(turns)? + CHECK * round / ROUNDS;
            thread::sleep(at.saturating_sub(begin.elapsed()));
            let (old, _) = wait_for("the VIP is answered", PATIENCE, || self.answering())?;
            times.push(self.lose(old, 1 - old)?);
        }
        Ok(times)
    }

    /// What the controller does for a new load balancer.
    fn set_up(&self) -> Result<()> {
        for (amphora, config) in self.amphorae.iter().zip(&self.configs) {
            let (mut api, _) = amphora.wait_api(PATIENCE)?;
            let mut body = amphora.plug_body(lab::Dual { v4: self.vip, v6: FRONTEND.host(77).v6 });
            body["additional_vips"] = json!([]);
            body.as_object_mut().ok_or("an object")?.remove("frontend_ips");
            api.plug_vip(self.vip.into(), &body)?.success()?;
            // The image sets it, for haproxy listens on a VIP that its amphora may not have.
            amphora.haproxy_netns()?.sysctl("net/ipv4/ip_nonlocal_bind", "1")?;
            put(&mut api, "/1.0/vrrp/upload", config.clone())?;
            put(&mut api, "/1.0/vrrp/start", String::new())?;
            put(&mut api, &format!("/1.0/loadbalancer/{}/{LB}/haproxy", amphora.id()), self.haproxy(amphora))?;
            put(&mut api, &format!("/1.0/loadbalancer/{LB}/reload"), String::new())?;
        }
        Ok(())
    }

    /// Kills the haproxy of one; until a client is answered by the other. Both are well again afterwards.
    fn lose(&self, old: usize, new: usize) -> Result<Duration> {
        let amphora = &self.amphorae[old];
        let configuration = format!("/var/lib/octavia/{LB}/haproxy.cfg");
        amphora.node().write_file(&configuration, "gibberish\n", 0o600)?;
        let pid = amphora.node().read_file(&format!("/var/lib/octavia/{LB}/{LB}.pid"))?;
        let begin = Instant::now();
        amphora.node().run(["sh", "-c", &format!("kill -9 {}", pid.trim())])?; // its workers end with it
        wait_for("the other answers", PATIENCE, || match self.answering() {
            Ok(who) if who == new => Ok(()),
            other => Err(format!("{other:?}")),
        })?;
        let took = begin.elapsed();
        amphora.node().write_file(&configuration, self.haproxy(amphora), 0o600)?;
        put(&mut amphora.api()?, &format!("/1.0/loadbalancer/{LB}/start"), String::new())?;
        Ok(took)
    }

    /// Which amphora answers a client.
    fn answering(&self) -> io::Result<usize> {
        // A lost SYN must not cost a second.
        const TRY: Duration = Duration::from_millis(50);
        let ask = || -> io::Result<String> {
            let mut tcp = TcpStream::connect_timeout(&SocketAddr::from((self.vip, 80)), TRY)?;
            tcp.set_read_timeout(Some(TRY * 10))?;
            tcp.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
            let mut answer = String::new();
            tcp.read_to_string(&mut answer)?;
            Ok(answer)
        };
        let answer = self.fabric.client.within(ask).map_err(io::Error::other)??;
        let said = |amphora: &Amphora| answer.ends_with(&format!("\r\n\r\n{}", amphora.name()));
        self.amphorae.iter().position(said).ok_or_else(|| io::Error::other(answer))
    }

    /// A haproxy that answers with its amphora's name, with what of Octavia's configuration the agents look at.
    fn haproxy(&self, amphora: &Amphora) -> String {
        format!(
            "global\n    daemon\n    user nobody\n    log /run/rsyslog/octavia/log local0\n    \
             stats socket /var/lib/octavia/{LB}.sock mode 0666 level user\n    maxconn 2000\n\ndefaults\n    mode http\n    \
             timeout connect 5s\n    timeout client 10s\n    timeout server 10s\n\nfrontend one\n    bind {}:80\n    \
             mode http\n    http-request return status 200 content-type text/plain string {}\n",
            self.vip,
            amphora.name()
        )
    }
}

fn put(api: &mut Api, path: &str, body: String) -> Result<()> {
    Ok(api.send(Method::PUT, path, &[], body.into_bytes())?.success().map(drop)?)
}
