//! `[distributor]`.

use ipnet::IpNet;

use super::{Distributor, HaproxyPolicy, Role, Runner, VipMode, announce, reader::Reader};

const SECTION: &str = "distributor";

pub(super) fn distributor(reader: &mut Reader<'_>) -> Option<Distributor> {
    let role = reader.choice(SECTION, "role", &[("amphora", Role::Amphora), ("distributor", Role::Distributor)]);
    let modes = [("interface", VipMode::Interface), ("anycast", VipMode::Anycast), ("noarp", VipMode::Noarp)];
    let vip_mode = reader.choice(SECTION, "vip_mode", &modes);
    let runners = [("auto", Runner::Auto), ("systemd", Runner::Systemd), ("direct", Runner::Direct)];
    let services = reader.choice(SECTION, "services", &runners);
    let policies = [("warn", HaproxyPolicy::Warn), ("enforce", HaproxyPolicy::Enforce)];
    let haproxy_policy = reader.choice(SECTION, "haproxy_policy", &policies);
    let bgp = reader.document.sections.contains_key("bgp");
    let announced = announce::announce(reader);
    let gates = announce::gates(reader, announced);
    if !bgp && vip_mode == Some(VipMode::Anycast) {
        reader.warn(SECTION, "vip_mode", "anycast without [bgp]: nothing will announce the VIPs".to_owned());
    }
    if bgp && (role, vip_mode) == (Some(Role::Amphora), Some(VipMode::Interface)) {
        let text = "interface with [bgp]: a VIP is announced only where its plug says \"vip_mode\": \"anycast\"";
        reader.warn(SECTION, "vip_mode", text.to_owned());
    }
    if bgp {
        reader.require(SECTION, "allowed_prefixes", " with [bgp]; list the prefixes VIPs may come from");
    }
    if role == Some(Role::Distributor) {
        let why = " with role = distributor; list the prefixes of the amphorae's front-end IPs";
        reader.require(SECTION, "allowed_nexthops", why);
    }
    let prefixes = prefixes(reader, "allowed_prefixes");
    let nexthops = self::prefixes(reader, "allowed_nexthops");
    let require_ramfs = reader.boolean(SECTION, "require_ramfs");
    Some(Distributor {
        role: role?,
        vip_mode: vip_mode?,
        announce: announced?,
        gates: gates?,
        haproxy_policy: haproxy_policy?,
        services: services?,
        allowed_prefixes: prefixes?,
        allowed_nexthops: nexthops?,
        require_ramfs: require_ramfs?,
    })
}

fn prefixes(reader: &mut Reader<'_>, key: &str) -> Option<Vec<IpNet>> {
    if !reader.written(SECTION, key) {
        return Some(Vec::new());
    }
    let prefixes = reader.list(SECTION, key, prefix)?;
    if prefixes.is_empty() {
        reader.problem(SECTION, key, "is empty; list at least one prefix, or remove it".to_owned());
    }
    if let Some(all) = prefixes.iter().find(|net| net.prefix_len() == 0) {
        reader.warn(SECTION, key, format!("{all} allows everything of its family"));
    }
    Some(prefixes)
}

/// A prefix as `allowed_prefixes` has them.
pub(super) fn prefix(text: &str) -> Result<IpNet, String> {
    if let Ok(net) = text.parse::<IpNet>() {
        let trunc = net.trunc();
        return if trunc == net { Ok(net) } else { Err(format!("{net} has host bits; write {trunc}")) };
    }
    match text.parse::<std::net::IpAddr>() {
        Ok(ip) => Err(format!("{ip} has no prefix length; write {}", IpNet::from(ip))),
        Err(_) => Err(format!("`{text}` is not a prefix; write one like 203.0.113.0/24 or 2001:db8::/48")),
    }
}

/// Is this section ours, and so strict? Nothing of Octavia's begins with these words.
pub(super) fn ours(section: &str) -> bool {
    section.starts_with("bgp") || section.starts_with(SECTION)
}
