//! What the tests of networks have in common: a stock amphora, and a segment where members are.

use std::time::Duration;

use lab::net::Segment;
use lab::picture::{self, Picture, difference};
use lab::{Amphora, Api, Fabric, Options, Place, Reply, TorKind, addresses};
use serde_json::{Value, json};

/// A ceiling, for a machine that is busy with other tests.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);
/// The member NIC's MAC.
pub(crate) const MEMBER: &str = "fa:16:3e:00:02:02";

/// A stock amphora of topology `SINGLE` beside a segment with its member NIC, which is still outside and down.
pub(crate) struct Site {
    pub(crate) fabric: Fabric,
    pub(crate) members: Segment,
    /// The switch's port of the member NIC.
    pub(crate) port: String,
}

impl Site {
    pub(crate) fn new(test: &str) -> Self {
        let mut options = Options::new(TorKind::Bird);
        options.amphorae = 1;
        let fabric = Fabric::new(test, &options).unwrap();
        let members = Segment::new(&fabric.workdir, "net-members").unwrap();
        let node = fabric.amphorae[0].node();
        let port = members.plug(node, "ens8", Some(MEMBER)).unwrap();
        node.run(["mkdir", "-p", "/etc/octavia/amphora-agent.conf.d"]).unwrap();
        let path = "/etc/octavia/amphora-agent.conf";
        let text = node.read_file(path).unwrap();
        node.write_file(path, text.replace("ACTIVE_STANDBY", "SINGLE"), 0o600).unwrap();
        Self { fabric, members, port }
    }

    pub(crate) fn amphora(&self) -> &Amphora {
        &self.fabric.amphorae[0]
    }

    pub(crate) fn start(&self) -> Api {
        self.amphora().start_agent(&[]).unwrap();
        self.amphora().wait_api(PATIENCE).unwrap().0
    }

    pub(crate) fn inside(&self) -> Place {
        self.amphora().haproxy_netns().unwrap()
    }

    /// What is inside, but for `lo`.
    #[track_caller]
    pub(crate) fn assert_inside(&self, want: &[&str]) {
        let mut want: Picture = want.iter().map(ToString::to_string).collect();
        want.insert("link lo mtu 65536 up".to_owned());
        let found = picture::look(&self.inside()).unwrap();
        assert!(found == want, "{:#?}", difference(&want, &found));
    }
}

/// A member network's port with its fixed IPs.
pub(crate) fn port(fixed_ips: &Value) -> Value {
    json!({"mac_address": MEMBER, "fixed_ips": fixed_ips, "mtu": 1500, "is_sriov": false})
}

/// A fixed IP as the controller sends it.
pub(crate) fn fixed(ip: &str, cidr: &str) -> Value {
    json!({"ip_address": ip, "subnet_cidr": cidr, "gateway": null, "host_routes": []})
}

pub(crate) fn plug(api: &mut Api, body: &Value) -> Reply {
    api.post("/1.0/plug/network", body).unwrap()
}

/// The answer to a plug or an update that worked.
#[track_caller]
pub(crate) fn plugged(reply: &Reply, details: &str) {
    assert_eq!((reply.status, reply.json()), (202, json!({"message": "OK", "details": details})));
}

/// A VIP on the front-end network, plugged the stock way.
pub(crate) fn plug_vip(site: &Site, api: &mut Api) -> String {
    let vip = addresses::FRONTEND.host(77).v4;
    let mut body = site.amphora().plug_body(addresses::vip(7));
    body.as_object_mut().unwrap().remove("frontend_ips");
    body["additional_vips"] = json!([]);
    api.plug_vip(vip.into(), &body).unwrap().success().unwrap();
    vip.to_string()
}

/// What a VIP plugged by [`plug_vip`] puts inside.
pub(crate) const VIP_INSIDE: [&str; 6] = [
    "link eth1 mtu 1500 up",
    "address eth1 192.0.2.11/25",
    "address eth1 192.0.2.77/32",
    "route table 1 192.0.2.0/25 dev eth1 src 192.0.2.77 proto 79",
    "route table 1 default via 192.0.2.1 dev eth1 proto 79",
    "rule -4 32000 from 192.0.2.77 table 1 proto 79",
];
/// And in the main table.
pub(crate) const VIP_DEFAULT: &str = "route table 254 default via 192.0.2.1 dev eth1 proto 79";
