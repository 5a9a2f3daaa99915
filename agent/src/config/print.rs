//! The configuration in effect as INI text that parses again, secrets as `***`.

use std::fmt;

use ::bgp::{Attributes, Distance, Family};

use super::{
    Announce, Config, Gates, HaproxyPolicy, LastResort, PeerConfig, Role, Runner, TlsVersion, Topology, VipMode, ini,
};

impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = Writer(f);
        out.section("DEFAULT")?;
        out.option("debug", self.logging.debug)?;
        out.option("use_syslog", self.logging.use_syslog)?;
        out.option("syslog_log_facility", &self.logging.syslog_facility)?;
        out.section("haproxy_amphora")?;
        out.option("base_cert_dir", self.paths.certs.display())?;
        out.option("base_path", self.paths.base.display())?;
        out.option("bind_host", self.api.bind.ip())?;
        out.option("bind_port", self.api.bind.port())?;
        out.option("haproxy_cmd", self.paths.haproxy.display())?;
        out.section("health_manager")?;
        out.list("controller_ip_port_list", &self.heartbeat.controllers)?;
        out.option("heartbeat_interval", self.heartbeat.interval.as_secs())?;
        out.optional("heartbeat_key", self.heartbeat.key.as_ref())?;
        out.section("amphora_agent")?;
        out.option("agent_server_ca", self.api.client_ca.display())?;
        out.option("agent_server_cert", self.api.server_cert.display())?;
        out.optional("agent_server_network_dir", self.paths.network.as_ref().map(|path| path.display()))?;
        out.option("agent_request_read_timeout", self.api.request_read_timeout.as_secs())?;
        let tls = match self.api.minimum_tls {
            TlsVersion::Tls12 => "TLSv1.2",
            TlsVersion::Tls13 => "TLSv1.3",
        };
        out.option("agent_tls_protocol", tls)?;
        out.optional("amphora_id", self.amphora_id.as_ref())?;
        out.option("user_log_facility", self.logging.user_facility)?;
        out.option("administrative_log_facility", self.logging.administrative_facility)?;
        out.section("controller_worker")?;
        let topology = match self.topology {
            Topology::Single => "SINGLE",
            Topology::ActiveStandby => "ACTIVE_STANDBY",
        };
        out.option("loadbalancer_topology", topology)?;
        self.extension(&mut out)
    }
}

impl Config {
    fn extension(&self, out: &mut Writer<'_, '_>) -> fmt::Result {
        let role = match self.distributor.role {
            Role::Amphora => "amphora",
            Role::Distributor => "distributor",
        };
        let vip_mode = match self.distributor.vip_mode {
            VipMode::Interface => "interface",
            VipMode::Anycast => "anycast",
            VipMode::Noarp => "noarp",
        };
        out.section("distributor")?;
        out.option("role", role)?;
        out.option("vip_mode", vip_mode)?;
        let announce = match self.distributor.announce {
            Announce::Listener => "listener",
            Announce::Api => "api",
        };
        out.option("announce", announce)?;
        print_gates(out, &self.distributor.gates)?;
        let haproxy_policy = match self.distributor.haproxy_policy {
            HaproxyPolicy::Warn => "warn",
            HaproxyPolicy::Enforce => "enforce",
        };
        out.option("haproxy_policy", haproxy_policy)?;
        let services = match self.distributor.services {
            Runner::Auto => "auto",
            Runner::Systemd => "systemd",
            Runner::Direct => "direct",
        };
        out.option("services", services)?;
        for (key, prefixes) in [
            ("allowed_prefixes", &self.distributor.allowed_prefixes),
            ("allowed_nexthops", &self.distributor.allowed_nexthops),
        ] {
            if !prefixes.is_empty() {
                out.list(key, prefixes)?;
            }
        }
        out.option("require_ramfs", self.distributor.require_ramfs)?;
        let Some(bgp) = &self.bgp else { return Ok(()) };
        out.section("bgp")?;
        out.option("local_as", bgp.local_as)?;
        out.optional("router_id", bgp.router_id)?;
        out.option("speaker", format_args!("unix://{}", bgp.speaker.display()))?;
        out.option("graceful_restart_time", bgp.graceful_restart.as_secs())?;
        bgp.peers.iter().try_for_each(|peer| print_peer(out, peer))?;
        bgp.vips.iter().try_for_each(|vip| {
            out.section(format_args!("bgp_vip:{}", vip.prefix))?;
            print_attributes(out, &vip.attributes)
        })
    }
}

fn print_gates(out: &mut Writer<'_, '_>, gates: &Gates) -> fmt::Result {
    out.option("rise", gates.rise)?;
    out.option("fall", gates.fall)?;
    out.option("check_interval", gates.interval.as_millis())?;
    out.option("hold_down", gates.hold_down.as_secs())?;
    if let Some(members) = gates.members {
        out.option("members_low", members.low)?;
        out.option("members_high", members.high)?;
    }
    let last_resort = match gates.last_resort {
        LastResort::Withdraw => "withdraw",
        LastResort::Worse => "worse",
    };
    out.option("last_resort", last_resort)
}

fn print_peer(out: &mut Writer<'_, '_>, config: &PeerConfig) -> fmt::Result {
    let peer = &config.peer;
    out.section(format_args!("bgp_peer:{}", peer.id))?;
    out.option("peer_ip", peer.address)?;
    out.option("remote_as", peer.remote_as)?;
    if peer.password.is_some() {
        out.option("auth_type", "md5")?;
        match &config.password_file {
            Some(path) => out.option("auth_password_file", path.display())?,
            None => out.option("auth_password", "***")?,
        }
    }
    match peer.distance {
        Distance::Default => {}
        Distance::TtlSecurity(hops) => out.option("ttl_hops", hops)?,
        Distance::Multihop(hops) => out.option("ebgp_multihop", hops)?,
    }
    out.option("hold_time", peer.hold_time.seconds())?;
    out.option("keepalive_interval", peer.keepalive)?;
    out.option("passive", peer.passive)?;
    out.optional("local_ip", peer.local_address)?;
    let family = |family: &Family| match family {
        Family::Ipv4 => "ipv4",
        Family::Ipv6 => "ipv6",
    };
    out.list("families", peer.families.iter().map(family))?;
    out.option("connect_retry", peer.connect_retry.as_secs())?;
    out.option("bfd", peer.bfd.is_some())?;
    if let Some(bfd) = peer.bfd {
        out.option("bfd_interval", bfd.interval.as_millis())?;
        out.option("bfd_multiplier", bfd.multiplier)?;
    }
    print_attributes(out, &peer.attributes)
}

fn print_attributes(out: &mut Writer<'_, '_>, attributes: &Attributes) -> fmt::Result {
    out.list("communities", &attributes.communities)?;
    out.optional("med", attributes.med)?;
    out.optional("local_pref", attributes.local_pref)?;
    out.option("prepend", attributes.prepend)
}

struct Writer<'w, 'f>(&'w mut fmt::Formatter<'f>);

impl Writer<'_, '_> {
    fn section(&mut self, name: impl fmt::Display) -> fmt::Result {
        writeln!(self.0, "[{name}]")
    }

    fn option(&mut self, key: &str, value: impl fmt::Display) -> fmt::Result {
        // Of the two escapes of `$` only this one also holds after a backslash.
        let value = value.to_string().replace('$', "\\$");
        let value = ini::quote(&value);
        if value.is_empty() { writeln!(self.0, "{key} =") } else { writeln!(self.0, "{key} = {value}") }
    }

    fn optional(&mut self, key: &str, value: Option<impl fmt::Display>) -> fmt::Result {
        value.map_or(Ok(()), |value| self.option(key, value))
    }

    fn list<T: fmt::Display>(&mut self, key: &str, values: impl IntoIterator<Item = T>) -> fmt::Result {
        let values: Vec<_> = values.into_iter().map(|value| value.to_string()).collect();
        self.option(key, values.join(", "))
    }
}
