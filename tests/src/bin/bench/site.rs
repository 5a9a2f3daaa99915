//! Where it is measured: a ToR, an amphora with the agent, one with a bare gobgpd that a client of ours drives, and one
//! more agent that holds nothing.

use std::{
    net::{IpAddr, Ipv6Addr, SocketAddr},
    os::unix::net::UnixStream,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use bgp::{Account, Announcement, Audience, Distance, Flags, Global, Peer, Prefix, Program, RestartTime, Speaker};
use lab::{
    Amphora, Fabric, Family, Neighbours, Options, Proc, Tor, TorKind, addresses, amphora::API_PORT, command,
    speaker::SOCKET,
};
use rustls::pki_types::ServerName;
use tokio::runtime::Runtime;

use crate::{
    Result,
    client::{self, Connection, Server},
    floors::insist,
};

/// What sessions may take.
const SESSION: Duration = Duration::from_secs(30);

/// The fabric and what drives it.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) fabric: Fabric,
    pub(crate) runtime: Runtime,
}

impl Site {
    /// Builds it. Nothing runs in the amphorae yet. Their state is on this machine's disk or, to leave that out of a
    /// figure, in memory.
    pub(crate) fn new(kind: TorKind, on_disk: bool) -> Result<Self> {
        let mut options = Options::new(kind);
        options.tors[0].neighbours = Neighbours::Each(Family::V4);
        options.state_on_disk = on_disk;
        let fabric = Fabric::new("bench", &options)?;
        fabric.write_configs(Family::V4)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Self { fabric, runtime })
    }

    pub(crate) fn tor(&self) -> &Tor {
        &self.fabric.tors[0]
    }

    /// The amphora whose agent is measured.
    pub(crate) fn amphora(&self) -> &Amphora {
        &self.fabric.amphorae[0]
    }

    /// The amphora without an agent.
    pub(crate) fn bare(&self) -> &Amphora {
        &self.fabric.amphorae[1]
    }

    /// The amphora whose agent holds nothing.
    pub(crate) fn empty(&self) -> &Amphora {
        &self.fabric.amphorae[2]
    }

    /// The directory of the agent's state, on this machine's disk.
    pub(crate) fn state_directory(&self, amphora: &Amphora) -> PathBuf {
        self.fabric.workdir.path().join(format!("{}-state", amphora.name()))
    }

    /// An amphora's API, to be called in the controller's network.
    pub(crate) fn api(&self, amphora: &Amphora) -> Result<Server> {
        self.server(amphora, SocketAddr::new(amphora.management(Family::V4), API_PORT))
    }

    /// Another server with that amphora's certificate.
    pub(crate) fn server(&self, amphora: &Amphora, address: SocketAddr) -> Result<Server> {
        let pki = Arc::clone(&self.fabric.pki);
        let tls = pki.client(Some(pki.controller()))?;
        Ok(Server { address, name: ServerName::try_from(amphora.id().to_owned())?, tls })
    }

    /// Runs `f` on a thread in the controller's network.
    pub(crate) fn as_controller<T: Send>(&self, f: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        self.fabric.controller.within(f)?
    }

    /// Calls until there is an answer; when that was.
    pub(crate) fn first_answer(&self, server: &Server, request: &[u8]) -> Result<Instant> {
        self.as_controller(|| {
            insist("the first answer", || Connection::open(server)?.exchange(request).map(drop))?;
            Ok(Instant::now())
        })
    }

    /// Starts an agent, and waits until it answers and its speaker has its session.
    pub(crate) fn start_agent(&self, amphora: &Amphora) -> Result<()> {
        amphora.start_agent(&[])?;
        self.first_answer(&self.api(amphora)?, &client::get("GET", "/"))?;
        self.wait_session(amphora)
    }

    pub(crate) fn wait_session(&self, amphora: &Amphora) -> Result<()> {
        self.tor().wait_established(amphora.management(Family::V4), SESSION)?;
        Ok(())
    }

    /// A client of an amphora's speaker.
    pub(crate) fn speaker(&self, amphora: &Amphora) -> Result<Speaker> {
        let socket = socket(amphora);
        insist("the speaker", || Ok(self.runtime.block_on(Speaker::connect(&socket))?))
    }

    /// AS, router id and policies, as the agent sets them.
    pub(crate) fn configure(&self, amphora: &Amphora, speaker: &Speaker) -> Result<()> {
        let IpAddr::V4(router_id) = amphora.management(Family::V4) else { return Err("an IPv4 address".into()) };
        let local_as = amphora.asn().try_into()?;
        let global = Global { local_as, router_id, listen: Vec::new(), listen_port: Some(179) };
        self.runtime.block_on(speaker.start(&global))?;
        self.runtime.block_on(speaker.set_policy(&[self.peer()?]))?;
        Ok(())
    }

    /// The session with the ToR, as the agent sets it up; waits for it.
    pub(crate) fn meet(&self, amphora: &Amphora, speaker: &Speaker) -> Result<()> {
        let restart = RestartTime::try_from(30)?;
        self.runtime.block_on(speaker.set_peers(&[self.peer()?], Some(restart), false))?;
        self.wait_session(amphora)
    }

    fn peer(&self) -> Result<Peer> {
        Ok(Peer {
            bfd: None,
            attributes: bgp::Attributes::default(),
            id: self.tor().name().parse()?,
            address: self.tor().peering_address(Family::V4),
            remote_as: self.tor().options().asn.try_into()?,
            password: None,
            distance: Distance::Default,
            hold_time: 9.try_into()?,
            keepalive: 3,
            passive: false,
            local_address: None,
            families: vec![bgp::Family::Ipv4, bgp::Family::Ipv6],
            connect_retry: Duration::from_secs(5),
        })
    }
}

/// Starts a gobgpd as the agent would, without configuring it.
pub(crate) fn start_speaker(amphora: &Amphora) -> Result<Proc> {
    let node = amphora.node();
    let account = Account { uid: 65_534, gid: 65_534 };
    let program = Program { path: "/usr/bin/gobgpd".into(), socket: SOCKET.into(), account };
    let ask = |flag| node.run(["sh", "-c", &format!("gobgpd {flag} 2>&1; true")]); // --help ends with 1
    let flags = Flags::parse(&ask("--version")?, &ask("--help")?).ok_or("not a gobgpd")?;
    node.within(|| program.prepare())??;
    let gobgpd = node.spawn("gobgpd", command(program.command(&flags)).envs(program.environment()))?;
    wait_socket(amphora)?;
    node.within(|| program.take_over())??;
    Ok(gobgpd)
}

fn socket(amphora: &Amphora) -> PathBuf {
    format!("/proc/{}/root{SOCKET}", amphora.node().pid()).into()
}

/// Waits until a speaker listens; when that was.
pub(crate) fn wait_socket(amphora: &Amphora) -> Result<Instant> {
    let socket = socket(amphora);
    insist("the speaker's socket", || Ok(UnixStream::connect(&socket).map(|_| Instant::now())?))
}

/// VIP `n` of many: more than the lab's own numbers reach.
pub(crate) fn vip(n: u32) -> IpAddr {
    let base = addresses::ANYCAST.v6.addr().to_bits() + 0x1_0000;
    Ipv6Addr::from_bits(base + u128::from(n)).into()
}

/// A next hop on the front-end network that is nobody's.
pub(crate) fn foreign_hop() -> IpAddr {
    addresses::FRONTEND.host(120).v6.into()
}

/// An announcement to everybody.
pub(crate) fn announcement(vip: IpAddr, next_hop: IpAddr) -> Result<Announcement> {
    Ok(Announcement {
        prefix: Prefix::try_from(vip)?,
        next_hop: next_hop.try_into()?,
        audience: Audience::All,
        attributes: bgp::Attributes::default(),
    })
}
