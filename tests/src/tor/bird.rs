//! BIRD 2 as a ToR, asked with birdc.

use std::net::IpAddr;
use std::time::Duration;

use super::Config;
use crate::addresses::{ANYCAST, Family, MANAGEMENT};
use crate::error::Result;
use crate::node::Node;
use crate::place::command;
use crate::process::Proc;
use crate::wait::wait_for;

pub(super) fn start(node: &Node, config: &Config) -> Result<Vec<Proc>> {
    node.write_file("/etc/bird/bird.conf", bird_conf(config), 0o640)?;
    node.run(["mkdir", "-p", "/run/bird"])?;
    node.run(["bird", "-p"])?;
    let bird = node.spawn("bird", &mut command(["bird", "-f"]))?;
    wait_for("bird is up", Duration::from_secs(10), || {
        if !bird.is_running() {
            return Err("it ended".to_owned());
        }
        node.run(["birdc", "show status"]).map_err(|error| error.to_string())
    })?;
    Ok(vec![bird])
}

fn bird_conf(config: &Config) -> String {
    let mut text = format!(
        "log stderr all;
router id {};
protocol device {{ }}
protocol direct {{ ipv4; ipv6; }}
protocol kernel kernel4 {{ merge paths yes; ipv4 {{ import none; export where source = RTS_BGP; }}; }}
protocol kernel kernel6 {{ merge paths yes; ipv6 {{ import none; export where source = RTS_BGP; }}; }}
",
        config.router_id
    );
    if config.options.bfd {
        text += "protocol bfd { interface \"*\" { interval 300 ms; multiplier 3; }; }\n";
    }
    if config.neighbours.is_empty() {
        for family in [Family::V4, Family::V6] {
            text += &protocol(config, &format!("amphorae_{family:?}"), &format!("range {}", MANAGEMENT.of(family)));
        }
    }
    for (i, neighbour) in config.neighbours.iter().enumerate() {
        text += &protocol(config, &format!("amphora_{i}"), &neighbour.to_string());
    }
    text
}

fn protocol(config: &Config, name: &str, neighbour: &str) -> String {
    let options = config.options;
    let mut text = format!(
        "protocol bgp {name} {{
  local as {};
  neighbor {neighbour} as {};
  connect delay time 1; connect retry time 1; error wait time 1, 2;
",
        options.asn, config.amphora_as
    );
    text += &match (config.multihop, options.ttl_hops) {
        (false, None | Some(1)) => "  direct;\n".to_owned(),
        (_, hops) => format!("  multihop {};\n", hops.unwrap_or(4)),
    };
    if options.bfd {
        text += "  bfd on;\n";
    }
    if options.ttl_hops.is_some() {
        text += "  ttl security on;\n";
    }
    if let Some(password) = &options.password {
        text += &format!("  password \"{password}\";\n");
    }
    for (family, prefix, length) in [("ipv4", ANYCAST.of(Family::V4), 32), ("ipv6", ANYCAST.of(Family::V6), 128)] {
        let policy = if options.filters {
            format!("import where net ~ [ {prefix}{{{length},{length}}} ]; export none;")
        } else {
            "import all; export where source ~ [ RTS_BGP, RTS_DEVICE ];".to_owned()
        };
        text += &format!("  {family} {{ {policy} }};\n");
    }
    text + "}\n"
}

/// Reads `show protocols all`: in each BGP protocol's block, `BGP state:` comes before `Neighbor address:`.
pub(super) fn established(protocols: &str) -> Vec<IpAddr> {
    let mut peers = Vec::new();
    let mut is_up = false;
    for line in protocols.lines().map(str::trim) {
        if let Some(state) = line.strip_prefix("BGP state:") {
            is_up = state.trim() == "Established";
        } else if let Some(address) = line.strip_prefix("Neighbor address:")
            && is_up
            && let Ok(address) = address.trim().parse()
        {
            peers.push(address);
        }
    }
    peers.sort();
    peers
}
