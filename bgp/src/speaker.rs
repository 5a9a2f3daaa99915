use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    os::unix::fs::{FileTypeExt, PermissionsExt},
    path::Path,
    time::Duration,
};

use futures_util::{Stream, StreamExt};
use gobgp_proto::v4::{self, ListPathRequest, TableLookupPrefix};
use serde::Serialize;

use crate::{
    Announcement, ApiVersion, Asn, Attributes, Error, Event, Family, NextHop, Peer, PeerDiff, PeerId, Prefix,
    RestartTime, Session, client::Client, path, peers, policy, session,
};

/// Paths in one message of a stream. A message is a lock on gobgpd's table: 500 paths are 10 ms.
const BATCH: usize = 500;

/// How long a call may take unless said otherwise.
const DEADLINE: Duration = Duration::from_secs(2);

/// What a speaker is started with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Global {
    /// Our AS.
    pub local_as: Asn,
    /// The BGP identifier (RFC 4271 section 1.1).
    pub router_id: Ipv4Addr,
    /// Local addresses to listen on; all of them when empty.
    pub listen: Vec<IpAddr>,
    /// The port to listen on. Without one only we dial, which makes the first connection slower.
    pub listen_port: Option<u16>,
}

/// One thing to do to the speaker's table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Announce, in place of whatever this prefix was announced with.
    Announce(Announcement),
    /// Withdraw from everybody. A prefix not announced is no error.
    Withdraw(Prefix),
}

/// The speaker's own table, read back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// What is ours in form.
    pub announcements: Vec<Announcement>,
    /// What is not: put there by someone else, or for a peer that is no more.
    pub strays: Vec<Stray>,
}

/// A path that this crate would not have made, or not with the policies now in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stray {
    /// Its prefix as gobgpd writes it.
    pub destination: String,
    /// The prefix to withdraw or announce over, if it is one we could announce.
    pub prefix: Option<Prefix>,
    /// What is foreign about it.
    pub why: String,
}

/// A route as a peer is sent it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Advertised {
    /// The host route.
    pub prefix: Prefix,
    /// Its next hop on the wire.
    pub next_hop: NextHop,
    /// Its attributes on the wire, the peer's own among them.
    #[serde(skip)]
    pub attributes: Attributes,
}

/// A running gobgpd. Cheap to clone.
///
/// It keeps no copy of anything: every answer is read from the daemon, which may have been
/// restarted since. After a fresh start ([`Speaker::global`] is `None`) the order is
/// [`start`](Self::start), [`set_policy`](Self::set_policy), [`apply`](Self::apply) of everything,
/// [`set_peers`](Self::set_peers): a peer that comes up then gets all routes at once, and one that
/// kept our routes over a graceful restart never sees the table empty.
#[derive(Clone, Debug)]
pub struct Speaker {
    client: Client,
}

impl Speaker {
    /// Connects with a deadline of two seconds a call; see [`connect_within`](Self::connect_within).
    pub async fn connect(socket: &Path) -> Result<Self, Error> {
        Self::connect_within(socket, DEADLINE).await
    }

    /// Checks that only the owner can reach the socket, connects, and finds out which API it is.
    /// `deadline` holds for each call; ten times as much for those that move a whole table.
    pub async fn connect_within(socket: &Path, deadline: Duration) -> Result<Self, Error> {
        check_modes(socket)?;
        Ok(Self { client: Client::connect(socket, deadline).await? })
    }

    /// Which API the daemon speaks. (Its exact version is not to be had here: [`crate::Program`].)
    #[must_use]
    pub fn api(&self) -> ApiVersion {
        self.client.version()
    }

    /// The AS and identifier it runs with; `None` when it is freshly started.
    pub async fn global(&self) -> Result<Option<(Asn, Ipv4Addr)>, Error> {
        let global = self.client.get_bgp().await?;
        if global.asn == 0 {
            return Ok(None);
        }
        let router_id = global.router_id.parse().map_err(|_| Error::WrongDaemon("no router id".to_owned()))?;
        Ok(Some((Asn::try_from(global.asn)?, router_id)))
    }

    /// Starts BGP. [`Error::Refused`] if it is started, for gobgpd itself would say yes and change
    /// its AS under live sessions; also if an address or the port cannot be listened on.
    pub async fn start(&self, global: &Global) -> Result<(), Error> {
        if let Some((asn, _)) = self.global().await? {
            return Err(Error::Refused { what: "start".to_owned(), why: format!("it runs with AS {asn}") });
        }
        let request = v4::Global {
            asn: global.local_as.get(),
            router_id: global.router_id.to_string(),
            listen_port: global.listen_port.map_or(-1, i32::from), // 0 would be 179
            listen_addresses: global.listen.iter().map(IpAddr::to_string).collect(),
        };
        self.client.start_bgp(request).await
    }

    /// Makes the policies those these peers need; says whether anything had to be sent. Only
    /// neighbors whose own policy changed get their routes anew.
    pub async fn set_policy(&self, peers: &[Peer]) -> Result<bool, Error> {
        policy::set(&self.client, peers).await
    }

    /// Makes the neighbors these, with `graceful_restart` for all. Identical ones are not touched,
    /// changed ones are reset, unknown ones deleted. New ones are asked to keep what they hold of us if
    /// gobgpd has no neighbor yet, or is `restarting`: somebody began to set them up and did not end.
    pub async fn set_peers(
        &self,
        peers: &[Peer],
        graceful_restart: Option<RestartTime>,
        restarting: bool,
    ) -> Result<PeerDiff, Error> {
        peers::set(&self.client, peers, graceful_restart, restarting).await
    }

    /// The speaker's own table, read back.
    pub async fn announcements(&self) -> Result<Table, Error> {
        let names = policy::names(&self.client).await?;
        let mut table = Table::default();
        for family in [Family::Ipv4, Family::Ipv6] {
            self.client.list_paths(self.own(family, &[]), |found| sort(&found, &names, &mut table)).await?;
        }
        Ok(table)
    }

    /// A few prefixes of the speaker's own table, looked up by name.
    pub async fn announcements_of(&self, prefixes: impl IntoIterator<Item = &Prefix>) -> Result<Table, Error> {
        let (v4, v6): (Vec<Prefix>, Vec<Prefix>) = prefixes.into_iter().partition(|p| p.address().is_ipv4());
        let mut found = Vec::new();
        for (family, prefixes) in [(Family::Ipv4, v4), (Family::Ipv6, v6)] {
            if prefixes.is_empty() {
                continue; // no prefix would be all of them
            }
            found.extend(self.client.list_paths(self.own(family, &prefixes), |found| found).await?);
        }
        // A path for everybody, as nearly all are, names no peer: one question less.
        let for_some = found.iter().flat_map(|d| &d.paths).any(path::names_peers);
        let names = if for_some { policy::names(&self.client).await? } else { BTreeMap::new() };
        let mut table = Table::default();
        for destination in &found {
            sort(destination, &names, &mut table);
        }
        Ok(table)
    }

    /// One prefix of the speaker's own table; `None` also for a stray.
    pub async fn announcement(&self, prefix: Prefix) -> Result<Option<Announcement>, Error> {
        let table = self.announcements_of(&[prefix]).await?;
        Ok(table.announcements.into_iter().find(|a| a.prefix == prefix))
    }

    /// Makes changes in the order given, and returns once gobgpd's table has them. Several go as a
    /// stream. If gobgpd refuses one, the others are made all the same and the error names it;
    /// [`Error::Invalid`] comes before anything is sent.
    pub async fn apply(&self, changes: &[Change]) -> Result<(), Error> {
        for change in changes {
            if let Change::Announce(what) = change {
                what.check()?;
            }
        }
        if changes.len() > 1 {
            let path = |change: Change| match change {
                Change::Announce(what) => path::announce(&what),
                Change::Withdraw(prefix) => path::withdraw(prefix),
            };
            let changes = changes.to_vec(); // the stream outlives this call when it is abandoned
            match self.client.stream_paths(changes.into_iter().map(path), BATCH).await {
                Err(Error::Refused { .. }) => {} // one of them; which, only single calls tell
                other => return other,
            }
        }
        let mut refused = None;
        for change in changes {
            match self.apply_one(change).await {
                Ok(()) => {}
                Err(error @ Error::Refused { .. }) => {
                    tracing::warn!(%error, "a change was refused");
                    refused.get_or_insert(error);
                }
                Err(error) => return Err(error),
            }
        }
        refused.map_or(Ok(()), Err)
    }

    async fn apply_one(&self, change: &Change) -> Result<(), Error> {
        let (done, prefix) = match change {
            Change::Announce(what) => (self.client.add_path(path::announce(what)).await, what.prefix),
            Change::Withdraw(prefix) => (self.client.delete_path(path::withdraw(*prefix)).await, *prefix),
        };
        done.map_err(|error| match error {
            Error::Refused { what, why } => Error::Refused { what: format!("{what} {prefix}"), why },
            other => other,
        })
    }

    /// Every neighbor's session.
    pub async fn sessions(&self) -> Result<Vec<Session>, Error> {
        let peers = self.client.list_peers(true).await?;
        Ok(peers.into_iter().filter_map(|peer| session::read(peer, self.api())).collect())
    }

    /// The same without [`Session::advertised`], which gobgpd runs its policies over its whole table for.
    pub async fn sessions_uncounted(&self) -> Result<Vec<Session>, Error> {
        let peers = self.client.list_peers(false).await?;
        Ok(peers.into_iter().filter_map(|peer| session::read(peer, self.api())).collect())
    }

    /// What a neighbor is sent, all or one prefix; nothing while its session is down.
    /// [`Error::Refused`] for an address that is no neighbor's.
    pub async fn advertised(&self, peer: IpAddr, only: Option<Prefix>) -> Result<Vec<Advertised>, Error> {
        // With graceful restart gobgp goes on listing what it would send to a peer that is gone.
        let sessions = self.client.list_peers(false).await?.into_iter().filter_map(|p| session::read(p, self.api()));
        let down = |s: session::Session| s.address == peer && s.state != session::SessionState::Established;
        if sessions.into_iter().any(down) {
            return Ok(Vec::new());
        }
        let mut routes = Vec::new();
        for family in [Family::Ipv4, Family::Ipv6] {
            if only.is_some_and(|p| Family::of(p.address()) != family) {
                continue;
            }
            let table_type = self.client.codes().table_adj_out;
            let request = ListPathRequest { table_type, name: peer.to_string(), ..self.own(family, only.as_slice()) };
            let read = |found: v4::Destination| routes.extend(found.paths.iter().filter_map(path::read_advertised));
            self.client.list_paths(request, read).await?;
        }
        Ok(routes)
    }

    /// Session events, each session's present state first. The last item is an error: the daemon or
    /// the connection ended, and whoever comes back is to be asked [`Speaker::global`].
    ///
    /// The watch begins when the stream is first polled.
    pub fn watch(&self) -> impl Stream<Item = Result<Event, Error>> + Send + use<> {
        self.client.watch().filter_map(|item| async { item.map(session::event).transpose() })
    }

    /// The request for the speaker's own paths of a family; all of them when `only` is empty.
    fn own(&self, family: Family, only: &[Prefix]) -> ListPathRequest {
        let codes = self.client.codes();
        let lookup = |prefix: &Prefix| TableLookupPrefix { prefix: prefix.to_string(), r#type: codes.lookup_exact };
        ListPathRequest {
            table_type: codes.table_global,
            name: String::new(),
            family: Some(path::family(family)),
            prefixes: only.iter().map(lookup).collect(),
        }
    }
}

/// Puts the paths to one destination where they belong.
fn sort(destination: &v4::Destination, names: &BTreeMap<u32, PeerId>, table: &mut Table) {
    for found in &destination.paths {
        match path::read(found, names) {
            Ok(announcement) => table.announcements.push(announcement),
            Err(why) => {
                table.strays.push(Stray { destination: destination.prefix.clone(), prefix: path::prefix(found), why });
            }
        }
    }
}

/// The API can announce anything to anyone and asks for no password: the file system is its lock.
fn check_modes(socket: &Path) -> Result<(), Error> {
    let unreachable = |error: std::io::Error| Error::Unreachable { socket: socket.into(), why: error.to_string() };
    let insecure = |path: &Path, why: String| Err(Error::Insecure { path: path.into(), why });
    let folder = socket.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    for (path, is_socket) in [(folder, false), (socket, true)] {
        let metadata = std::fs::symlink_metadata(path).map_err(unreachable)?;
        if is_socket && !metadata.file_type().is_socket() {
            return insecure(path, "it is not a socket".to_owned());
        }
        if !is_socket && !metadata.is_dir() {
            return insecure(path, "it is not a folder".to_owned());
        }
        let mode = metadata.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return insecure(path, format!("its mode is {mode:04o}"));
        }
    }
    Ok(())
}
