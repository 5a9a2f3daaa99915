//! What every scenario starts with: the fabric with a ToR that wants MD5 and GTSM, machines of the image, and members on a
//! network of their own.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use ipnet::IpNet;
use lab::addresses::{ANYCAST, CONTROLLER_HOST, FRONTEND, MANAGEMENT, amphora_host, tor_host};
use lab::error::chain;
use lab::net::{Segment, up};
use lab::vm::drive::{self, Birth};
use lab::vm::{Boot, Machine, Medium, management_mac};
use lab::{Controller, Dual, Fabric, Family, Node, Options, Result, Tor, TorKind, Vm, command, traffic};
use serde_json::{Value, json};

use crate::evidence::COMMAND_TIME;
use crate::report::Report;

/// A ceiling for a machine that boots: emulated, beside another one, on a busy host.
pub(crate) const BOOT_TIME: Duration = Duration::from_mins(10);
/// A ceiling for whatever else is waited for.
pub(crate) const PATIENCE: Duration = Duration::from_mins(5);
/// A ceiling for what the controller is asked at a time: patient, it tries for ten minutes.
const CALLS: Duration = Duration::from_mins(11);
/// How long a word to the ToR may take to be a route or none in its kernel: many times what is seen, and well below what
/// silence takes, the hold time.
pub(crate) const PROMPT: Duration = Duration::from_secs(10);
/// The ToR's secret.
pub(crate) const MD5: &str = "image-test-md5-secret";
pub(crate) const FAMILIES: [Family; 2] = [Family::V4, Family::V6];
/// The AS of the amphorae.
const AS: u32 = 64512;
/// Emulated machines stall now and then; no scenario is about a short hold time.
pub(crate) const HOLD_TIME: u64 = 30;
const MEMBER_NETWORK: &str = "10.9.0.0/24";
pub(crate) const LB: &str = "6f4b2f0e-4a4e-4c1b-9f0a-0d3b7a1c2d3e";

/// The surroundings.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) fabric: Fabric,
    pub(crate) members: Segment,
    /// By HTTP on port 80, and by UDP on 53.
    pub(crate) nodes: Vec<Node>,
}

/// How one machine of the image differs from the next.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kind<'a> {
    pub(crate) machine: Machine,
    /// `[distributor]`, without what all have.
    pub(crate) distributor: &'a str,
    /// The rest; its `sections` are made of the above.
    pub(crate) birth: Birth<'a>,
}

/// The first machine of most scenarios: its address written down, on a CD.
pub(crate) const BIRTH: Birth = Birth {
    index: 0,
    topology: "SINGLE",
    sections: "",
    dhcp: false,
    user_data: false,
    debug: false,
    medium: Medium::Iso9660,
};

impl Site {
    /// With that many amphorae that are namespaces, and two members.
    pub(crate) fn new(name: &str, amphorae: usize) -> Result<Self> {
        let mut options = Options::new(TorKind::Frr);
        options.amphorae = amphorae;
        options.tors[0].password = Some(MD5.into());
        options.tors[0].ttl_hops = Some(1);
        let fabric = Fabric::new(name, &options)?;
        let members = Segment::new(&fabric.workdir, "net-members")?;
        let mut site = Self { fabric, members, nodes: Vec::new() };
        for number in 0..2 {
            let node = member(&site, number)?;
            site.nodes.push(node);
        }
        Ok(site)
    }

    pub(crate) fn tor(&self) -> &Tor {
        &self.fabric.tors[0]
    }

    /// Powers a machine on.
    pub(crate) fn boot(&self, image: &Path, kind: &Kind) -> Result<Vm> {
        let sections = format!(
            "[distributor]\n{}allowed_prefixes = {}, {}\nallowed_nexthops = {}, {}\n[bgp]\nlocal_as = {AS}\n{}hold_time = \
             {HOLD_TIME}\n",
            kind.distributor,
            ANYCAST.v4,
            ANYCAST.v6,
            FRONTEND.v4,
            FRONTEND.v6,
            self.tor().peer_section(Family::V4),
        );
        let birth = Birth { sections: &sections, ..kind.birth };
        let drive = drive::make(&self.fabric, &birth)?;
        if birth.dhcp {
            self.offer(birth.index)?;
        }
        let boot = Boot { image, machine: kind.machine, medium: birth.medium, drive: &drive, index: birth.index };
        Vm::boot(&self.fabric, &boot)
    }

    /// Powers machines on, and shows the others' consoles when one of them does not come on.
    pub(crate) fn boot_all<const N: usize>(&self, image: &Path, kinds: &[Kind; N]) -> Result<[Vm; N]> {
        let mut vms = Vec::with_capacity(N);
        for kind in kinds {
            match self.boot(image, kind) {
                Ok(vm) => vms.push(vm),
                Err(error) => return self.explain(&mut vms, Err(error)),
            }
        }
        Ok(vms.try_into().expect("one for each kind"))
    }

    /// The controller, as patient as it is by default.
    pub(crate) fn controller(&self) -> Result<Controller> {
        let start = || {
            let mut controller = Controller::start(&self.fabric)?;
            controller.does("be_patient", json!({}))?;
            Ok(controller)
        };
        self.explain(&mut [], start())
    }

    /// A DHCP server that knows this machine, as Neutron's would.
    fn offer(&self, index: usize) -> Result<()> {
        let ip = MANAGEMENT.host(amphora_host(index)).v4;
        let host = format!("--dhcp-host={},{ip}", management_mac(index));
        let range = format!("--dhcp-range={},static,{},1h", MANAGEMENT.v4.network(), MANAGEMENT.v4.netmask());
        let words =
            ["dnsmasq", "--keep-in-foreground", "--port=0", "--interface=eth0", "--log-dhcp", "--conf-file=/dev/null"];
        self.fabric.controller.run(["mkdir", "-p", "/var/lib/misc"])?;
        let server = [host.as_str(), &range, "--dhcp-option=3", "--user=root", "--log-facility=-"];
        self.fabric.controller.spawn("dhcp", command(words).args(server)).map(drop)
    }

    /// Waits until a machine's agent answers.
    pub(crate) fn wait_api(&self, report: &Report, vm: &Vm) -> Result<()> {
        let mut api = vm.api(&self.fabric)?;
        report.wait(&format!("{}'s agent", vm.name()), BOOT_TIME, || {
            if !vm.is_on() {
                return Err("the machine is off".to_owned());
            }
            match api.get("/") {
                Ok(reply) if reply.status == 200 => Ok(()),
                Ok(reply) => Err(format!("{} {}", reply.status, reply.text())),
                Err(error) => Err(chain(&error)),
            }
        })
    }

    /// Waits for the BGP session of a machine, which its ToR has with nobody without the right password and TTL.
    pub(crate) fn wait_session(&self, report: &Report, vm: &Vm) -> Result<()> {
        let peer = vm.management(Family::V4);
        report.wait(&format!("{}'s BGP session", vm.name()), PATIENCE, || match self.tor().established() {
            Ok(peers) if peers.contains(&peer) => Ok(()),
            Ok(peers) => Err(format!("sessions with {peers:?}")),
            Err(error) => Err(chain(&error)),
        })
    }

    /// Waits until the ToR's kernel has exactly these next hops for a VIP.
    pub(crate) fn wait_routes(&self, report: &Report, vip: IpAddr, hops: &[IpAddr], within: Duration) -> Result<()> {
        let mut hops = hops.to_vec();
        hops.sort();
        report.wait(&format!("the ToR's route to {vip} by {hops:?}"), within, || {
            match self.tor().kernel_routes(IpNet::from(vip)) {
                Ok(have) if have == hops => Ok(()),
                Ok(have) => Err(format!("{have:?}")),
                Err(error) => Err(chain(&error)),
            }
        })
    }

    /// Waits until `count` clients in a row are answered, by at least `servers` different members or amphorae.
    pub(crate) fn wait_served(
        &self,
        report: &Report,
        to: SocketAddr,
        count: usize,
        servers: usize,
    ) -> Result<traffic::Split> {
        report.wait(&format!("clients of {to}"), PATIENCE, || match traffic::connect(&self.fabric.client, to, count) {
            Ok(split) if split.failed() == 0 && split.answers.len() >= servers => Ok(split),
            Ok(split) => Err(split.to_string()),
            Err(error) => Err(chain(&error)),
        })
    }

    /// Plugs a machine's members' and front-end NICs in, as Octavia has Nova do it before it makes its calls. In the other
    /// order than the agent is told of them: after a reboot the kernel calls each what the other is called in the
    /// load balancer's namespace.
    pub(crate) fn attach(&self, vm: &mut Vm, index: usize) -> Result<()> {
        vm.plug(&self.members, &member_mac(index))?;
        let mac = vm.frontend_mac();
        vm.plug(&self.fabric.frontend, &mac)
    }

    /// An amphora as `tests/octavia/models.py` takes it.
    pub(crate) fn asked(vm: &Vm, index: usize, priority: u8) -> Value {
        json!({
            "id": vm.id(), "lb_network_ip": vm.management(Family::V4), "vrrp_ip": vm.frontend(Family::V4),
            "mac_address": vm.frontend_mac(), "priority": priority,
            "member_port": {
                "mac_address": member_mac(index),
                "fixed_ips": [{ "ip_address": member_side(index), "cidr": MEMBER_NETWORK, "gateway_ip": null }],
            },
        })
    }

    /// A load balancer of these amphorae, its VIP of both families.
    pub(crate) fn load_balancer(vip: Dual, topology: &str, amphorae: &[Value]) -> Value {
        let of = |family| {
            json!({
                "ip_address": vip.of(family), "cidr": FRONTEND.of(family),
                "gateway_ip": FRONTEND.host(tor_host(0)).of(family),
            })
        };
        json!({
            "id": LB, "topology": topology, "vnic_type": "normal", "vip": of(Family::V4),
            "additional_vips": [of(Family::V6)], "amphorae": amphorae,
            "members": [member_address(0), member_address(1)],
        })
    }

    /// Has the ToR advertise itself on the front-end network, so that NICs there give themselves an IPv6 address: the stock
    /// controller gives an amphora one of the first VIP's family only.
    pub(crate) fn advertise(&self) -> Result<()> {
        let config = format!(
            "router id 192.0.2.1;\nprotocol device {{}}\nprotocol radv {{\n  interface \"{}\" {{\n    min ra interval 3; \
             max ra interval 4; prefix {} {{}};\n  }};\n}}\n",
            lab::fabric::TOR_FRONTEND_NIC,
            FRONTEND.v6
        );
        self.tor().node().write_file("/etc/bird/radv.conf", config, 0o600)?;
        let bird = ["bird", "-f", "-c", "/etc/bird/radv.conf", "-s", "/run/radv.ctl", "-P", "/run/radv.pid"];
        self.tor().node().spawn("radv", &mut command(bird)).map(drop)
    }

    /// Shows what a failure needs, and keeps the lab's files.
    pub(crate) fn explain<T>(&self, vms: &mut [Vm], outcome: Result<T>) -> Result<T> {
        if outcome.is_err() {
            for vm in vms {
                let journal = "journalctl -b --no-pager -o short-monotonic -n 60 -u 'amphora*' -u gobgpd -u 'haproxy*'";
                if let Ok(journal) = vm.shell().run(journal, COMMAND_TIME) {
                    eprintln!("--- the end of {}'s journal, as far as it is about us\n{journal}", vm.name());
                }
                let text = std::fs::read(vm.serial()).unwrap_or_default();
                let text = String::from_utf8_lossy(&text).into_owned();
                // Without systemd's moving "Job X running", which is a line every half second.
                let lines: Vec<&str> = text.lines().filter(|line| !line.contains(" running (")).collect();
                eprintln!("--- the end of {}'s serial console, {}", vm.name(), vm.serial().display());
                for line in &lines[lines.len().saturating_sub(60)..] {
                    eprintln!("{line}");
                }
            }
            eprintln!("the logs are kept in {}", self.fabric.workdir.path().display());
            self.fabric.workdir.keep()?;
        }
        outcome
    }
}

/// The address the front-end NIC gives itself (EUI-64, RFC 4291 appendix A).
pub(crate) fn slaac(mac: &str) -> IpAddr {
    let mac: Vec<u8> = mac.split(':').map_while(|byte| u8::from_str_radix(byte, 16).ok()).collect();
    let mut octets = FRONTEND.v6.addr().octets();
    octets[8..].copy_from_slice(&[mac[0] ^ 2, mac[1], mac[2], 0xff, 0xfe, mac[3], mac[4], mac[5]]);
    octets.into()
}

pub(crate) fn member_mac(index: usize) -> String {
    format!("fa:16:3e:00:09:{index:02x}")
}

/// A machine's own address on the members' network.
pub(crate) fn member_side(index: usize) -> String {
    format!("10.9.0.{}", 11 + index)
}

pub(crate) fn member_address(number: usize) -> String {
    format!("10.9.0.{}", 101 + number)
}

/// A machine that says its name to whoever asks, by HTTP with the address the request came from.
fn member(site: &Site, number: usize) -> Result<Node> {
    let name = format!("member-{number}");
    let node = Node::new(&site.fabric.workdir, &name)?;
    site.members.plug(&node, "eth0", None)?;
    up(&node, "eth0", &[format!("{}/24", member_address(number)).parse().expect("an address")])?;
    let text = format!(
        "defaults\n  mode http\n  timeout connect 5s\n  timeout client 10s\n  timeout server 10s\nfrontend one\n  bind :80\n  \
         http-request return status 200 content-type text/plain lf-string \"{name} for %[src]\"\n"
    );
    node.write_file("/etc/haproxy/member.cfg", text, 0o644)?;
    node.spawn("haproxy", &mut command(["haproxy", "-db", "-f", "/etc/haproxy/member.cfg"]))?;
    let script = "import os, socket\ns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\ns.bind(('', 53))\nwhile True:\n    \
                  asked, who = s.recvfrom(100)\n    s.sendto(os.uname().nodename.encode(), who)\n";
    node.spawn("udp", &mut command(["/usr/bin/python3", "-c", script]))?;
    Ok(node)
}

/// The controller's address, which health managers listen on.
pub(crate) fn controller_address() -> IpAddr {
    MANAGEMENT.host(CONTROLLER_HOST).v4.into()
}

/// Has the controller do something, in the time that it and the whole test have.
pub(crate) fn does(report: &Report, controller: &mut Controller, what: &str, arguments: Value) -> Result<Value> {
    controller.set_patience(report.left(CALLS)?)?;
    controller.does(what, arguments)
}
