//! The program as an operator meets it: flags, exit codes, signals.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, ExitStatus, Output, Stdio},
    time::{Duration, Instant},
};

use rustls::version::TLS13;

use crate::{
    front,
    pki::{self, Authority},
};

fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_amphora-agent"));
    command.env_remove("JOURNAL_STREAM").env_remove("RUST_LOG");
    command
}

/// Runs with these files as `a.conf` and conf.d.
fn run(flags: &[&str], main: &str, extension: &str) -> Output {
    let directory = tempfile::tempdir().unwrap();
    let (file, conf_d) = (directory.path().join("a.conf"), directory.path().join("conf.d"));
    fs::create_dir(&conf_d).unwrap();
    fs::write(&file, main).unwrap();
    fs::write(conf_d.join("bgp.conf"), extension).unwrap();
    program().args(flags).arg("--config-dir").arg(conf_d).arg("--config-file").arg(file).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_good_configuration_is_ok_and_can_be_printed() {
    let (directory, ca) = (tempfile::tempdir().unwrap(), Authority::new());
    let shown = directory.path().display();
    let main = format!(
        "[health_manager]\nheartbeat_key = canary\n[amphora_agent]\nagent_server_cert = {shown}/server.pem\nagent_server_ca = {shown}/ca.pem\n"
    );
    let (main, extension) = (main.as_str(), "[distributor]\nvip_mode = noarp\n");
    // The certificates are a part of it.
    let checked = run(&["--check-config"], main, extension);
    assert_eq!(checked.status.code(), Some(78));
    assert!(text(&checked.stderr).contains("server.pem"), "{}", text(&checked.stderr));
    fs::write(directory.path().join("server.pem"), ca.server().pem).unwrap();
    fs::write(directory.path().join("ca.pem"), &ca.pem).unwrap();
    let checked = run(&["--check-config"], main, extension);
    assert_eq!((checked.status.code(), text(&checked.stdout)), (Some(0), "OK\n".to_owned()));
    let printed = run(&["--print-effective-config"], main, extension);
    let shown = text(&printed.stdout);
    assert!(
        shown.contains("heartbeat_key = ***\n") && shown.contains("vip_mode = noarp\n") && !shown.contains("canary")
    );
    let again = run(&["--print-effective-config"], &shown, "");
    assert_eq!(text(&again.stdout), shown);
}

#[test]
fn a_bad_configuration_is_exit_78_with_every_problem() {
    for flags in [&["--check-config"][..], &["--print-effective-config"], &[]] {
        let output = run(
            flags,
            "[haproxy_amphora]\nbind_port = x\n",
            "[distributor]\nvip_mode = x\nhaproxy_policy = x\n[bgp]\nlocal_as = 0\n",
        );
        let told = text(&output.stderr);
        assert_eq!(output.status.code(), Some(78), "{flags:?}: {told}");
        for problem in [
            "a.conf:2: [haproxy_amphora] bind_port",
            "bgp.conf:2: [distributor] vip_mode",
            "bgp.conf:3: [distributor] haproxy_policy",
            "bgp.conf:5: [bgp] local_as",
        ] {
            assert!(told.contains(problem), "{problem}: {told}");
        }
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn usage_is_its_own_exit_code() {
    let version = program().arg("--version").output().unwrap();
    // The image's builder reads the commit from it.
    let wanted = format!("amphora-agent {} ({})\n", env!("CARGO_PKG_VERSION"), env!("AMPHORA_COMMIT"));
    assert_eq!(text(&version.stdout), wanted);
    assert!(text(&program().arg("--help").output().unwrap().stdout).contains("--config-dir <DIR>"));
    assert_eq!(program().arg("--frobnicate").output().unwrap().status.code(), Some(64));
    let file = tempfile::NamedTempFile::new().unwrap();
    let filter = program().env("RUST_LOG", "a=b=c").arg("--config-file").arg(file.path()).output().unwrap();
    assert_eq!(filter.status.code(), Some(78));
    assert!(text(&filter.stderr).contains("RUST_LOG is not a log filter"), "{}", text(&filter.stderr));
}

/// A running agent; ended when dropped.
struct Agent(Child);

impl Agent {
    /// Runs with `descriptors` file descriptors at most and waits until it listens on `port`.
    fn start(directory: &Path, ca: &Authority, port: u16, descriptors: u32) -> Self {
        fs::write(directory.join("server.pem"), ca.server().pem).unwrap();
        fs::write(directory.join("ca.pem"), &ca.pem).unwrap();
        Self::configure(directory, port);
        // With a /run of its own: the agent's lock and namespace are not this machine's.
        let limited = format!("mount -t tmpfs none /run && ulimit -n {descriptors} && exec \"$0\" \"$@\"");
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", &limited, env!("CARGO_BIN_EXE_amphora-agent"), "--config-file"]);
        command.arg(directory.join("a.conf")).arg("--config-dir").arg(directory);
        command.env_remove("JOURNAL_STREAM").env_remove("RUST_LOG").stderr(Stdio::piped());
        let mut agent = Self(command.spawn().unwrap());
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(agent.0.try_wait().unwrap().is_none(), "the agent ended");
            std::thread::sleep(Duration::from_millis(10));
        }
        agent
    }

    fn configure(directory: &Path, port: u16) {
        let shown = directory.display();
        let text = format!(
            "[haproxy_amphora]\nbase_path = {shown}/state\nbind_host = 127.0.0.1\nbind_port = {port}\n[amphora_agent]\nagent_server_cert = {shown}/server.pem\nagent_server_ca = {shown}/ca.pem\n"
        );
        fs::write(directory.join("a.conf"), text).unwrap();
    }

    fn signal(&self, signal: nix::sys::signal::Signal) {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.0.id()).unwrap());
        nix::sys::signal::kill(pid, signal).unwrap();
    }

    fn exit(&mut self) -> ExitStatus {
        let deadline = Instant::now() + Duration::from_secs(10);
        while Instant::now() < deadline {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("the agent does not end");
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[tokio::test]
async fn out_of_descriptors_it_still_answers() {
    let (directory, ca, port) = (tempfile::tempdir().unwrap(), Authority::new(), free_port());
    let mut agent = Agent::start(directory.path(), &ca, port, 64); // 48 of them for connections, and a dozen of its own
    let idle: Vec<_> = (0..100).map(|_| TcpStream::connect(("127.0.0.1", port)).unwrap()).collect();
    let client = pki::client(&ca, Some(&ca.controller()), &TLS13);
    for _ in 0..20 {
        let start = Instant::now();
        let mut tls = front::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port)), &client).await.unwrap();
        assert!(front::ask(&mut tls, "/").await.unwrap().contains(r#"{"api_version":"1.0"}"#));
        assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    }
    drop(idle);
    agent.signal(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(agent.exit().code(), Some(0));
    let mut told = String::new();
    agent.0.stderr.take().unwrap().read_to_string(&mut told).unwrap();
    assert!(told.contains("Too many open files"), "the limit was not reached: {told}");
}

#[test]
fn hangup_reads_again_and_term_ends_it() {
    use nix::sys::signal::Signal::{SIGHUP, SIGTERM};
    let directory = tempfile::tempdir().unwrap();
    let port = free_port();
    let mut agent = Agent::start(directory.path(), &Authority::new(), port, 1024);
    let mut lines = BufReader::new(agent.0.stderr.take().unwrap());
    let mut next = |words: &str| loop {
        let mut line = String::new();
        assert_ne!(lines.read_line(&mut line).unwrap(), 0, "the agent ended without saying {words}");
        if line.contains(words) {
            return line;
        }
    };
    agent.signal(SIGHUP);
    next("configuration read again: nothing to change");
    fs::write(directory.path().join("a.conf"), "[haproxy_amphora]\nbind_port = x\n").unwrap();
    agent.signal(SIGHUP);
    let told = next("the old one stays");
    assert!(told.contains("a.conf:2: [haproxy_amphora] bind_port"), "{told}");
    agent.signal(SIGTERM);
    let status = agent.exit();
    let mut rest = String::new();
    lines.read_to_string(&mut rest).unwrap();
    assert_eq!(status.code(), Some(0), "{rest}");
    assert!(!told.contains('\u{1b}') && !rest.contains('\u{1b}'), "colours where there is no terminal");
}

#[test]
fn without_its_certificate_it_says_so_and_may_be_restarted() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("a.conf");
    let shown = directory.path().display();
    fs::write(&file, format!("[amphora_agent]\nagent_server_cert = {shown}/none.pem\n")).unwrap();
    let output = program().arg("--config-file").arg(file).arg("--config-dir").arg(directory.path()).output().unwrap();
    let told = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("none.pem: cannot be read") && told.contains("because: No such file"), "{told}");
}
