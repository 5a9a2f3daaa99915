//! Plugging a member network with a static address, and the kernel's part of it alone.

use std::time::{Duration, Instant};

use ipnet::Ipv4Net;
use lab::{Amphora, amphora::HAPROXY_NETNS, net::Segment};
use netns::{Namespace, Network, NewAddress};
use serde_json::{Value, json};

use crate::{
    Result,
    client::{Connection, post},
    report::{Report, Target},
    site::Site,
    stats::Samples,
};

const ROUNDS: u8 = 20;

/// A member network's NIC: new, outside and down, as Nova leaves it.
#[derive(Debug)]
pub(crate) struct Member {
    mac: String,
    address: Ipv4Net,
}

impl Member {
    /// Gives the amphora one more. `number` tells it from the others of the lab.
    pub(crate) fn new(members: &Segment, amphora: &Amphora, number: u8) -> Result<Self> {
        let member =
            Self { mac: format!("fa:16:3e:00:03:{number:02x}"), address: Ipv4Net::new([10, 0, number, 5].into(), 24)? };
        members.plug(amphora.node(), &format!("ens{}", 20 + number), Some(&member.mac))?;
        Ok(member)
    }

    /// The call as the stock controller makes it.
    pub(crate) fn request(&self) -> Vec<u8> {
        let body: Value = json!({
            "mac_address": self.mac,
            "fixed_ips": [{
                "ip_address": self.address.addr(),
                "subnet_cidr": self.address.trunc(),
                "gateway": null,
                "host_routes": [],
            }],
            "mtu": 1500,
            "is_sriov": false,
        });
        post("/1.0/plug/network", &body)
    }
}

/// A new NIC each round; the agent and the bare kernel steps in turn.
pub(crate) fn plug(site: &Site, report: &mut Report) -> Result<()> {
    let (amphora, bare) = (site.amphora(), site.bare());
    let api = site.api(amphora)?;
    let members = Segment::new(&site.fabric.workdir, "net-members")?;
    if bare.haproxy_netns().is_err() {
        bare.node().run(["ip", "netns", "add", HAPROXY_NETNS])?;
    }
    let (mut plugs, mut floor) = (Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        let request = Member::new(&members, amphora, round)?.request();
        let plugged = site.as_controller(|| {
            let mut connection = Connection::open(&api)?;
            connection.shake_hands()?;
            let start = Instant::now();
            connection.exchange(&request)?;
            Ok(start.elapsed())
        })?;
        let by_hand = by_hand(bare, &Member::new(&members, bare, 100 + round)?, round)?;
        if round > 0 {
            plugs.push(plugged);
            floor.push(by_hand);
        }
    }
    let how = "one IPv4 address; the NIC is new, outside the namespace and down; the call on an open connection, state on \
               disk. Floor: the same three changes of the kernel by the `netns` crate alone, no look, no disk";
    let target = Target::Time(Duration::from_millis(50));
    let both = (&Samples::from(plugs), &Samples::from(floor));
    report.times("plug network v4, p50", target, Samples::p50, both, how);
    report.times("plug network v4, max", target, Samples::max, both, "of the same");
    Ok(())
}

/// What the agent's plan comes to for this call, in its order.
fn by_hand(amphora: &Amphora, member: &Member, round: u8) -> Result<Duration> {
    let steps = async |outside: &Network, inside: &Network| -> Result<()> {
        let mac = member.mac.parse()?;
        let link = outside.link_by_mac(&mac).await?.ok_or("the NIC is gone")?;
        outside.move_link(&link, inside.namespace(), Some(&format!("eth{}", 2 + round).parse()?)).await?;
        let index = inside.link_by_mac(&mac).await?.ok_or("the NIC was just moved")?.index;
        inside.set_up(index).await?;
        let (ip, prefix_len) = (member.address.addr().into(), member.address.prefix_len());
        inside.add_address(&NewAddress { index, ip, prefix_len, nodad: false, deprecated: false }).await?;
        Ok(())
    };
    amphora.node().within(|| -> Result<Duration> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let outside = Namespace::open("/proc/1/ns/net".as_ref())?.network()?;
            let inside = Namespace::find(HAPROXY_NETNS)?.ok_or("made at the start")?.network()?;
            outside.links().await?;
            inside.links().await?; // both connections are warm
            let start = Instant::now();
            steps(&outside, &inside).await?;
            Ok(start.elapsed())
        })
    })?
}
