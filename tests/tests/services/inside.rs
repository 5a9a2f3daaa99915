//! What the contract needs inside its machine: the backend under test, haproxy as a service, and looking.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use amphora_agent::services::{
    Backend, Direct, Places, ReloadSignal, Service, ServiceName, Services, Settings, Status, Systemd,
};
use lab::amphora::HAPROXY_NETNS;
use netns::Namespace;

/// Which backend is under test.
pub(crate) const BACKEND: &str = "CONTRACT_BACKEND";
/// The agent's program, as this machine sees it.
pub(crate) const AGENT: &str = "CONTRACT_AGENT";
/// A ceiling, for a machine that is busy with other tests.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// One case of the contract: its backend, and a service's name and port that no other case has.
pub(crate) struct Case {
    pub(crate) services: Services,
    pub(crate) name: ServiceName,
    pub(crate) port: u16,
    directory: PathBuf,
}

/// Runs a case on the backend under test.
pub(crate) fn run<F: Future<Output = ()>>(name: &str, port: u16, case: impl FnOnce(Case) -> F) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let directory = PathBuf::from("/var/lib/contract").join(name);
        fs::create_dir_all(&directory).unwrap();
        let services = open(&directory);
        case(Case { services, name: ServiceName::new(name).unwrap(), port, directory }).await;
    });
}

fn open(directory: &Path) -> Services {
    match std::env::var(BACKEND).expect("run by the outer tests").as_str() {
        "direct" => Services::new(Backend::Direct(Direct::open(places(directory)).unwrap())),
        "systemd" => Services::new(Backend::Systemd(Systemd::open(settings()).unwrap())),
        other => panic!("no backend {other}"),
    }
}

/// As in the image.
pub(crate) fn settings() -> Settings {
    Settings {
        units: "/etc/systemd/system".into(),
        upstream: "/usr/lib/systemd/system".into(),
        namespace: Path::new("/run/netns").join(HAPROXY_NETNS),
        agent: std::env::var_os(AGENT).expect("run by the outer tests").into(),
    }
}

/// Where the direct backend of a case keeps its own; `/run` goes with a reboot.
pub(crate) fn places(directory: &Path) -> Places {
    Places {
        definitions: directory.join("definitions"),
        runtime: PathBuf::from("/run").join(directory.file_name().unwrap()),
        logs: directory.to_owned(),
        namespace: HAPROXY_NETNS.to_owned(),
        helper: std::env::var_os(AGENT).expect("run by the outer tests").into(),
    }
}

impl Case {
    /// The agent goes and another comes.
    pub(crate) fn another_agent(&mut self) {
        self.services = open(&self.directory);
    }

    pub(crate) fn places(&self) -> Places {
        places(&self.directory)
    }

    /// The agent ends, `kill` ends every process, and the machine comes up again, without what was in `/run`.
    pub(crate) async fn reboot(&mut self, kill: impl FnOnce()) {
        let places = self.places();
        let elsewhere = self.directory.join("nothing");
        self.services = open(&elsewhere);
        // The last agent's tasks end when they see that nobody can call them any more.
        tokio::time::sleep(Duration::from_millis(200)).await;
        kill();
        fs::remove_dir_all(places.runtime).unwrap();
        self.another_agent();
    }

    fn configuration(&self) -> PathBuf {
        self.directory.join("haproxy.cfg")
    }

    /// Writes a haproxy.cfg whose frontend answers with `text`; `more` goes into the frontend.
    pub(crate) fn configure(&self, text: &str, more: &str) {
        let contents = format!(
            "global\n  stats socket {0}/stats.sock\ndefaults\n  mode http\n  timeout client 5s\n  timeout server 5s\n  \
             timeout connect 5s\nfrontend f\n  bind 127.0.0.1:{1}\n  http-request return status 200 content-type \
             text/plain string {text}\n{more}\n",
            self.directory.display(),
            self.port
        );
        fs::write(self.configuration(), contents).unwrap();
    }

    /// haproxy, as Octavia runs it.
    pub(crate) fn haproxy(&self) -> Service {
        let configuration = self.configuration().display().to_string();
        let words = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
        let pid = self.directory.join("pid").display().to_string();
        let command = words(&["/usr/sbin/haproxy", "-Ws", "-f", &configuration, "-p", &pid]);
        let mut service = Service::new(self.name.clone(), "HAProxy of a test", command);
        service.checks = vec![words(&["/usr/sbin/haproxy", "-c", "-f", &configuration])];
        service.reload = ReloadSignal::Usr2;
        service.reload_forks = true;
        service.notify = true;
        service.sandbox.writable = vec![self.directory.clone()];
        let capabilities = ["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_KILL", "CAP_NET_BIND_SERVICE", "CAP_SYS_RESOURCE"];
        service.sandbox.capabilities = words(&capabilities);
        service
    }

    /// A shell program in haproxy's place, for what no good program does.
    pub(crate) fn shell(&self, script: &str) -> Service {
        let command = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
        let mut service = Service::new(self.name.clone(), "A program of a test", command);
        service.notify = true;
        service.sandbox.writable = vec![self.directory.clone()];
        service
    }

    /// What the frontend answers.
    pub(crate) fn answer(&self) -> Result<String, String> {
        let ask = || {
            let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok::<_, std::io::Error>(answer)
        };
        let answer = Namespace::find(HAPROXY_NETNS).unwrap().unwrap().run(ask).unwrap();
        let answer = answer.map_err(|error| error.to_string())?;
        Ok(answer.rsplit_once("\r\n\r\n").unwrap().1.to_owned())
    }

    /// The main process of a service that runs.
    pub(crate) async fn pid(&self) -> u32 {
        match self.services.status(&self.name).await.unwrap() {
            Status::Active { pid, .. } => pid,
            other => panic!("{other:?}"),
        }
    }

    /// Waits until the status is as wanted, woken by events alone.
    pub(crate) async fn until(&self, wanted: impl Fn(&Status) -> bool) -> Status {
        let mut events = self.services.events();
        let mut last = None;
        let wait = async {
            loop {
                let status = self.services.status(&self.name).await.unwrap();
                if wanted(&status) {
                    return status;
                }
                last = Some(status);
                let _ = events.recv().await; // a lagging receiver looks as well
            }
        };
        let found = tokio::time::timeout(PATIENCE, wait).await;
        found.unwrap_or_else(|_| panic!("still {last:?}"))
    }

    /// A place of its own.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Text that is in the command line of haproxy and its workers, and of no other process.
    pub(crate) fn trace(&self) -> String {
        self.configuration().display().to_string()
    }
}

/// Sends a signal to a process that is there.
pub(crate) fn kill(pid: u32, signal: nix::sys::signal::Signal) {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid.try_into().unwrap()), signal).unwrap();
}

/// The processes whose command line holds `needle`.
pub(crate) fn processes(needle: &str) -> Vec<u32> {
    let pids = fs::read_dir("/proc").unwrap().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let line = |pid: &u32| fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    pids.filter(|pid| *pid != std::process::id() && line(pid).contains(needle)).collect()
}
