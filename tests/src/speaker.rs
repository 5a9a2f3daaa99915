//! Which gobgpd an amphora has, and a bare one without an agent: for the lab's own tests, and as the benches' floor.

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::{Error, Result};
use crate::place::{Place, command};
use crate::process::Proc;
use crate::wait::wait_for;

/// The gobgpd in an amphora's `/usr/bin`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gobgpd {
    /// This machine's package: 3.10 on Debian 12.
    Installed,
    /// The 4.x package unpacked in `build/gobgp4`.
    V4,
}

impl Gobgpd {
    /// Where its programs are.
    ///
    /// # Errors
    /// [`Error::Missing`]: for [`Gobgpd::V4`] a test may skip itself with that reason, see [`crate::skipped`].
    pub fn directory(self) -> Result<PathBuf> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace's root is above this crate");
        let (directory, remedy) = match self {
            Self::Installed => (PathBuf::from("/usr/bin"), "install the package gobgpd"),
            Self::V4 => (root.join("build/gobgp4/usr/bin"), "run tests/fetch-gobgp4.sh"),
        };
        if directory.join("gobgpd").is_file() {
            return Ok(directory);
        }
        Err(Error::Missing(format!("{} has no gobgpd: {remedy}", directory.display())))
    }

    /// Puts it at `/usr/bin/gobgpd` (and its `gobgp`) of a node.
    pub(crate) fn install(self, node: &Place) -> Result<()> {
        let directory = self.directory()?;
        for program in ["gobgpd", "gobgp"] {
            let from = directory.join(program);
            if self != Self::Installed && from.is_file() {
                node.run(["mount", "--bind", &from.to_string_lossy(), &format!("/usr/bin/{program}")])?;
            }
        }
        Ok(())
    }
}

/// Where gobgpd's gRPC socket is, for agents and bare speakers alike.
pub const SOCKET: &str = "/run/gobgpd/gobgpd.sock";

/// A neighbour of a bare gobgpd.
#[derive(Clone, Debug)]
pub struct BareNeighbour {
    /// The ToR's address.
    pub address: IpAddr,
    /// The ToR's AS.
    pub asn: u32,
    /// TCP MD5.
    pub password: Option<String>,
    /// GTSM: the least TTL accepted; 255 for one hop.
    pub ttl_min: Option<u8>,
    /// eBGP over several hops.
    pub multihop: bool,
}

/// Starts a gobgpd without an agent, and waits until it answers [`gobgp`].
pub fn start_bare(node: &Place, asn: u32, router_id: Ipv4Addr, neighbours: &[BareNeighbour]) -> Result<Proc> {
    let mut text = format!("[global.config]\nas = {asn}\nrouter-id = \"{router_id}\"\n");
    for neighbour in neighbours {
        let _ = write!(
            text,
            "[[neighbors]]\n[neighbors.config]\nneighbor-address = \"{}\"\npeer-as = {}\n",
            neighbour.address, neighbour.asn
        );
        if let Some(password) = &neighbour.password {
            let _ = writeln!(text, "auth-password = \"{password}\"");
        }
        text += "[neighbors.timers.config]\nconnect-retry = 5\nhold-time = 9\nkeepalive-interval = 3\n";
        if let Some(ttl_min) = neighbour.ttl_min {
            let _ = writeln!(text, "[neighbors.ttl-security.config]\nenabled = true\nttl-min = {ttl_min}");
        } else if neighbour.multihop {
            text += "[neighbors.ebgp-multihop.config]\nenabled = true\nmultihop-ttl = 4\n";
        }
        for family in ["ipv4-unicast", "ipv6-unicast"] {
            let _ =
                writeln!(text, "[[neighbors.afi-safis]]\n[neighbors.afi-safis.config]\nafi-safi-name = \"{family}\"");
        }
    }
    node.write_file("/etc/gobgpd-bare.toml", text, 0o600)?;
    node.run(["mkdir", "-p", "-m", "0700", "/run/gobgpd"])?;
    node.run(["rm", "-f", SOCKET])?; // gobgpd refuses to start where a killed one left its socket
    let api = format!("unix://{SOCKET}");
    let argv = ["gobgpd", "--api-hosts", &api, "--pprof-disable", "-p", "-f", "/etc/gobgpd-bare.toml"];
    let gobgpd = node.spawn("gobgpd", &mut command(argv))?;
    wait_for("gobgpd answers", Duration::from_secs(10), || {
        if !gobgpd.is_running() {
            return Err("it ended".to_owned());
        }
        gobgp(node, &["global"]).map_err(|error| error.to_string())
    })?;
    Ok(gobgpd)
}

/// Runs gobgp's own command line against the node's speaker.
pub fn gobgp(node: &Place, arguments: &[&str]) -> Result<String> {
    let target = format!("unix://{SOCKET}");
    node.run(["gobgp", "--target", &target].iter().chain(arguments))
}
