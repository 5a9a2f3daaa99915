//! Which gobgpd an amphora has, and how to ask it.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::place::Place;

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

/// Runs gobgp's own command line against the node's speaker.
pub fn gobgp(node: &Place, arguments: &[&str]) -> Result<String> {
    let target = format!("unix://{SOCKET}");
    node.run(["gobgp", "--target", &target].iter().chain(arguments))
}
