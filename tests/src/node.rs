//! A node: one machine of the fabric, made of namespaces, with `lab-init` as its PID 1.

use std::io::{BufRead, BufReader};
use std::ops::Deref;
use std::path::Path;
use std::process::{Child, ChildStdin, Stdio};

use crate::error::{Error, Result, io};
use crate::place::{Place, command, start_in_new_namespaces};
use crate::workdir::{Workdir, built_program};

/// A machine. It has its own network, mounts, PIDs and host name; `/etc` and `/var` start as copies of this machine's
/// and `/run` starts empty. Everything in it ends when it is dropped, or when this program ends in whatever way.
#[derive(Debug)]
pub struct Node {
    place: Place,
    init: Child,
    /// PID 1 ends when this closes.
    stdin: Option<ChildStdin>,
}

impl Node {
    /// Boots a node with nothing in it but `lo`.
    pub fn new(workdir: &Workdir, name: &str) -> Result<Self> {
        let mut program = command([built_program("lab-init")?]);
        program.arg(name).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut init = start_in_new_namespaces(&mut program).map_err(io(format!("boot {name}")))?;
        let mut said = String::new();
        let stdout = init.stdout.take().expect("asked for a pipe above");
        BufReader::new(stdout).read_line(&mut said).map_err(io(format!("boot {name}")))?;
        if said != "ready\n" {
            let ended = init.wait().map_err(io(format!("boot {name}")))?;
            return Err(Error::Missing(format!(
                "{name} did not boot: lab-init ended with {ended}; see its message above"
            )));
        }
        let place = Place::of(name, init.id(), workdir.path())?;
        let stdin = init.stdin.take();
        let node = Self { place, init, stdin };
        // DAD would keep the lab's own addresses unusable for a second or two; a test that wants it turns it on.
        node.ip("link set lo up")?;
        Ok(node)
    }

    /// PID 1's id, as this program sees it: for `nsenter --target`.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.init.id()
    }

    /// The command that gives a person a shell here.
    #[must_use]
    pub fn how_to_enter(&self) -> String {
        format!("nsenter --target {} --net --mount --pid --uts", self.pid())
    }

    /// Makes this node forward packets, by a hash of the five-tuple over equal paths, as a router does.
    pub fn forward(&self) -> Result<()> {
        for (key, value) in [
            ("net/ipv4/ip_forward", "1"),
            ("net/ipv6/conf/all/forwarding", "1"),
            // Not policy 1, which takes the hash a packet already has (ip_multipath_l4_keys, net/ipv4/route.c): between
            // namespaces that is the client's socket's, the same for every router, and another after a retransmission.
            ("net/ipv4/fib_multipath_hash_policy", "3"),
            ("net/ipv6/fib_multipath_hash_policy", "3"),
            // Addresses, protocol and ports (include/net/ip_fib.h, FIB_MULTIPATH_HASH_FIELD_*).
            ("net/ipv4/fib_multipath_hash_fields", "55"),
            ("net/ipv6/fib_multipath_hash_fields", "55"),
            // Several ToRs make asymmetric paths, and this machine's defaults are inherited.
            ("net/ipv4/conf/all/rp_filter", "0"),
            ("net/ipv4/conf/default/rp_filter", "0"),
        ] {
            self.sysctl(key, value)?;
        }
        // Each router hashes with a seed of its own. Namespaces share the machine's, and two routers in a row that hash
        // alike polarise: the second sees only the flows of one half, and a next hop of three may get none of them.
        if Path::new("/proc/sys/net/ipv4/fib_multipath_hash_seed").exists() {
            self.sysctl("net/ipv4/fib_multipath_hash_seed", &self.pid().to_string())?;
        }
        Ok(())
    }
}

impl Deref for Node {
    type Target = Place;

    fn deref(&self) -> &Place {
        &self.place
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        drop(self.stdin.take());
        self.place.reap_all();
        let _ = self.init.wait(); // it ended because its input did; how does not matter
    }
}
