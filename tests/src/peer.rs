//! The incumbent: Octavia's own Python agent, as PyPI has it, in an amphora of the lab. To compare with, never to build
//! on.

use std::net::Shutdown;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::thread;

use crate::amphora::{Amphora, HAPROXY_NETNS};
use crate::error::{Result, io};
use crate::octavia::environment;
use crate::place::command;

/// Where haproxy's user and group are configured in the stock image (`haproxy-octavia` element).
const USER_GROUP: &str = "/var/lib/octavia/haproxy-default-user-group.conf";
/// The socket of the image's rsyslog. The Python agent does not start without it.
const LOG_SOCKET: &str = "/run/rsyslog/octavia/log";
/// Programs the image has beside the agent's own.
const PROGRAMS: &str = "/run/peer/bin";

/// A running Python agent. Its process is the amphora's agent; this holds what it needs beside it.
#[derive(Debug)]
pub struct Peer {
    log: UnixDatagram,
}

impl Peer {
    /// Starts Octavia's agent in an amphora whose agent is not running, with the amphora's own configuration file and
    /// production paths. [`Amphora::wait_api`], [`Amphora::stop_agent`] and the others then mean this agent.
    ///
    /// # Errors
    /// [`crate::Error::Missing`] where Octavia is not installed: see [`environment`].
    pub fn start(amphora: &Amphora) -> Result<Self> {
        let programs = environment()?.join("bin");
        let node = amphora.node();
        if !node.within(|| Path::new(PROGRAMS).exists())? {
            // It writes units to /usr/lib/systemd/system and calls a script in /usr/local/bin: both are this machine's
            // own, so the node gets others in their place. A node cannot scan the machine's PCI bus for a NIC that is not
            // there, and the agent takes it that a bus it cannot find needs none.
            for place in ["/usr/lib/systemd/system", "/usr/local/bin", "/sys/bus/pci"] {
                node.run(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", place])?;
            }
            let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("octavia/peer");
            let install = |name: &str, to: &str| {
                let from = ours.join(name);
                let text = std::fs::read(&from).map_err(io(from.display().to_string()))?;
                node.write_file(&format!("{to}/{name}"), text, 0o755)
            };
            install("systemctl", PROGRAMS)?;
            install("lvs-masquerade.sh", "/usr/local/bin")?;
            // What is needed of the image's unit amphora-netns, without which haproxy is not started there; its other lines
            // set sysctls of the whole machine and load modules.
            node.run(["ip", "netns", "add", HAPROXY_NETNS])?;
            amphora.haproxy_netns()?.ip("link set lo up")?;
        }
        write_user_group(amphora)?;
        let log = collect_log(amphora)?;
        let path = format!("{PROGRAMS}:{}:/usr/sbin:/usr/bin:/sbin:/bin", programs.display());
        let mut agent = command([programs.join("amphora-agent")]);
        agent.args(["--config-file", "/etc/octavia/amphora-agent.conf"]).env("PATH", path);
        amphora.set_agent(node.spawn("peer", &mut agent)?);
        Ok(Self { log })
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.log.shutdown(Shutdown::Both); // its reader ends
    }
}

/// Writes what the image's build leaves for haproxy on Debian.
pub fn write_user_group(amphora: &Amphora) -> Result<()> {
    amphora.node().write_file(USER_GROUP, "global\n    group nogroup\n", 0o644)
}

/// Reads the log socket in place of rsyslog, and throws away what comes: the agent's log is on its standard error too.
fn collect_log(amphora: &Amphora) -> Result<UnixDatagram> {
    let bind = || {
        let path = Path::new(LOG_SOCKET);
        std::fs::create_dir_all(path.parent().expect("a file is in a directory"))?;
        let _ = std::fs::remove_file(path); // an earlier agent's
        UnixDatagram::bind(path)
    };
    let socket = amphora.node().within(bind)?.map_err(io(LOG_SOCKET))?;
    let reader = socket.try_clone().map_err(io(LOG_SOCKET))?;
    thread::spawn(move || {
        let mut line = [0; 8192];
        while reader.recv(&mut line).is_ok_and(|length| length > 0) {}
    });
    Ok(socket)
}
