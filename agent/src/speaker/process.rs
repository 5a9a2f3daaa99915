//! gobgpd: as systemd's service where its unit is there ([`super::unit`]), else as our own process.
//!
//! That is no child in the usual sense: it must outlive us (invariant 3), so it gets its own process group, a
//! log file instead of our pipes (a Go program dies of a closed stderr), and nobody waits for it but a
//! reaper. After our own restart it is found by its socket. What ends it when we do not come back is the
//! dead man's switch ([`crate::deadman`]), started before it, or systemd's timer.

use std::{
    fs::OpenOptions,
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use bgp::{Account, Flags, Program};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::{net::UnixStream, process::Command};

use super::{Setup, unit};
use crate::{api::error::with_causes, crash, deadman, services::systemd::Shipped};

/// Where gobgpd writes. Appended to, so `copytruncate` rotates it.
const LOG: &str = "/var/log/gobgpd.log";
/// The account it runs as.
const ACCOUNT: &str = "gobgpd";
/// Its ids where there is no such account: its own all the same, so that no other service can signal it.
const UNNAMED: Account = Account { uid: 59_179, gid: 59_179 };
/// Remembers the socket of the gobgpd that was last started, over a change of the configuration.
const PREVIOUS: &str = "/run/amphora-agent/speaker";
/// From exec to the socket takes 13-36 ms.
const START: Duration = Duration::from_secs(5);
/// How soon systemd is asked again for one that has no socket yet.
const AGAIN: Duration = Duration::from_millis(200);
/// Given for a Cease to reach the peers.
const STOP: Duration = Duration::from_secs(5);

/// The program, looked at once.
#[derive(Debug)]
pub(super) struct Process {
    program: Program,
    flags: Option<Flags>,
    /// Whether services are systemd's.
    systemd: bool,
    /// Said once, not at every attempt.
    complaint: Option<String>,
}

#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error("cannot run {program}")]
    Run { program: PathBuf, source: io::Error },
    #[error("{0} does not look like gobgpd")]
    NotGobgpd(PathBuf),
    #[error("cannot prepare {place}")]
    Prepare { place: PathBuf, source: io::Error },
    #[error("gobgpd ended at once ({0}); see {LOG}")]
    Ended(String),
    #[error("gobgpd did not open its socket within {START:?}; see {LOG}, or the journal of gobgpd.service")]
    NoSocket,
    #[error("gobgpd.service is masked; systemctl unmask gobgpd")]
    Masked,
    #[error("systemd does not start gobgpd.service")]
    Unit(#[source] io::Error),
}

impl Process {
    pub(super) fn new(setup: &Setup, systemd: bool) -> Self {
        let account = Account::named(ACCOUNT).unwrap_or(UNNAMED);
        let program = Program { path: find_gobgpd(), socket: setup.socket.clone(), account };
        Self { program, flags: None, systemd, complaint: None }
    }

    /// Sees to the dead man's switch.
    pub(super) fn watched(&self) {
        if deadman::is_systemds() {
            return;
        }
        if let Err(error) = deadman::start(&self.program.socket) {
            tracing::error!(%error, "no dead man's switch; gobgpd would announce on if this agent died");
        }
    }

    /// Starts gobgpd unless one listens already, and sees to its dead man's switch.
    pub(super) async fn ensure(&mut self, setup: &Setup) {
        crash::point("deadman: before its start");
        self.watched();
        if UnixStream::connect(&setup.socket).await.is_ok() {
            // The agent that started it may have died before it did this.
            if let Err(error) = self.program.take_over() {
                tracing::warn!(%error, "the speaker's socket stays its own account's");
            }
            return;
        }
        let started = match if self.systemd { unit::owner(&setup.socket) } else { Shipped::Not } {
            Shipped::Ours => self.start_unit().await,
            Shipped::Masked => Err(StartError::Masked),
            Shipped::Not => self.start().await,
        };
        match started {
            Ok(()) => self.complaint = None,
            Err(error) => {
                let complaint = with_causes(&error);
                if self.complaint.as_ref() != Some(&complaint) {
                    tracing::error!(error = complaint, "gobgpd cannot be started; trying again");
                }
                self.complaint = Some(complaint);
            }
        }
    }

    async fn start_unit(&self) -> Result<(), StartError> {
        let begin = Instant::now();
        loop {
            unit::start().await.map_err(StartError::Unit)?;
            // One that is ending has no socket any more and still counts as running: it is asked for again.
            match tokio::time::timeout(AGAIN, self.listening()).await {
                Ok(()) => break,
                Err(_) if begin.elapsed() < START => {}
                Err(_) => return Err(StartError::NoSocket),
            }
        }
        let place = &self.program.socket;
        self.program.take_over().map_err(|source| StartError::Prepare { place: place.clone(), source })?;
        tracing::info!("systemd has started gobgpd.service");
        Ok(())
    }

    async fn listening(&self) {
        while UnixStream::connect(&self.program.socket).await.is_err() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    async fn start(&mut self) -> Result<(), StartError> {
        if self.flags.is_none() {
            self.flags = Some(self.look().await?);
        }
        let flags = self.flags.as_ref().expect("looked at above");
        let prepare = |place: &Path| {
            let place = place.to_owned();
            move |source| StartError::Prepare { place, source }
        };
        self.program.prepare().map_err(prepare(&self.program.socket))?;
        let log = OpenOptions::new().create(true).append(true).open(LOG).map_err(prepare(Path::new(LOG)))?;
        let errors = log.try_clone().map_err(prepare(Path::new(LOG)))?;
        let argv = self.program.command(flags);
        let run = |source| StartError::Run { program: self.program.path.clone(), source };
        let mut command = Command::new(&argv[0]);
        command.args(&argv[1..]).envs(self.program.environment());
        command.stdin(Stdio::null()).stdout(log).stderr(errors).process_group(0).kill_on_drop(false);
        crash::point("gobgpd: before exec");
        let mut child = command.spawn().map_err(run)?;
        crash::point("gobgpd: after exec");
        tokio::select! {
            () = self.listening() => {}
            status = child.wait() => return Err(StartError::Ended(status.map_or_else(|e| e.to_string(), |s| s.to_string()))),
            () = tokio::time::sleep(START) => {
                let _ = child.start_kill();
                let _ = child.wait().await;
                return Err(StartError::NoSocket);
            }
        }
        crash::point("gobgpd: listening");
        self.program.take_over().map_err(prepare(&self.program.socket))?;
        let (major, minor) = flags.version;
        tracing::info!(
            pid = child.id(),
            version = format!("{major}.{minor}"),
            uid = self.program.account.uid,
            "started gobgpd"
        );
        tokio::spawn(async move {
            let status = child.wait().await; // or it would stay a zombie
            tracing::warn!(?status, "gobgpd has ended");
        });
        Ok(())
    }

    async fn look(&self) -> Result<Flags, StartError> {
        let say = async |flag: &str| {
            let output = Command::new(&self.program.path).arg(flag).stdin(Stdio::null()).output().await;
            let output = output.map_err(|source| StartError::Run { program: self.program.path.clone(), source })?;
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        };
        let (version, help) = (say("--version").await?, say("--help").await?);
        let flags = Flags::parse(&version, &help).ok_or_else(|| StartError::NotGobgpd(self.program.path.clone()))?;
        if flags.version < (4, 6) {
            tracing::warn!(version = version.trim(), "gobgpd before 4.6 has known faults a peer can reach; upgrade it");
        }
        Ok(flags)
    }
}

/// Whoever listens on the socket.
async fn listener(socket: &Path) -> Option<Pid> {
    let pid = UnixStream::connect(socket).await.ok()?.peer_cred().ok()?.pid()?;
    // From another pid namespace it would be 0, and that would be ourselves.
    (pid > 1).then(|| Pid::from_raw(pid))
}

/// Waits until nobody listens on the socket any more; whether that came to be.
async fn ended(socket: &Path) -> bool {
    let ended = async {
        while UnixStream::connect(socket).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(STOP, ended).await.is_ok()
}

/// Which gobgpd is behind the socket, in the words of the installed program, which is the only one that is run: what the
/// listener runs is its account's choice, and would be run as root here. `None` when it runs another, as after an upgrade
/// of the package.
pub(super) async fn version_behind(socket: &Path) -> Option<(u32, u32)> {
    let pid = listener(socket).await?;
    let installed = find_gobgpd();
    if !may_run(&Path::new("/proc").join(pid.to_string()).join("exe"), &installed) {
        return None;
    }
    let mut command = Command::new(installed);
    let said = command.arg("--version").stdin(Stdio::null()).kill_on_drop(true).output();
    let output = tokio::time::timeout(START, said).await.ok()?.ok()?;
    Flags::parse(&String::from_utf8_lossy(&output.stdout), "").map(|flags| flags.version)
}

/// Whether a process whose program is behind the link `exe` may run `installed`. One that may not be looked at (that takes
/// `CAP_SYS_PTRACE`) may.
fn may_run(exe: &Path, installed: &Path) -> bool {
    let identity = |path: &Path| std::fs::metadata(path).map(|file| (file.dev(), file.ino()));
    match (identity(exe), identity(installed)) {
        (Ok(runs), Ok(installed)) => runs == installed,
        (Err(error), Ok(_)) => error.kind() == io::ErrorKind::PermissionDenied,
        (_, Err(_)) => false,
    }
}

/// Ends the gobgpd behind the socket, gently so that its peers hear of it, and then for good.
pub(super) async fn stop_behind(socket: &Path) {
    let Some(pid) = listener(socket).await else { return };
    let _ = kill(pid, Signal::SIGTERM);
    if !ended(socket).await {
        let _ = kill(pid, Signal::SIGKILL);
    }
}

/// Ends a gobgpd that hangs. Its peers hear nothing of it, and keep the routes for the next one if they do that.
pub(super) async fn kill_behind(socket: &Path) {
    let Some(pid) = listener(socket).await else { return };
    let _ = kill(pid, Signal::SIGKILL);
    ended(socket).await;
}

/// Ends a gobgpd of ours whose socket the configuration speaks of no more: nobody would withdraw what it
/// announces. To be called before anything is unbound.
pub async fn leave_previous(socket: Option<&Path>) -> io::Result<()> {
    let previous = last();
    if let Some(previous) = previous.filter(|p| Some(p.as_path()) != socket) {
        tracing::warn!(socket = %previous.display(), "stopping the gobgpd of an earlier configuration");
        stop_behind(&previous).await;
    }
    match socket {
        Some(socket) => std::fs::write(PREVIOUS, socket.as_os_str().as_encoded_bytes()),
        None => match std::fs::remove_file(PREVIOUS) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        },
    }
}

/// gobgpd, the first in the usual places.
#[must_use]
pub fn find_gobgpd() -> PathBuf {
    let places = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin"];
    let mut found = places.iter().map(|p| Path::new(p).join("gobgpd")).filter(|p| p.is_file());
    found.next().unwrap_or_else(|| "gobgpd".into())
}

/// The socket of the gobgpd that an agent last looked after, on this run of the machine.
#[must_use]
pub fn last() -> Option<PathBuf> {
    std::fs::read_to_string(PREVIOUS).ok().map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_runs_another_program_does_not_run_the_installed_one() {
        let folder = tempfile::tempdir().unwrap();
        let installed = folder.path().join("gobgpd");
        std::fs::copy("/proc/self/exe", &installed).unwrap();
        let exe = Path::new("/proc/self/exe");
        assert!(may_run(exe, &std::fs::read_link(exe).unwrap()));
        assert!(!may_run(exe, &installed), "the same bytes in another file");
        assert!(!may_run(&folder.path().join("gone"), &installed), "it has ended");
        assert!(!may_run(exe, &folder.path().join("gone")), "none is installed");
    }
}
