//! The configuration in effect. Every value has been checked; every default is filled in.

use std::{
    fmt,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use ipnet::IpNet;

use super::Problem;
pub use crate::state::VipMode;

/// Everything the agent is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// What is logged, and as what.
    pub logging: Logging,
    /// The API's socket and its TLS.
    pub api: Api,
    /// Where things are.
    pub paths: Paths,
    /// Heartbeats to the health managers.
    pub heartbeat: Heartbeat,
    /// `loadbalancer_topology`
    pub topology: Topology,
    /// `amphora_id`; absent outside a cloud.
    pub amphora_id: Option<String>,
    /// `[distributor]`
    pub distributor: Distributor,
    /// `[bgp]` and its peers; `None` when nothing is to be announced.
    pub bgp: Option<Bgp>,
    /// What works and is still worth a word.
    pub warnings: Vec<Problem>,
    /// Options of Octavia's that nothing here reads; for the debug log.
    pub ignored: Vec<Problem>,
}

/// Log settings of Octavia's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logging {
    /// `debug`
    pub debug: bool,
    /// `use_syslog`
    pub use_syslog: bool,
    /// `syslog_log_facility`, as in `LOG_LOCAL1`.
    pub syslog_facility: String,
    /// `user_log_facility`: the number of `LOG_LOCAL` for tenant traffic, 0-7.
    pub user_facility: u8,
    /// `administrative_log_facility`: the number of `LOG_LOCAL` for the amphora's own logs, 0-7.
    pub administrative_facility: u8,
}

/// The front door.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Api {
    /// `bind_host` and `bind_port`. `::` is dual-stack.
    pub bind: SocketAddr,
    /// `agent_server_cert`: certificate chain and key in one PEM file.
    pub server_cert: PathBuf,
    /// `agent_server_ca`: the CAs client certificates may come from.
    pub client_ca: PathBuf,
    /// `agent_tls_protocol`, as a minimum.
    pub minimum_tls: TlsVersion,
    /// `agent_request_read_timeout`: bounds reading one whole request.
    pub request_read_timeout: Duration,
}

/// The oldest TLS a client may speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// 1.2 and 1.3.
    Tls12,
    /// 1.3 only.
    Tls13,
}

/// Paths of Octavia's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    /// `base_path`
    pub base: PathBuf,
    /// `base_cert_dir`
    pub certs: PathBuf,
    /// `haproxy_cmd`
    pub haproxy: PathBuf,
    /// `agent_server_network_dir`
    pub network: Option<PathBuf>,
}

/// Heartbeats.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// `controller_ip_port_list`
    pub controllers: Vec<Controller>,
    /// `heartbeat_interval`
    pub interval: Duration,
    /// `heartbeat_key`
    pub key: Option<Secret>,
}

/// A health manager.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Controller {
    /// An IP address without brackets, or a name to resolve.
    pub host: String,
    /// UDP port, not 0.
    pub port: u16,
}

impl fmt::Display for Controller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// `loadbalancer_topology`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topology {
    /// One amphora.
    Single,
    /// Two, one of them idle, unless the VIP is anycast.
    ActiveStandby,
}

/// `[distributor]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Distributor {
    /// What this machine is.
    pub role: Role,
    /// Where a VIP goes when the plug call does not say.
    pub vip_mode: VipMode,
    /// What makes a VIP of this amphora's announced.
    pub announce: Announce,
    /// How the gates of such a VIP are judged.
    pub gates: Gates,
    /// What becomes of a haproxy.cfg that Octavia's templates cannot have produced.
    pub haproxy_policy: HaproxyPolicy,
    /// Who runs haproxy and keepalived.
    pub services: Runner,
    /// What may be announced; not empty with BGP.
    pub allowed_prefixes: Vec<IpNet>,
    /// What may be a next hop; empty stands for the front-end subnets. Not empty for role distributor.
    pub allowed_nexthops: Vec<IpNet>,
    /// Keys of load balancers are stored only where no disk is behind.
    pub require_ramfs: bool,
}

/// `announce`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Announce {
    /// A listener on it, while it is well.
    Listener,
    /// A registration.
    Api,
}

/// How gates are judged (`announce = listener`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gates {
    /// `rise`: good answers in a row that open a polled gate again.
    pub rise: u32,
    /// `fall`: bad answers in a row that close it.
    pub fall: u32,
    /// `check_interval`: from one question to the next.
    pub interval: Duration,
    /// `hold_down`: after the agent's start, nothing is announced for so long that is not announced already.
    pub hold_down: Duration,
    /// `members_low` and `members_high`, in percent of the members; absent: members are no gate.
    pub members: Option<Watermarks>,
    /// `last_resort`
    pub last_resort: LastResort,
}

/// `last_resort`: what becomes of a VIP when nothing but its members fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LastResort {
    /// It is withdrawn.
    Withdraw,
    /// It stays announced, as the last choice of every router.
    Worse,
}

/// Shares of members, in percent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watermarks {
    /// With fewer up the VIP is withdrawn.
    pub low: u8,
    /// With so many up it is announced again.
    pub high: u8,
}

/// `haproxy_policy`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HaproxyPolicy {
    /// Taken, and each of its lines that is none of Octavia's logged.
    #[default]
    Warn,
    /// Refused.
    Enforce,
}

/// `services`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Runner {
    /// systemd where it runs this machine, else the agent.
    Auto,
    /// systemd.
    Systemd,
    /// The agent, as processes of its own.
    Direct,
}

/// `role`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Serves VIPs itself.
    Amphora,
    /// Announces for registered amphorae only.
    Distributor,
}

/// `[bgp]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bgp {
    /// Our AS.
    pub local_as: ::bgp::Asn,
    /// `None`: the management IPv4, found at run time.
    pub router_id: Option<Ipv4Addr>,
    /// The path of the speaker's UNIX socket.
    pub speaker: PathBuf,
    /// Graceful restart time in whole seconds, at most 4095; zero is off.
    pub graceful_restart: Duration,
    /// The peers, by name.
    pub peers: Vec<PeerConfig>,
    /// What some VIPs are announced with.
    pub vips: Vec<VipConfig>,
}

/// `[bgp_vip:PREFIX]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VipConfig {
    /// The VIPs it is for, unless a longer one contains them too.
    pub prefix: IpNet,
    /// What their routes carry.
    pub attributes: ::bgp::Attributes,
}

/// `[bgp_peer:NAME]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerConfig {
    /// The session.
    pub peer: ::bgp::Peer,
    /// Where the password was read, when it was a file.
    pub password_file: Option<PathBuf>,
}

/// A text that is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Hides a text.
    #[must_use]
    pub const fn new(text: String) -> Self {
        Self(text)
    }

    /// The text, for whoever must use it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}
