//! From a configuration to a running agent, and from there to its end.

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};
use tokio_util::sync::CancellationToken;

use crate::{
    api::{self, App, info::Versions},
    config::{Config, Role, Runner, Sources},
    converge::Converge,
    crash,
    deadman::{self, Lock},
    dhcp,
    drain::Drains,
    haproxy::Haproxy,
    health::{self, Health, Leaver, stopping::Stopping},
    heartbeat::Heartbeats,
    interfaces::import,
    kernel::{Kernel, NAMESPACE},
    metrics::{Sources as Metered, http::Requests},
    notify::Notify,
    owner::Owner,
    programs, prometheus,
    pulse::{self, Pulse, Pulses},
    reload::{ReloadError, Running, SetDebug},
    resolve::{self, Facts, Policy},
    server::{
        local,
        serve::{self, Limits},
        tls::{Reloader, TlsError},
    },
    services::{Backend, Direct, Places, Services, Settings, Systemd, systemd},
    speaker::{self, Link},
    state::{Desired, LogError},
    vrrp,
};

/// How long a predecessor may take to end.
const PREDECESSOR: Duration = Duration::from_secs(15); // it gives its last requests 10

/// How long services wait at the start for what the kernel is to hold.
const FIRST_PASS: Duration = Duration::from_secs(5);

/// Why the agent did not start, or did not go on.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No threads, or no signals.
    #[error("the runtime cannot start")]
    Runtime(#[source] io::Error),
    /// No TLS.
    #[error("the API cannot have its TLS")]
    Tls(#[from] TlsError),
    /// No socket.
    #[error("the API cannot listen on {0}")]
    Listen(SocketAddr, #[source] io::Error),
    /// Two agents would undo each other's work.
    #[error("another amphora-agent is running (it holds {})", .0.display())]
    Running(PathBuf),
    /// No lock file.
    #[error("cannot lock {}", .0.display())]
    Lock(PathBuf, #[source] io::Error),
    /// No directory for the state.
    #[error("cannot make {}", .0.display())]
    Directory(PathBuf, #[source] io::Error),
    /// No state, or one nobody should guess at.
    #[error("the state cannot be used")]
    State(#[from] LogError),
    /// No namespace.
    #[error("the network cannot be set up")]
    Network(#[from] netns::Error),
    /// A gobgpd of an earlier configuration may be announcing.
    #[error("cannot remember which speaker is ours")]
    Previous(#[source] io::Error),
    /// The files of a Python agent.
    #[error("what the agent before this one has plugged cannot be taken over")]
    TakeOver(#[source] io::Error),
    /// Nobody to run haproxy.
    #[error("services cannot be run")]
    Services(#[source] io::Error),
    /// No thread for them.
    #[error("heartbeats cannot start")]
    Heartbeats(#[source] io::Error),
    /// One of the parts that never end has ended.
    #[error("the {0} task ended; the log says why")]
    Task(&'static str),
}

/// Serves until SIGTERM or SIGINT. SIGHUP reads the configuration again.
///
/// # Errors
/// What is missing to start, or which part failed.
pub fn run(config: Config, sources: Sources, set_debug: SetDebug) -> Result<(), StartError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.map_err(StartError::Runtime)?.block_on(agent(config, sources, set_debug))
}

async fn agent(config: Config, sources: Sources, set_debug: SetDebug) -> Result<(), StartError> {
    let listen = |kind| signal(kind).map_err(StartError::Runtime);
    let (mut hangup, mut terminate, mut interrupt) =
        (listen(SignalKind::hangup())?, listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    config.warnings.iter().for_each(|warning| tracing::warn!(%warning, "configuration"));
    config.ignored.iter().for_each(|ignored| tracing::debug!(%ignored, "configuration"));

    // What may be wrong with the files is found before anything is touched.
    let api = &config.api;
    let reloader = Arc::new(Reloader::new(&api.server_cert, &api.client_ca, api.minimum_tls)?);
    let _lock = lock(&deadman::agents_lock()).await?;
    // Before anything is announced: an agent that cannot serve shall not announce and be withdrawn in turn.
    let (bind, runner) = (config.api.bind, config.distributor.services);
    let listener = serve::listen(bind).map_err(|error| StartError::Listen(bind, error))?;
    let kernel = Kernel::open()?;
    let management = links_in_use(&kernel).await?;
    let mut pulses = Pulses::default();
    let mut pulse = |name| pulses.of(name, pulse::WORK);
    let directory = config.paths.base.join("amphora-agent");
    let owner = take_up(&config, &directory, &kernel, pulse("owning")).await?;

    let running = Arc::new(Running::new(config, sources, reloader.clone(), set_debug));
    let inside = kernel.inside().namespace().clone();
    let mut heartbeats =
        Heartbeats::start(running.subscribe(), owner.shared().clone(), inside.clone(), pulse("heartbeat"))
            .map_err(StartError::Heartbeats)?;
    let socket = running.current().bgp.as_ref().map(|bgp| bgp.speaker.clone());
    speaker::leave_previous(socket.as_deref()).await.map_err(StartError::Previous)?;
    let speaking = socket.map(|_| Link::start(running.subscribe(), pulse("speaker's")));
    let (link, view, mut keeper) = speaking.map_or_else(Default::default, |(l, v, k)| (Some(l), Some(v), Some(k)));
    let (judged, gates) = health::channel();
    let (converge, progress) =
        Converge::new(owner.shared().clone(), kernel.clone(), running.subscribe(), link, gates.clone());
    let mut converge = tokio::spawn(converge.run(pulse("converging")));
    // A service that is started at boot may bind its addresses.
    let _ = tokio::time::timeout(FIRST_PASS, progress.reached(1)).await;
    let services = services(runner, &directory).map_err(StartError::Services)?;
    // A VIP that lingers may be reached through an address by DHCP.
    let settled = progress.read(|r| r.lingering.is_empty());
    tokio::spawn(dhcp::resume(services.clone(), kernel.clone(), owner.shared().clone(), settled));

    let (seen, base) = (progress.clone(), running.current().paths.base.clone());
    let default_mode = running.current().distributor.vip_mode;
    tokio::spawn(vrrp::resume(services.clone(), seen, owner.shared().clone(), base, default_mode));

    let (desired, stopping) = (owner.shared().clone(), Stopping::default());
    let leaver = Leaver::new(gates.clone(), stopping.clone(), progress.clone());
    let health =
        Health::new(running.subscribe(), desired, kernel.clone(), progress.clone(), &services, stopping, judged);
    let mut health = tokio::spawn(health.run(pulse("health")));

    let (drains, draining) = Drains::new(owner.clone(), progress.clone(), kernel.clone(), running.subscribe());
    let mut drains = tokio::spawn(drains.run(pulse("draining")));

    let (limits, config) = (Limits::default(), running.subscribe());
    let limits = move || Limits { body: config.borrow().api.request_read_timeout, ..limits };
    let config = running.current();
    let owning = owner.clone();
    let router = api::router(App {
        owner,
        progress,
        kernel,
        speaker: view,
        haproxy: Haproxy::new(services.clone(), inside, Some(leaver)),
        gates,
        drains: draining,
        services: services.clone(),
        policy: Arc::new(Policy::of(&config)),
        default_mode: config.distributor.vip_mode,
        management: management.into(),
        paths: Arc::new(config.paths.clone()),
        require_ramfs: config.distributor.require_ramfs,
        server_cert: config.api.server_cert.as_path().into(),
        versions: Versions::default(),
        running: running.clone(),
        metrics: Metered { requests: Requests::default(), heartbeats: heartbeats.monitor(), tls: reloader.clone() },
    });
    if config.distributor.role == Role::Amphora {
        tokio::spawn(prometheus::keep_running(services));
    }
    let stop = CancellationToken::new();
    let mut server = tokio::spawn(serve_both(listener, reloader, router, limits, stop.clone(), pulse("serving")));
    tracing::info!(address = %bind, version = env!("CARGO_PKG_VERSION"), "serving");
    let (notify, status) = (Notify::from_environment(), format!("serving on {bind}"));
    notify.ready(&status);
    let mut fed = pin!(pulse::feed(notify.clone(), pulses));
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => reload(running.clone(), notify.clone(), status.clone()),
            never = &mut fed => match never {},
            _ = &mut converge => return Err(StartError::Task("converging")),
            _ = &mut drains => return Err(StartError::Task("draining")),
            _ = &mut health => return Err(StartError::Task("health")),
            _ = &mut server => return Err(StartError::Task("serving")),
            () = keeper_ended(&mut keeper) => return Err(StartError::Task("speaker's")),
            () = heartbeats.ended() => return Err(StartError::Task("heartbeats'")),
            () = owning.ended() => return Err(StartError::Task("owning")),
        }
    }
    tracing::info!("stopping; VIPs, routes and the speaker stay as they are");
    notify.stopping();
    stop.cancel();
    let _ = server.await; // its panic is reported by the hook
    heartbeats.part().await;
    Ok(())
}

/// Serves the network, and root on the UNIX socket if there can be one: the controller needs none of it.
async fn serve_both(
    listener: TcpListener,
    reloader: Arc<Reloader>,
    router: axum::Router,
    limits: impl Fn() -> Limits + Clone + Send + Sync + 'static,
    stop: CancellationToken,
    pulse: Pulse,
) {
    let back_door = match local::listen(Path::new(local::SOCKET)) {
        Ok(listener) => Some(tokio::spawn(local::serve(listener, router.clone(), limits.clone(), stop.clone()))),
        Err(error) => {
            tracing::error!(%error, "amphoractl will not work: the API cannot listen on {}", local::SOCKET);
            None
        }
    };
    serve::serve(listener, reloader, router, limits, stop, pulse).await;
    if let Some(back_door) = back_door {
        let _ = back_door.await; // its panic is reported by the hook
    }
}

/// Takes up the state of the agent before this one, of whatever kind.
async fn take_up(config: &Config, directory: &Path, kernel: &Kernel, pulse: Pulse) -> Result<Owner, StartError> {
    private_directory(directory).map_err(|e| StartError::Directory(directory.to_owned(), e))?;
    let state = directory.join("state");
    let first = !state.exists();
    let (owner, _) = Owner::start(&state, pulse)?;
    if first {
        take_over(config, kernel, &owner).await?;
    }
    complete(config, &owner).await;
    Ok(owner)
}

/// What a Python agent has plugged becomes the state of an agent that has none, and what it has put into the kernel for
/// that becomes this agent's. Cut off, it is begun again: there is no state before the one commit, which is the last step.
async fn take_over(config: &Config, kernel: &Kernel, owner: &Owner) -> Result<(), StartError> {
    let links = [kernel.inside().links().await?, kernel.outside().links().await?].concat();
    let there: Vec<_> = links.into_iter().filter_map(|l| l.mac).collect();
    let changes = import::read(&config.paths, &there).map_err(StartError::TakeOver)?;
    if changes.is_empty() {
        return Ok(());
    }
    let mut desired = Desired::default();
    changes.iter().cloned().for_each(|change| desired.apply(change));
    kernel.claim(&resolve::kernel(&desired, &Facts::default(), &Policy::of(config))).await;
    crash::point("take-over: claimed, not durable");
    tracing::info!(plugs = changes.len(), "taken over from the agent that was here before");
    let committed = owner.commit(move |_| Ok(changes.clone())).await;
    committed.map(drop).map_err(|e| StartError::TakeOver(std::io::Error::other(e)))
}

/// Says of the plugs of an older release's state who holds their VIPs. Durable, so that another topology in the
/// configuration is not taken for what they were plugged with.
async fn complete(config: &Config, owner: &Owner) {
    let policy = Policy::of(config);
    let complete = move |d: &Desired| Ok(resolve::completed(d, &policy));
    if let Err(error) = owner.commit(complete).await {
        tracing::error!(error = &error as &dyn std::error::Error, "who holds the VIPs could not be made durable");
    }
}

/// Whoever runs haproxy and keepalived.
fn services(runner: Runner, directory: &Path) -> io::Result<Services> {
    let systemd = systemd::chosen(runner);
    tracing::info!(runner = if systemd { "systemd" } else { "the agent itself" }, "services");
    if systemd {
        let settings = Settings {
            units: "/etc/systemd/system".into(),
            upstream: "/usr/lib/systemd/system".into(),
            namespace: Path::new("/run/netns").join(NAMESPACE),
            agent: programs::own_path(),
        };
        return Ok(Services::new(Backend::Systemd(Systemd::open(settings)?)));
    }
    let places = Places {
        definitions: directory.join("services"),
        runtime: "/run/amphora-agent/services".into(),
        logs: "/var/log".into(),
        namespace: NAMESPACE.to_owned(),
        helper: "/proc/self/exe".into(),
    };
    Ok(Services::new(Backend::Direct(Direct::open(places)?)))
}

async fn keeper_ended(keeper: &mut Option<tokio::task::JoinHandle<()>>) {
    match keeper {
        Some(keeper) => drop(keeper.await), // its panic is reported by the hook
        None => std::future::pending().await,
    }
}

async fn lock(path: &Path) -> Result<Lock, StartError> {
    let (start, mut said) = (Instant::now(), false);
    loop {
        match Lock::take(path).map_err(|e| StartError::Lock(path.to_owned(), e))? {
            Some(lock) => return Ok(lock),
            None if !said => {
                let (lock, longest) = (path.display(), PREDECESSOR.as_secs());
                // One that was told to stop lets its last requests end.
                tracing::info!(%lock, "another amphora-agent is running; waiting up to {longest} s for its end");
                said = true;
            }
            None if start.elapsed() > PREDECESSOR => return Err(StartError::Running(path.to_owned())),
            None => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

/// For root alone, in a parent that is for all: haproxy's files are there too.
fn private_directory(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
    let parent = path.parent().unwrap_or(Path::new("/"));
    std::fs::create_dir_all(parent)?;
    match std::fs::DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700))?,
    }
    std::fs::File::open(parent)?.sync_all()
}

/// The links that have an address where the agent runs: the management interface, and whatever else is not for
/// plugging. A NIC that Nova plugs later comes without one.
async fn links_in_use(kernel: &Kernel) -> Result<Vec<u32>, netns::Error> {
    let used = kernel.outside().addresses().await?;
    let global = |index| used.iter().any(|a| a.index == index && a.scope == netns::Scope::Global);
    let links = kernel.outside().links().await?;
    Ok(links.into_iter().map(|l| l.index).filter(|i| global(*i)).collect())
}

/// Reads the configuration again where waiting for a disk holds nobody up.
fn reload(running: Arc<Running>, notify: Notify, status: String) {
    tokio::task::spawn_blocking(move || {
        notify.reloading();
        let stays = "the configuration is not usable; the old one stays";
        match running.reload() {
            Ok(()) => return notify.ready(&status),
            Err(ReloadError::Unusable(problems)) => {
                for problem in problems {
                    tracing::error!(%problem, "{stays}");
                }
            }
            Err(error) => tracing::error!(error = &error as &dyn std::error::Error, "{stays}"),
        }
        notify.ready(&format!("{status}; {stays}"));
    });
}
