//! Plugging a VIP, and the kernel's part of it alone.

use std::time::{Duration, Instant};

use lab::{
    Amphora, Family,
    addresses::{FRONTEND, tor_host},
    amphora::{FRONTEND_NIC, HAPROXY_NETNS},
};
use netns::{MAIN_TABLE, Namespace, Network, NewAddress, NewRoute, NewRule};
use serde_json::{Value, json};

use crate::{
    Result,
    client::{Connection, get, post},
    http::own_vip,
    report::{Report, Target},
    site::Site,
    stats::Samples,
};

const ROUNDS: usize = 20;
/// The table replies from a VIP are routed by.
const VIP_TABLE: u32 = 1;

/// A plug call as the stock controller sends it for an IPv4 VIP.
pub(crate) fn body(amphora: &Amphora) -> Value {
    json!({
        "subnet_cidr": FRONTEND.v4,
        "gateway": FRONTEND.host(tor_host(0)).v4,
        "mac_address": amphora.frontend_mac(),
        "vrrp_ip": amphora.frontend(Family::V4),
        "mtu": 1500,
        "host_routes": [],
    })
}

/// Plugs as Nova left the NIC, unplugs, puts the NIC back; the agent and the bare kernel steps in turn.
pub(crate) fn plug(site: &Site, report: &mut Report) -> Result<()> {
    let (amphora, bare) = (site.amphora(), site.bare());
    let api = site.api(amphora)?;
    let path = format!("/1.0/plug/vip/{}", own_vip());
    let (plug, unplug) = (post(&path, &body(amphora)), get("DELETE", &path));
    bare.node().run(["ip", "netns", "add", HAPROXY_NETNS])?;
    let call = |request: &[u8]| {
        site.as_controller(|| {
            let mut connection = Connection::open(&api)?;
            connection.shake_hands()?;
            let start = Instant::now();
            connection.exchange(request)?;
            Ok(start.elapsed())
        })
    };
    let (mut plugs, mut unplugs, mut floor) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        let (plugged, unplugged, by_hand) = (call(&plug)?, call(&unplug)?, by_hand(bare)?);
        for amphora in [amphora, bare] {
            put_back(amphora)?;
        }
        if round > 0 {
            plugs.push(plugged);
            unplugs.push(unplugged);
            floor.push(by_hand);
        }
    }
    let (plugs, unplugs, floor) = (Samples::from(plugs), Samples::from(unplugs), Samples::from(floor));
    let how = "the NIC is outside the namespace and down; the call on an open connection, state on disk. \
               Floor: the same ten changes of the kernel by the `netns` crate alone, no look, no disk";
    let target = Target::Time(Duration::from_millis(30));
    report.times("plug VIP v4, p50", target, Samples::p50, (&plugs, &floor), how);
    report.times("plug VIP v4, max", target, Samples::max, (&plugs, &floor), "of the same");
    let how = "nothing registered; the NIC stays. Floor: the plug's";
    report.times("unplug VIP v4, p50", Target::None, Samples::p50, (&unplugs, &floor), how);
    Ok(())
}

/// What the agent's plan comes to for this call, in its order.
fn by_hand(amphora: &Amphora) -> Result<Duration> {
    let vip = own_vip();
    let own = amphora.frontend(Family::V4);
    let gateway = FRONTEND.host(tor_host(0)).v4.into();
    let steps = async |outside: &Network, inside: &Network| -> netns::Result<()> {
        let mac = amphora.frontend_mac().parse().expect("the lab's own MAC");
        let name = "eth1".parse().expect("a name");
        let link = outside.link_by_mac(&mac).await?.expect("put back by the last round");
        let lo = inside.loopback().await?.expect("every namespace has one");
        inside.set_up(lo.index).await?;
        netns::silence(inside.namespace())?;
        outside.move_link(&link, inside.namespace(), Some(&name)).await?;
        let index = inside.link_by_mac(&mac).await?.expect("just moved").index;
        inside.set_up(index).await?;
        let address =
            |index, ip, prefix_len, deprecated| NewAddress { index, ip, prefix_len, nodad: false, deprecated };
        inside.add_address(&address(lo.index, vip, 32, true)).await?;
        inside.add_address(&address(index, own, FRONTEND.v4.prefix_len(), false)).await?;
        let route = |table, destination, gateway: Option<_>| NewRoute {
            table,
            destination,
            metric: 0,
            gateway,
            device: Some(index),
            source: None,
            onlink: gateway.is_some(),
        };
        let default = "0.0.0.0/0".parse().expect("a prefix");
        inside.add_route(&route(VIP_TABLE, FRONTEND.v4.into(), None)).await?;
        inside.add_route(&route(VIP_TABLE, default, Some(gateway))).await?;
        inside.add_route(&route(MAIN_TABLE, default, Some(gateway))).await?;
        inside.add_rule(&NewRule { from: vip.into(), table: VIP_TABLE, priority: 32_000 }).await?;
        Ok(())
    };
    let took = amphora.node().within(|| -> Result<Duration> {
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
    })??;
    amphora.haproxy_netns()?.ip(&format!("rule del from {vip}\naddr del {vip}/32 dev lo"))?;
    Ok(took)
}

/// Takes the NIC out again, as Nova left it.
fn put_back(amphora: &Amphora) -> Result<()> {
    let outside = amphora.node().pid();
    Ok(amphora.haproxy_netns()?.ip(&format!("link set eth1 netns {outside} name {FRONTEND_NIC}"))?)
}
