//! The calls themselves: two generations of one service behind one set of functions that speak v4.
//!
//! Every call has a deadline, because a daemon that hangs keeps its socket open and says nothing.

use std::{
    future::Future,
    path::{Path, PathBuf},
    pin::Pin,
    time::Duration,
};

use futures_util::{Stream, StreamExt, TryStreamExt, stream};
use gobgp_proto::{
    Codes,
    v3::{self, gobgp_api_client::GobgpApiClient},
    v4::{self, go_bgp_service_client::GoBgpServiceClient},
};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::{
    Code, Response, Status, Streaming,
    transport::{Channel, Endpoint, Uri},
};

use crate::{
    Error,
    v3::{destination_from_v3, event_from_v3, path_to_v3, peer_from_v3, peer_to_v3},
};

/// Which of gobgp's two APIs the daemon speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub enum ApiVersion {
    /// `apipb.GobgpApi`: 3.10 to 3.37.
    V3,
    /// `api.GoBgpService`: 4.0 and later.
    V4,
}

#[derive(Clone, Debug)]
enum Api {
    V3(GobgpApiClient<Channel>),
    V4(GoBgpServiceClient<Channel>),
}

/// A connection to one daemon. Cheap to clone; the clones share the connection.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    api: Api,
    socket: PathBuf,
    deadline: Duration,
}

/// One call on whichever service it is; `$v3` and `$v4` bring the answer to one type.
macro_rules! call {
    ($self:ident, $deadline:expr, $what:expr, $method:ident($request:expr), $v3:expr, $v4:expr) => {
        $self.within($deadline, $what, async {
            match $self.api.clone() {
                Api::V3(mut client) => client.$method($request).await.map($v3),
                Api::V4(mut client) => client.$method($request).await.map($v4),
            }
        })
    };
    ($self:ident, $what:expr, $method:ident($request:expr)) => {
        call!($self, $self.deadline, $what, $method($request), drop, drop)
    };
}

/// One call whose answer is a stream, read to its end.
macro_rules! list {
    ($self:ident, $deadline:expr, $what:expr, $method:ident($request:expr), $v3:expr, $v4:expr) => {
        $self.within($deadline, $what, async {
            match $self.api.clone() {
                Api::V3(mut client) => collect(client.$method($request).await?, $v3).await,
                Api::V4(mut client) => collect(client.$method($request).await?, $v4).await,
            }
        })
    };
}

/// Converts each message as it comes: a whole table of them in gobgp's words is many times what it boils down to.
async fn collect<M, T>(answer: Response<Streaming<M>>, mut pick: impl FnMut(M) -> Option<T>) -> Result<Vec<T>, Status> {
    answer.into_inner().try_filter_map(|message| std::future::ready(Ok(pick(message)))).try_collect().await
}

impl Client {
    /// Dials the socket and finds out which API is behind it.
    pub(crate) async fn connect(socket: &Path, deadline: Duration) -> Result<Self, Error> {
        let channel = dial(socket);
        let v4 = Api::V4(GoBgpServiceClient::new(channel.clone()));
        let client = Self { api: v4, socket: socket.to_owned(), deadline };
        match client.get_bgp().await {
            Err(Error::WrongDaemon(_)) => {}
            answer => return answer.map(|_| client),
        }
        let client = Self { api: Api::V3(GobgpApiClient::new(channel)), ..client };
        client.get_bgp().await.map(|_| client)
    }

    pub(crate) fn version(&self) -> ApiVersion {
        match self.api {
            Api::V3(_) => ApiVersion::V3,
            Api::V4(_) => ApiVersion::V4,
        }
    }

    pub(crate) fn codes(&self) -> Codes {
        match self.api {
            Api::V3(_) => Codes::V3,
            Api::V4(_) => Codes::V4,
        }
    }

    /// For calls that move thousands of paths.
    fn long_deadline(&self) -> Duration {
        self.deadline * 10
    }

    /// Ends when the daemon does not answer a small question any more: one that hangs in the middle of a long call would
    /// otherwise hold up whoever waits for it to that call's deadline.
    fn silence(&self) -> Pin<Box<dyn Future<Output = Error> + Send + '_>> {
        Box::pin(async {
            loop {
                tokio::time::sleep(self.deadline).await;
                if let Err(error) = self.get_bgp().await {
                    return error;
                }
            }
        })
    }

    async fn within<T>(
        &self,
        deadline: Duration,
        what: &'static str,
        call: impl Future<Output = Result<T, Status>>,
    ) -> Result<T, Error> {
        let call = tokio::time::timeout(deadline, call);
        let outcome = if deadline > self.deadline {
            tokio::select! {
                outcome = call => outcome,
                error = self.silence() => return Err(error),
            }
        } else {
            call.await
        };
        match outcome {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(status)) => Err(Error::from_status(&status, &self.socket, what)),
            Err(_) => Err(Error::Slow { what, after: deadline }),
        }
    }

    pub(crate) async fn get_bgp(&self) -> Result<v4::Global, Error> {
        let answer = call!(
            self,
            self.deadline,
            "say its AS",
            get_bgp(v4::GetBgpRequest {}),
            Response::into_inner,
            Response::into_inner
        );
        Ok(answer.await?.global.unwrap_or_default())
    }

    pub(crate) async fn start_bgp(&self, global: v4::Global) -> Result<(), Error> {
        call!(self, "start", start_bgp(v4::StartBgpRequest { global: Some(global) })).await
    }

    pub(crate) async fn list_peers(&self, count_advertised: bool) -> Result<Vec<v4::Peer>, Error> {
        let request = v4::ListPeerRequest { address: String::new(), enable_advertised: count_advertised };
        // gobgp counts by running its export policies over every path for every peer.
        let deadline = if count_advertised { self.long_deadline() } else { self.deadline };
        list!(
            self,
            deadline,
            "list its peers",
            list_peer(request),
            |r: v3::ListPeerResponse| r.peer.map(peer_from_v3),
            |r: v4::ListPeerResponse| r.peer
        )
        .await
    }

    pub(crate) async fn add_peer(&self, peer: v4::Peer) -> Result<(), Error> {
        self.within(self.deadline, "add a peer", async {
            match self.api.clone() {
                Api::V3(mut c) => c.add_peer(v3::AddPeerRequest { peer: Some(peer_to_v3(peer)) }).await.map(drop),
                Api::V4(mut c) => c.add_peer(v4::AddPeerRequest { peer: Some(peer) }).await.map(drop),
            }
        })
        .await
    }

    pub(crate) async fn delete_peer(&self, address: String) -> Result<(), Error> {
        call!(self, "delete a peer", delete_peer(v4::DeletePeerRequest { address })).await
    }

    /// Sends a peer what policy now lets through. Soft keeps the session.
    pub(crate) async fn reset_peer(&self, address: String, soft: bool) -> Result<(), Error> {
        let direction = self.codes().reset_out;
        let request = v4::ResetPeerRequest { address, communication: String::new(), soft, direction };
        call!(self, "reset a peer", reset_peer(request)).await
    }

    pub(crate) async fn add_path(&self, path: v4::Path) -> Result<(), Error> {
        let table_type = self.codes().table_global;
        self.within(self.deadline, "announce", async {
            match self.api.clone() {
                Api::V3(mut c) => {
                    let path = Some(path_to_v3(&path));
                    c.add_path(v3::AddPathRequest { table_type, path }).await.map(drop)
                }
                Api::V4(mut c) => c.add_path(v4::AddPathRequest { table_type, path: Some(path) }).await.map(drop),
            }
        })
        .await
    }

    /// A path goes in, never none: a request without one deletes every path on 3.x.
    pub(crate) async fn delete_path(&self, path: v4::Path) -> Result<(), Error> {
        let (table_type, family) = (self.codes().table_global, path.family);
        self.within(self.deadline, "withdraw", async {
            match self.api.clone() {
                Api::V3(mut c) => {
                    let path = Some(path_to_v3(&path));
                    c.delete_path(v3::DeletePathRequest { table_type, family, path }).await.map(drop)
                }
                Api::V4(mut c) => {
                    c.delete_path(v4::DeletePathRequest { table_type, family, path: Some(path) }).await.map(drop)
                }
            }
        })
        .await
    }

    /// Announces and withdraws in order, `batch` paths a message. A bad path ends the stream: what
    /// came before its message is done, the rest is not.
    pub(crate) async fn stream_paths(
        &self,
        mut paths: impl Iterator<Item = v4::Path> + Send + 'static,
        batch: usize,
    ) -> Result<(), Error> {
        let table_type = self.codes().table_global;
        let batches = std::iter::from_fn(move || {
            let batch: Vec<_> = paths.by_ref().take(batch).collect();
            (!batch.is_empty()).then_some(batch)
        });
        self.within(self.long_deadline(), "take a batch of paths", async {
            match self.api.clone() {
                Api::V3(mut c) => {
                    let message = move |batch: Vec<v4::Path>| v3::AddPathStreamRequest {
                        table_type,
                        paths: batch.iter().map(path_to_v3).collect(),
                    };
                    c.add_path_stream(stream::iter(batches.map(message))).await.map(drop)
                }
                Api::V4(mut c) => {
                    let message = move |paths| v4::AddPathStreamRequest { table_type, paths };
                    c.add_path_stream(stream::iter(batches.map(message))).await.map(drop)
                }
            }
        })
        .await
    }

    /// Hands each destination to `pick` as it comes, and returns what it made of them.
    pub(crate) async fn list_paths<T>(
        &self,
        request: v4::ListPathRequest,
        mut pick: impl FnMut(v4::Destination) -> T,
    ) -> Result<Vec<T>, Error> {
        list!(
            self,
            self.long_deadline(),
            "list paths",
            list_path(request),
            |r: v3::ListPathResponse| r.destination.map(|d| pick(destination_from_v3(d))),
            |r: v4::ListPathResponse| r.destination.map(&mut pick)
        )
        .await
    }

    pub(crate) async fn defined_sets(&self, defined_type: i32) -> Result<Vec<v4::DefinedSet>, Error> {
        let request = v4::ListDefinedSetRequest { defined_type, name: String::new() };
        let pick = |r: v4::ListDefinedSetResponse| r.defined_set;
        list!(self, self.deadline, "list its policy sets", list_defined_set(request), pick, pick).await
    }

    /// The policies of the global table, import and export.
    pub(crate) async fn assignments(&self) -> Result<Vec<v4::PolicyAssignment>, Error> {
        let request = v4::ListPolicyAssignmentRequest { name: "global".to_owned(), direction: 0 };
        let pick = |r: v4::ListPolicyAssignmentResponse| r.assignment;
        list!(self, self.deadline, "list its policies", list_policy_assignment(request), pick, pick).await
    }

    pub(crate) async fn set_policies(&self, request: v4::SetPoliciesRequest) -> Result<(), Error> {
        call!(self, "set its policies", set_policies(request)).await
    }

    pub(crate) async fn assign(&self, assignment: v4::PolicyAssignment) -> Result<(), Error> {
        let request = v4::SetPolicyAssignmentRequest { assignment: Some(assignment) };
        call!(self, "assign a policy", set_policy_assignment(request)).await
    }

    /// Peer events until the daemon or the connection ends, which is the last item, an error.
    ///
    /// The call is made when the stream is first polled: gobgpd sends nothing, not even headers,
    /// before the first event, so there is nothing to await earlier.
    pub(crate) fn watch(&self) -> impl Stream<Item = Result<v4::WatchEventResponse, Error>> + Send + use<> {
        type Events = Pin<Box<dyn Stream<Item = Result<v4::WatchEventResponse, Status>> + Send>>;
        let (api, socket) = (self.api.clone(), self.socket.clone());
        let open = async move {
            let request = v4::WatchEventRequest { peer: Some(v4::watch_event_request::Peer {}) };
            let events: Events = match api {
                Api::V3(mut c) => Box::pin(c.watch_event(request).await?.into_inner().map_ok(event_from_v3)),
                Api::V4(mut c) => Box::pin(c.watch_event(request).await?.into_inner()),
            };
            Ok::<Events, Status>(events)
        };
        let ended = stream::once(async { Err(Status::new(Code::Unavailable, "the event stream ended")) });
        let events = stream::once(open).try_flatten().chain(ended);
        events.map_err(move |status| Error::from_status(&status, &socket, "report events")).scan(false, |over, item| {
            let last = std::mem::replace(over, item.is_err());
            std::future::ready((!last).then_some(item))
        })
    }
}

/// A channel that dials the socket again by itself whenever it is asked for something and has no
/// connection, so that a restarted daemon is found without a new [`Client`].
fn dial(socket: &Path) -> Channel {
    let socket = socket.to_owned();
    let connector = tower::service_fn(move |_: Uri| {
        let socket = socket.clone();
        async move { UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    Endpoint::from_static("http://gobgpd").connect_with_connector_lazy(connector)
}
