//! A machine of the test's own: network, process and mount namespaces that end with the test.

use std::{
    io::{BufRead, BufReader},
    process::{Child, ChildStdin, Command, Output, Stdio},
};

/// Its first process reads a pipe the test holds. When the test ends, however it ends, the pipe
/// closes, that process exits, and the kernel kills all others and drops the network.
pub(crate) struct Node {
    pid: u32,
    _alive: ChildStdin,
    unshare: Child,
}

impl Node {
    pub(crate) fn new() -> Self {
        let init =
            "mount -t tmpfs none /run && mount -t tmpfs none /etc/frr && ip link set lo up && echo up && read -r end";
        let mut unshare = Command::new("unshare")
            .args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", init])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare; these tests need root");
        let alive = unshare.stdin.take().unwrap();
        let mut line = String::new();
        BufReader::new(unshare.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "up\n", "namespaces need root");
        let children = format!("/proc/{0}/task/{0}/children", unshare.id());
        let pid = std::fs::read_to_string(children).unwrap().trim().parse().unwrap();
        Self { pid, _alive: alive, unshare }
    }

    /// A command that will run here.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.pid.to_string(), "--net", "--mount", "--pid", "--", program]);
        command
    }

    /// What a shell line printed, whether it succeeded or not.
    pub(crate) fn try_run(&self, line: &str) -> Output {
        self.command("sh").args(["-c", line]).output().unwrap()
    }

    /// What a shell line printed; panics if it fails.
    pub(crate) fn run(&self, line: &str) -> String {
        let output = self.try_run(line);
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// A cable to another machine; both ends get their addresses (without DAD).
    pub(crate) fn cable(&self, here: (&str, &[&str]), other: &Node, there: (&str, &[&str])) {
        // from our own process namespace, where the other's process id means something
        let made = Command::new("nsenter")
            .args(["--target", &self.pid.to_string(), "--net", "--", "ip", "link", "add", "name", here.0])
            .args(["type", "veth", "peer", "name", there.0, "netns", &other.pid.to_string()])
            .status();
        assert!(made.unwrap().success(), "no veth");
        for (node, (link, addresses)) in [(self, here), (other, there)] {
            for address in addresses {
                node.run(&format!("ip address add {address} dev {link} $(case {address} in *:*) echo nodad;; esac)"));
            }
            node.run(&format!("ip link set {link} up"));
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.unshare.kill(); // --kill-child takes the rest along
        let _ = self.unshare.wait();
    }
}
