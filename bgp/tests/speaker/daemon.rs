//! gobgpd, 3.10 and 4.x, run as the agent runs it.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::OnceLock,
    time::Duration,
};

use bgp::{Account, Flags, Program, Speaker};
use tempfile::TempDir;

use crate::{node::Node, until};

/// One version of gobgpd.
#[derive(Clone, Debug)]
pub(crate) struct Gobgpd {
    pub(crate) path: PathBuf,
    pub(crate) flags: Flags,
}

impl Gobgpd {
    fn at(path: PathBuf) -> Result<Self, String> {
        let ask = |argument| {
            let output = Command::new(&path).arg(argument).output().map_err(|e| format!("{}: {e}", path.display()))?;
            Ok::<_, String>(String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
        };
        let flags = Flags::parse(&ask("--version")?, &ask("--help")?).ok_or("it does not say its version")?;
        Ok(Self { path, flags })
    }

    /// The installed one. Its absence is a failure.
    pub(crate) fn installed() -> Self {
        Self::at("/usr/bin/gobgpd".into()).unwrap()
    }

    /// Debian unstable's, unpacked beside; without it a line on the terminal says why.
    pub(crate) fn unstable(test: &str) -> Option<Self> {
        static FOUND: OnceLock<Result<Gobgpd, String>> = OnceLock::new();
        let found = FOUND.get_or_init(|| {
            let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
            let folder = root.join("build/gobgp4");
            let run =
                Command::new(root.join("tests/fetch-gobgp4.sh")).arg(&folder).output().map_err(|e| e.to_string())?;
            if !run.status.success() {
                return Err(String::from_utf8_lossy(&run.stderr).trim().to_owned());
            }
            Self::at(folder.join("usr/bin/gobgpd"))
        });
        found.clone().inspect_err(|why| drop(writeln!(std::io::stderr(), "SKIPPED v4::{test}: {why}"))).ok()
    }
}

/// A gobgpd in a node; it ends with the node.
pub(crate) struct Daemon<'a> {
    node: &'a Node,
    pub(crate) gobgpd: Gobgpd,
    pub(crate) program: Program,
    process: Child,
    folder: TempDir,
}

impl<'a> Daemon<'a> {
    pub(crate) fn start(node: &'a Node, gobgpd: &Gobgpd) -> Self {
        let folder = tempfile::Builder::new()
            .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .tempdir()
            .unwrap();
        // where the account can read it, for a checkout may lie in a private home
        let path = folder.path().join("gobgpd");
        std::fs::copy(&gobgpd.path, &path).unwrap();
        let program = Program {
            path,
            socket: folder.path().join("run/gobgpd.sock"),
            account: Account { uid: 64_179, gid: 64_179 },
        };
        let process = Self::exec(node, gobgpd, &program, &folder);
        Self { node, gobgpd: gobgpd.clone(), program, process, folder }
    }

    fn exec(node: &Node, gobgpd: &Gobgpd, program: &Program, folder: &TempDir) -> Child {
        program.prepare().unwrap();
        let log = std::fs::OpenOptions::new().create(true).append(true).open(folder.path().join("log")).unwrap();
        let process = node
            .command("env")
            .args(program.environment().map(|(name, value)| format!("{name}={value}")))
            .args(program.command(&gobgpd.flags))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        until("gobgpd listens", || std::os::unix::net::UnixStream::connect(&program.socket).is_ok());
        process
    }

    pub(crate) async fn connect(&self) -> Speaker {
        Speaker::connect_within(&self.program.socket, Duration::from_secs(10)).await.unwrap()
    }

    /// Its process id inside the node.
    pub(crate) fn pid(&self) -> String {
        self.node.run("pidof gobgpd").trim().to_owned()
    }

    pub(crate) fn kill(&mut self) {
        self.node.run("kill -9 $(pidof gobgpd)");
        self.process.wait().unwrap();
    }

    pub(crate) fn restart(&mut self) {
        self.process = Self::exec(self.node, &self.gobgpd, &self.program, &self.folder);
    }
}
