//! An amphora as the image boots it: systemd, the units of `systemd/` as they are shipped, and a ToR that learns its VIP.
#![allow(clippy::unwrap_used, reason = "a test that fails panics")]
#![allow(clippy::doc_markdown, reason = "ToR is a word here, not code")]

use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use hyper::Method;
use ipnet::IpNet;
use lab::addresses::vip;
use lab::balancers::configuration;
use lab::error::chain;
use lab::workdir::built_program;
use lab::{Api, Dual, Fabric, Family, Gobgpd, Machine, Options, TorKind, nspawn, skipped, traffic, wait_for};

/// A ceiling, for a machine that is busy with other tests.
const PATIENCE: Duration = Duration::from_mins(1);
const LB: &str = "11111111-0000-4000-8000-000000000001";
const BOTH: [Family; 2] = [Family::V4, Family::V6];
/// Instead of the shipped 20 s, which nobody wants to wait for here.
const WATCHDOG: u64 = 6;

/// Each unit with the highest exposure that `systemd-analyze security` may find, in tenths: today's, rounded up. The agent
/// enters namespaces and changes networks; amphora-netns mounts for all to see.
const EXPOSURE: [(&str, u32); 7] = [
    ("amphora-agent", 45),
    ("amphora-config-drive", 16),
    ("amphora-deadman", 14),
    ("amphora-netns", 96),
    ("amphora-withdraw", 14),
    ("gobgpd", 16),
    ("prometheus-proxy", 12),
];

struct Amphora {
    machine: Machine,
    fabric: Fabric,
    vip: Dual,
}

/// Boots it for the first time, so that the preset file decides what runs; `more` is put into its configuration.
fn boot(name: &str, more: &str) -> Option<Amphora> {
    let tree = match nspawn::debian12() {
        Ok(tree) => tree,
        Err(error) => {
            skipped(name, &error.to_string());
            return None;
        }
    };
    let options = Options { amphorae: 1, ..Options::new(TorKind::Bird) };
    let fabric = Fabric::new(name, &options).unwrap();
    let amphora = &fabric.amphorae[0];
    let sections = amphora.distributor_sections().replace("[distributor]\n", &format!("[distributor]\n{more}"));
    amphora.write_config(&(sections + &fabric.tors[0].peer_section(Family::V4))).unwrap();
    let node = amphora.node();
    let mut command = nspawn::boot_command(node, &fabric.workdir, &tree).unwrap();
    command.args(["--capability=CAP_NET_ADMIN", "--bind=/etc/octavia"]);
    let agent = built_program("amphora-agent").unwrap();
    command.arg(format!("--bind-ro={}:/usr/local/bin/amphora-agent", agent.display()));
    // The image has a gobgpd 4.x; the tree has Debian's.
    if let Ok(folder) = Gobgpd::V4.directory() {
        command.arg(format!("--bind-ro={}:/usr/bin/gobgpd", folder.canonicalize().unwrap().join("gobgpd").display()));
    }
    let drop_ins = [
        ("amphora-agent", format!("[Service]\nWatchdogSec={WATCHDOG}\n")),
        // There is none here.
        ("amphora-config-drive", "[Unit]\nConditionPathExists=/dev/disk/by-label/config-2\n".to_owned()),
    ];
    for (unit, text) in drop_ins {
        let file = fabric.workdir.path().join(format!("{unit}.conf"));
        std::fs::write(&file, text).unwrap();
        command.arg(format!("--bind-ro={}:/etc/systemd/system/{unit}.service.d/50-test.conf", file.display()));
    }
    for file in shipped() {
        let place = match file.split_once('/') {
            Some((folder, file)) => format!("/usr/lib/{folder}/{file}"),
            None if file.ends_with(".preset") => format!("/usr/lib/systemd/system-preset/{file}"),
            None => format!("/usr/lib/systemd/system/{file}"),
        };
        command.arg(format!("--bind-ro={}:{place}", nspawn::repository().join("systemd").join(&file).display()));
    }
    command.arg("systemd.condition-first-boot=1");
    // Nobody to answer its questions; and the lab has set the network up.
    let masked = ["firstboot.service", "networkd.service", "networkd.socket", "networkd-wait-online.service"];
    command.args(masked.map(|unit| format!("systemd.mask=systemd-{unit}")));
    let machine = Machine::boot(node, &fabric.workdir, command).unwrap();
    Some(Amphora { machine, fabric, vip: vip(7) })
}

/// The files of `systemd/`, by their paths below it.
fn shipped() -> Vec<String> {
    let root = nspawn::repository().join("systemd");
    let mut files = Vec::new();
    for folder in ["", "sysusers.d", "tmpfiles.d"] {
        for entry in std::fs::read_dir(root.join(folder)).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_file() {
                files.push(std::path::Path::new(folder).join(entry.file_name()).display().to_string());
            }
        }
    }
    files
}

impl Amphora {
    fn api(&self) -> Api {
        self.fabric.amphorae[0].wait_api(PATIENCE).unwrap().0
    }

    fn show(&self, property: &str, unit: &str) -> String {
        self.machine.ask(&format!("systemctl show -P {property} {unit}"))
    }

    fn pid(&self, unit: &str) -> u32 {
        self.show("MainPID", unit).parse().unwrap()
    }

    fn wait_running(&self) {
        self.wait("the boot is over", || match self.machine.ask("systemctl is-system-running --wait").as_str() {
            "running" => Ok(()),
            other => {
                Err(format!("{other}\n{}", self.machine.ask("systemctl --failed --no-legend; systemctl list-jobs")))
            }
        });
    }

    fn wait(&self, what: &str, look: impl Fn() -> Result<(), String>) -> Duration {
        match wait_for(what, PATIENCE, look) {
            Ok(((), took)) => took,
            Err(error) => panic!("{}\n{}", chain(&error), self.machine.ask("journalctl -n 80 --no-pager")),
        }
    }

    /// Waits until systemd has heard `READY=1` of another agent than `old`, and the switch is off again.
    fn wait_another(&self, old: u32) -> Duration {
        self.wait("another agent is ready", || {
            let (state, pid) = (self.show("ActiveState", "amphora-agent"), self.pid("amphora-agent"));
            let switch = self.show("ActiveState", "amphora-deadman.timer");
            if state == "active" && pid != old && switch == "inactive" {
                return Ok(());
            }
            Err(format!("{state}, pid {pid} (was {old}), switch {switch}"))
        })
    }

    fn wait_routes(&self, there: bool) -> Duration {
        let start = Instant::now();
        for family in BOTH {
            let hop = [self.fabric.amphorae[0].frontend(family)];
            let hops: &[IpAddr] = if there { &hop } else { &[] };
            let prefix = IpNet::from(self.vip.of(family));
            if let Err(error) = self.fabric.tors[0].wait_next_hops(prefix, hops, PATIENCE) {
                panic!("{}\n{}", chain(&error), self.machine.ask("journalctl -n 80 --no-pager"));
            }
        }
        start.elapsed()
    }

    /// Replaces the configuration by what it is, plugs, uploads and starts by the stock calls, registers, and waits for the routes.
    fn serve(&self) {
        let (amphora, mut api) = (&self.fabric.amphorae[0], self.api());
        let conf = amphora.node().read_file("/etc/octavia/amphora-agent.conf").unwrap().into_bytes();
        api.send(Method::PUT, "/1.0/config", &[], conf).unwrap().success().unwrap();
        api.plug_vip(self.vip.v4.into(), &amphora.plug_body(self.vip)).unwrap().success().unwrap();
        let binds = BOTH.map(|family| SocketAddr::new(self.vip.of(family), 80));
        // A regular expression: its compiler makes memory executable.
        let more = "    acl odd path_reg ^/(a|b)+[0-9]{2,}$\n    http-request deny if odd\n";
        api.upload(amphora, LB, configuration(LB, &binds, amphora.name(), more)).unwrap().success().unwrap();
        api.act(LB, "start").unwrap().success().unwrap();
        for family in BOTH {
            let (vip, hop) = (self.vip.of(family), amphora.frontend(family));
            api.register(amphora.id(), vip, hop, None).unwrap().success().unwrap();
        }
        self.wait_routes(true);
        let to = SocketAddr::new(self.vip.v4.into(), 80);
        self.wait("a client is answered", || match traffic::connect(&self.fabric.client, to, 4) {
            Ok(split) if split.failed() == 0 => Ok(()),
            other => Err(format!("{other:?}")),
        });
    }
}

#[test]
fn the_units_run_the_agent_and_bring_it_back_and_its_end_is_the_speakers() {
    let Some(amphora) = boot("booted", "") else { return };
    let machine = &amphora.machine;
    amphora.wait_running();
    println!("booted: {}; {}", machine.ask("systemd-analyze time | head -1"), machine.ask("gobgpd --version"));
    assert!(amphora.show("StatusText", "amphora-agent").starts_with("serving on "));
    verify(&amphora);
    amphora.serve();

    assert_eq!(machine.ask("ps -o user= -C gobgpd"), "gobgpd");
    assert_eq!(machine.ask("systemctl is-active gobgpd prometheus-proxy"), "active\nactive");
    assert_eq!(machine.ask("pgrep -f '^amphora-agent deadman'"), "", "the timer stands in for the watcher");
    assert_eq!(machine.ask("ss -Hltnp | grep gobgpd | grep -vc ':179 '"), "0", "{}", machine.ask("ss -ltnp"));
    let (speaker, watch) = (amphora.pid("gobgpd"), amphora.fabric.tors[0].watch_routes().unwrap());

    // Killed; hung; told to read its configuration.
    let old = amphora.pid("amphora-agent");
    machine.run("systemctl kill -s KILL amphora-agent").unwrap();
    println!("booted: killed, ready again after {:.1?}", amphora.wait_another(old));
    let old = amphora.pid("amphora-agent");
    machine.run(&format!("kill -STOP {old}")).unwrap();
    let took = amphora.wait_another(old);
    println!("booted: stopped, another ready after {took:.1?}, WatchdogSec={WATCHDOG}");
    assert_eq!(machine.ask("journalctl -u amphora-agent -g 'Watchdog timeout' -o cat | wc -l"), "1");
    let old = amphora.pid("amphora-agent");
    machine.run("systemctl reload amphora-agent").unwrap();
    amphora.wait("the reload is over", || match machine.ask("systemctl is-active amphora-agent").as_str() {
        "active" if machine.ask("journalctl -u amphora-agent -o cat").contains("configuration read again") => Ok(()),
        other => Err(other.to_owned()),
    });
    assert_eq!(amphora.pid("amphora-agent"), old);
    let _ = amphora.api();

    // Away for a while, and for good.
    machine.run("systemctl stop amphora-agent").unwrap();
    assert_eq!(amphora.show("ActiveState", "amphora-deadman.timer"), "active");
    std::thread::sleep(Duration::from_secs(3));
    machine.run("systemctl start amphora-agent").unwrap();
    amphora.wait_another(old);
    assert_eq!(amphora.pid("gobgpd"), speaker, "nobody has touched it");
    let about_vip = |line: &str| BOTH.iter().any(|family| line.contains(&amphora.vip.of(*family).to_string()));
    let events: Vec<_> = watch.so_far().into_iter().filter(|event| about_vip(&event.line)).collect();
    assert!(events.is_empty(), "{events:?}");

    speaker_and_proxy(&amphora);

    // An upgrade that went wrong: its own program cannot be run any more, neither by its unit nor by the switch.
    let watch = amphora.fabric.tors[0].watch_routes().unwrap();
    let start = Instant::now();
    machine.run("mount --bind /etc/hostname /usr/local/bin/amphora-agent").unwrap();
    machine.run("systemctl kill -s KILL amphora-agent").unwrap();
    watch.wait("a route goes", PATIENCE, |line| line.starts_with("Deleted") && about_vip(line)).unwrap();
    let gone = start.elapsed();
    amphora.wait_routes(false);
    println!("booted: the ToR's first route went {gone:.1?} after the agent's end");
    assert!((29..36).contains(&gone.as_secs()), "{gone:.1?}");
    amphora.wait("gobgpd has ended", || match amphora.show("ActiveState", "gobgpd").as_str() {
        "inactive" => Ok(()),
        other => Err(other.to_owned()),
    });
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(amphora.show("ActiveState", "gobgpd"), "inactive", "and systemd leaves it so");

    assert_eq!(amphora.show("ActiveState", "amphora-agent"), "activating", "systemd goes on trying");
    machine.run("umount /usr/local/bin/amphora-agent").unwrap();
    amphora.wait_routes(true);
    assert_eq!(machine.ask("systemctl --failed --no-legend --plain | cut -d' ' -f1"), "amphora-deadman.service");

    // A namespace whose name has gone is made again for all to see.
    let old = amphora.pid("amphora-agent");
    machine.run("ip netns delete amphora-haproxy").unwrap();
    amphora.wait_another(old);
    let seen = machine.ask("stat -L -c %i /run/netns/amphora-haproxy");
    let agents = format!("nsenter -m -t {} stat -L -c %i /run/netns/amphora-haproxy", amphora.pid("amphora-agent"));
    assert_eq!(machine.ask(&agents), seen);
    machine.run("ip netns exec amphora-haproxy true").unwrap();
}

/// A speaker that is told to end is soon back, whatever moment of its end the agent meets; a proxy an operator has masked
/// stays away.
fn speaker_and_proxy(amphora: &Amphora) {
    let machine = &amphora.machine;
    let mut longest = Duration::ZERO;
    for _ in 0..10 {
        let old = amphora.pid("gobgpd");
        machine.run("systemctl kill -s TERM gobgpd").unwrap();
        let took =
            amphora.wait("another gobgpd", || match (amphora.show("ActiveState", "gobgpd"), amphora.pid("gobgpd")) {
                (state, pid) if state == "active" && pid != old && pid != 0 => Ok(()),
                other => Err(format!("{other:?}")),
            });
        longest = longest.max(took);
        amphora.wait_routes(true);
    }
    println!("booted: gobgpd stopped ten times, another after {longest:.1?} at most");
    assert!(longest < Duration::from_secs(4), "{longest:?}: systemd was asked once only");

    machine.run("systemctl mask --now prometheus-proxy").unwrap();
    let old = amphora.pid("amphora-agent");
    machine.run("systemctl restart amphora-agent").unwrap();
    amphora.wait_another(old);
    amphora.wait("the agent says so", || {
        let said = machine.ask("journalctl -u amphora-agent -o cat");
        if said.contains("prometheus-proxy.service is masked") { Ok(()) } else { Err(said) }
    });
    assert_eq!(machine.ask("systemctl is-enabled prometheus-proxy"), "masked");
    assert_eq!(machine.ask("pgrep -f '[a]mphora-agent prometheus-proxy'"), "");
    machine.run("systemctl unmask prometheus-proxy").unwrap();
}

/// What the agent runs itself is in its sandbox, and works.
#[test]
fn haproxy_and_keepalived_as_the_agents_own_processes_run_in_its_sandbox() {
    let Some(amphora) = boot("booted-direct", "services = direct\n") else { return };
    let machine = &amphora.machine;
    amphora.wait_running();
    amphora.serve();
    assert_eq!(machine.ask("systemctl list-units --no-legend 'haproxy-*'"), "");
    let conf = "vrrp_instance x {\n interface eth1\n virtual_router_id 9\n priority 9\n virtual_ipaddress {\n  10.99.0.1/32\n \
                }\n}\n";
    let mut api = amphora.api();
    api.send(Method::PUT, "/1.0/vrrp/upload", &[], conf.into()).unwrap().success().unwrap();
    let all = "cat /sys/fs/cgroup/system.slice/amphora-agent.service/cgroup.procs | xargs -n1 ps -o comm= -p | sort -u";
    for program in ["amphora-agent", "haproxy"] {
        assert!(machine.ask(all).lines().any(|line| line == program), "{}", machine.ask(all));
    }
    let haproxy = machine.ask("pgrep -o -x haproxy");
    machine.run("systemctl kill --kill-who=main -s KILL amphora-agent").unwrap();
    amphora.wait("another agent", || match amphora.api().get("/") {
        Ok(reply) if reply.status == 200 => Ok(()),
        other => Err(format!("{other:?}")),
    });
    assert_eq!(machine.ask("pgrep -o -x haproxy"), haproxy, "it outlives the agent");
    assert_eq!(machine.ask("systemctl --failed --no-legend"), "");
}

/// What systemd says of the files, and of what they confine.
fn verify(amphora: &Amphora) {
    let machine = &amphora.machine;
    let mut faults = String::new();
    for file in shipped().iter().filter(|file| !file.contains('/') && !file.ends_with(".preset")) {
        let said = machine.ask(&format!("systemd-analyze verify --man=no /usr/lib/systemd/system/{file}"));
        if !said.is_empty() {
            let _ = writeln!(faults, "{file}: {said}");
        }
    }
    for unit in shipped().iter().filter_map(|file| file.strip_suffix(".service")) {
        let (_, highest) = EXPOSURE.into_iter().find(|(known, _)| *known == unit).expect("a new unit has a ceiling");
        let ask = format!("systemd-analyze security --no-pager --threshold={highest} {unit}.service");
        let said = machine.ask(&ask);
        let overall = said.lines().find(|line| line.contains("Overall exposure level")).unwrap_or(&said);
        println!("booted: {}", overall.trim_start_matches(|c: char| !c.is_ascii()).trim());
        if machine.run(&ask).is_err() {
            let _ = writeln!(faults, "{unit}: more exposed than {highest}: {overall}");
        }
    }
    // systemd's own at a first boot only enables.
    machine.run("systemctl preset-all").unwrap();
    let enabled = machine.ask("systemctl list-unit-files --state=enabled --no-legend | cut -d' ' -f1");
    for unit in ["amphora-agent.service", "amphora-netns.service", "amphora-withdraw.service"] {
        assert!(enabled.lines().any(|line| line == unit), "{enabled}");
    }
    for unit in ["haproxy.service", "keepalived.service", "gobgpd.service", "apt-daily.timer"] {
        assert!(enabled.lines().all(|line| line != unit), "{enabled}");
    }
    for (what, line) in [
        ("sysusers.d", "systemd-sysusers /usr/lib/sysusers.d/amphora-agent.conf"),
        ("tmpfiles.d", "systemd-tmpfiles --create /usr/lib/tmpfiles.d/amphora-agent.conf"),
    ] {
        if let Err(error) = machine.run(line) {
            let _ = writeln!(faults, "{what}: {}", chain(&error));
        }
    }
    assert_eq!(faults, "");
}
