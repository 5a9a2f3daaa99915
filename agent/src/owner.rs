//! The one owner of the desired state.
//!
//! Handlers decide, by a pure function of the state, which changes a request means; the owner makes them
//! durable, then visible, then lets the converging task know, in that order, and only then does anybody
//! get an answer. It is a thread because it spends its life in `fdatasync`. Requests that arrive while it
//! is there share the next one (group commit), as long as they do not touch the same things.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    path::Path,
    sync::{Arc, Mutex, PoisonError, RwLock},
};

use bgp::Prefix;
use tokio::sync::{Notify, mpsc, oneshot};

use crate::{
    api::error::Status,
    crash,
    pulse::Pulse,
    state::{Change, Desired, Log, LogError, Registration},
};

/// The most requests one write takes; bounds how long the first of them waits.
const BATCH: usize = 256;
/// The most requests that wait for the owner; more wait in their connections.
const QUEUE: usize = 1024;
/// The generation of the state as it was found. No pass has seen it before the first has: none is 0.
const FOUND: u64 = 1;

/// What a request means for the state: changes, or why not.
pub type Decision<R> = Result<Vec<Change>, R>;
/// Run again if the requests before it in the batch touched the same things.
type Decide = Box<dyn Fn(&Desired) -> Decision<Refusal> + Send>;

/// A request that contradicts what is held. Says what is held and the way out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}: {details}")]
pub struct Refusal {
    /// Nearly always 409.
    pub status: Status,
    /// In a few words, naming the field.
    pub message: String,
    /// What is held and what to do; may be empty where the message is all that upstream says.
    pub details: String,
}

impl Refusal {
    /// A 409.
    pub fn conflict(message: impl Into<String>, details: impl Into<String>) -> Self {
        Self { status: Status::Conflict, message: message.into(), details: details.into() }
    }
}

/// Why nothing was committed.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// It contradicts what is held.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The disk did not take it; the old state stands.
    #[error("the state could not be made durable")]
    Log(#[source] Arc<LogError>),
    /// The agent is going down.
    #[error("the agent is stopping")]
    Stopped,
}

/// What a commit came to.
#[derive(Debug)]
pub struct Committed {
    /// The changes; none when it was so already.
    pub changes: Vec<Change>,
    /// The pass that reaches this number has seen them.
    pub generation: u64,
}

/// What has changed since the converging task last looked.
#[derive(Debug, Default)]
pub struct Dirty {
    /// The newest commit in it.
    pub generation: u64,
    /// Plugs, member networks or the firewall came, went or changed.
    pub plugs: bool,
    /// Registrations of these VIPs came or went.
    pub vips: BTreeSet<Prefix>,
}

/// The state as everybody but the owner sees it.
#[derive(Debug, Default)]
pub struct Shared {
    desired: RwLock<Desired>,
    /// Registrations that are gone but may still be announced, for `PENDING_DELETE`.
    leaving: Mutex<BTreeMap<Prefix, Registration>>,
    dirty: Mutex<Dirty>,
    wake: Notify,
}

impl Shared {
    /// Looks at the state; `look` must be short.
    pub fn read<T>(&self, look: impl FnOnce(&Desired) -> T) -> T {
        look(&self.desired.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Looks at the registrations that are still being withdrawn.
    pub fn leaving<T>(&self, look: impl FnOnce(&mut BTreeMap<Prefix, Registration>) -> T) -> T {
        look(&mut self.leaving.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits until something has changed.
    pub async fn changed(&self) {
        self.wake.notified().await;
    }

    /// Takes what has changed.
    pub fn take_dirty(&self) -> Dirty {
        let mut dirty = self.dirty.lock().unwrap_or_else(PoisonError::into_inner);
        let generation = dirty.generation;
        std::mem::replace(&mut *dirty, Dirty { generation, ..Dirty::default() })
    }

    fn publish(&self, generation: u64, changes: Vec<Change>) {
        {
            let mut desired = self.desired.write().unwrap_or_else(PoisonError::into_inner);
            let mut dirty = self.dirty.lock().unwrap_or_else(PoisonError::into_inner);
            dirty.generation = generation;
            for change in changes {
                match &change {
                    Change::Register(r) => {
                        dirty.vips.insert(r.vip);
                        self.leaving(|l| l.remove(&r.vip));
                    }
                    Change::Unregister(vip) => {
                        dirty.vips.insert(*vip);
                        let gone = desired.registrations.get(vip).cloned();
                        self.leaving(|l| l.extend(gone.map(|r| (*vip, r))));
                    }
                    _ => dirty.plugs = true,
                }
                desired.apply(change);
            }
        }
        self.wake.notify_one();
    }
}

struct Request {
    decide: Decide,
    answer: oneshot::Sender<Result<Committed, CommitError>>,
}

/// The way to the owner.
#[derive(Clone, Debug)]
pub struct Owner {
    requests: mpsc::Sender<Request>,
    shared: Arc<Shared>,
}

impl Owner {
    /// Reads the state at `path` and starts the owner. The thread ends when the last handle is dropped.
    pub fn start(path: &Path, pulse: Pulse) -> Result<(Self, std::thread::JoinHandle<()>), LogError> {
        let (log, changes) = Log::open(path)?;
        let mut desired = Desired::default();
        for change in changes {
            desired.apply(change);
        }
        let dirty = Dirty { generation: FOUND, plugs: true, vips: desired.registrations.keys().copied().collect() };
        let shared = Arc::new(Shared { desired: RwLock::new(desired), dirty: Mutex::new(dirty), ..Shared::default() });
        let (requests, queue) = mpsc::channel(QUEUE);
        let thread = {
            let shared = shared.clone();
            std::thread::Builder::new()
                .name("owner".into())
                .spawn(move || own(log, &shared, queue, &pulse))
                .map_err(|source| LogError::Io { doing: "start the thread that owns", path: path.to_owned(), source })?
        };
        Ok((Self { requests, shared }, thread))
    }

    /// The state to look at.
    #[must_use]
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Waits for the owner's end, which is a fault as long as there are handles.
    pub async fn ended(&self) {
        self.requests.closed().await;
    }

    /// Makes durable what `decide` says the request means.
    pub async fn commit(
        &self,
        decide: impl Fn(&Desired) -> Decision<Refusal> + Send + 'static,
    ) -> Result<Committed, CommitError> {
        let (answer, result) = oneshot::channel();
        let request = Request { decide: Box::new(decide), answer };
        self.requests.send(request).await.map_err(|_| CommitError::Stopped)?;
        result.await.map_err(|_| CommitError::Stopped)?
    }
}

/// What a change touches. Plugs are judged by one another, so they are all one thing; what silences every VIP is judged
/// with them.
#[derive(PartialEq, Eq, Hash)]
enum Touches {
    Plugs,
    Vip(Prefix),
}

fn touches(change: &Change) -> Touches {
    match change {
        Change::Register(r) => Touches::Vip(r.vip),
        Change::Unregister(vip) => Touches::Vip(*vip),
        _ => Touches::Plugs,
    }
}

fn own(mut log: Log, shared: &Shared, mut queue: mpsc::Receiver<Request>, pulse: &Pulse) {
    let mut generation = FOUND;
    let mut held_over = None;
    keep_old(&mut log, shared);
    while let Some(first) = held_over.take().or_else(|| waited_for(&mut queue, pulse)) {
        pulse.works();
        let mut touched = HashSet::new();
        let mut changes = Vec::new();
        let mut waiting = Vec::new();
        let mut next = Some(first);
        while let Some(request) = next {
            match shared.read(&request.decide) {
                Err(refusal) => reply(request.answer, Err(refusal.into())),
                Ok(new) if new.is_empty() => reply(request.answer, Ok(Committed { changes: new, generation })),
                Ok(new) => {
                    let new_touched: Vec<_> = new.iter().map(touches).collect();
                    // A registration is judged by the plugs there are, so the two do not mix.
                    let plugs = |t: &Touches| *t == Touches::Plugs;
                    let mixed = !changes.is_empty() && (touched.iter().any(plugs) || new_touched.iter().any(plugs));
                    if mixed || new_touched.iter().any(|t| touched.contains(t)) {
                        held_over = Some(request);
                        break;
                    }
                    touched.extend(new_touched);
                    changes.extend_from_slice(&new);
                    waiting.push((request.answer, new));
                }
            }
            next = if waiting.len() < BATCH { queue.try_recv().ok() } else { None };
        }
        if changes.is_empty() {
            continue;
        }
        // A disk that hangs holds up every agent on it; starting one anew would mend nothing, and end its announcements.
        pulse.waits();
        let committed = log.commit(&changes, || shared.read(Desired::changes));
        pulse.works();
        match committed {
            Ok(()) => {
                generation += 1;
                shared.publish(generation, changes);
                crash::point("owner: durable, not answered");
                for (answer, changes) in waiting {
                    reply(answer, Ok(Committed { changes, generation }));
                }
                pulse.waits();
                keep_old(&mut log, shared);
            }
            Err(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "a commit failed; the old state stands");
                let error = Arc::new(error);
                for (answer, _) in waiting {
                    reply(answer, Err(CommitError::Log(error.clone())));
                }
            }
        }
    }
}

fn waited_for(queue: &mut mpsc::Receiver<Request>, pulse: &Pulse) -> Option<Request> {
    pulse.waits();
    queue.blocking_recv()
}

/// Once nothing is held that an older release does not know, it can take over again.
fn keep_old(log: &mut Log, shared: &Shared) {
    if !log.is_newer_than(shared.read(Desired::format)) {
        return;
    }
    if let Err(error) = log.renew(&shared.read(Desired::changes)) {
        tracing::warn!(error = &error as &dyn std::error::Error, "an older release could not read the state, still");
    }
}

/// The caller may have gone; what it asked for stands all the same.
fn reply(answer: oneshot::Sender<Result<Committed, CommitError>>, result: Result<Committed, CommitError>) {
    let _ = answer.send(result);
}

#[cfg(test)]
mod tests;
