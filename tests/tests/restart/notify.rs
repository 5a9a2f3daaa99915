//! What the agent tells whoever has started it with `NOTIFY_SOCKET`: systemd, or this test.

use std::os::unix::net::UnixDatagram;

use super::*;

/// Four beats a WATCHDOG_USEC.
const WATCHDOG_USEC: &str = "400000";

struct Listener(UnixDatagram);

impl Listener {
    fn next(&self) -> String {
        let mut message = [0; 4096];
        let length = self.0.recv(&mut message).expect("it says nothing");
        String::from_utf8_lossy(&message[..length]).into_owned()
    }

    /// The next message that is no beat.
    fn news(&self) -> String {
        std::iter::repeat_with(|| self.next()).find(|said| said != "WATCHDOG=1").unwrap()
    }

    /// The beats that come within a time.
    fn beats(&self, within: Duration) -> usize {
        let start = Instant::now();
        std::iter::repeat_with(|| self.next())
            .take_while(|_| start.elapsed() < within)
            .filter(|s| s == "WATCHDOG=1")
            .count()
    }
}

#[test]
fn it_says_when_it_is_ready_and_beats_whatever_hangs_beside_it() {
    let mut options = Options::new(TorKind::Bird);
    options.amphorae = 1;
    let fabric = Fabric::new("notify", &options).unwrap();
    fabric.write_configs(Family::V4).unwrap();
    let amphora = &fabric.amphorae[0];
    let socket = amphora.node().within(|| UnixDatagram::bind("/run/notify")).unwrap().unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let listener = Listener(socket);
    let env = [("NOTIFY_SOCKET", "/run/notify"), ("WATCHDOG_USEC", WATCHDOG_USEC), ("AMPHORA_DEADMAN", "timer")];
    let agent = amphora.start_agent(&env).unwrap();

    let ready = listener.news();
    assert!(ready.starts_with("READY=1\nSTATUS=serving on "), "{ready}");
    assert_eq!(amphora.api().unwrap().get("/").unwrap().status, 200, "at the first attempt");
    assert!(listener.beats(Duration::from_secs(1)) >= 2);

    let gobgpd = || match amphora.pids("gobgpd").map_err(|error| chain(&error))?[..] {
        [pid] => Ok(pid),
        ref other => Err(format!("gobgpd has the pids {other:?}")),
    };
    wait_for("gobgpd", PATIENCE, gobgpd).unwrap();
    assert!(amphora.node().run(["pgrep", "-f", "^amphora-agent deadman "]).is_err(), "the timer is the switch");
    amphora.kill_program("gobgpd", Signal::SIGSTOP).unwrap();
    // Longer than the agent waits for an answer.
    assert!(listener.beats(Duration::from_secs(5)) >= 10);
    amphora.kill_program("gobgpd", Signal::SIGCONT).unwrap();

    agent.kill(Signal::SIGHUP).unwrap();
    let said = listener.news();
    assert!(said.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{said}");
    assert_eq!(listener.news(), ready);
    amphora
        .node()
        .write_file("/etc/octavia/amphora-agent.conf.d/90-bad.conf", "[bgp]\nlocal_as = none\n", 0o600)
        .unwrap();
    agent.kill(Signal::SIGHUP).unwrap();
    assert!(listener.news().starts_with("RELOADING=1\n"));
    let said = listener.news();
    assert!(said.starts_with("READY=1\n") && said.contains("the old one stays"), "{said}");

    agent.kill(Signal::SIGTERM).unwrap();
    let said = listener.news();
    assert!(said.starts_with("STOPPING=1\n"), "{said}");
    assert!(agent.wait(PATIENCE).unwrap().success());
}
