//! A virtual machine of the fabric: the amphora image under QEMU, seen from outside only.
//!
//! QEMU runs in a [`Node`], as on a compute host: each NIC is a tap on a bridge with a port of a segment. It emulates the
//! processor (TCG) and does not ask for KVM; `IMAGE_TEST_ACCEL` names another accelerator, and `IMAGE_TEST_QEMU` more words,
//! one a line, such as a kernel of one's own. The image stays as it is, since the machine writes to an overlay. What it says
//! on its first serial console is the log `{name}-serial.log`; on the second is a [`Shell`] that the image does not have.

pub mod drive;
mod qmp;
mod shell;

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;

use crate::addresses::{FRONTEND, Family, MANAGEMENT, amphora_host};
use crate::amphora::{API_PORT, frontend_mac};
use crate::api::Api;
use crate::error::{Error, Result, io};
use crate::fabric::Fabric;
use crate::net::Segment;
use crate::node::Node;
use crate::place::command;
use crate::process::Proc;
use qmp::Qmp;
pub use shell::Shell;

/// QEMU's program.
const QEMU: &str = "qemu-system-x86_64";
const QMP_SOCKET: &str = "/run/qmp.sock";
const SHELL_SOCKET: &str = "/run/shell.sock";
/// How long QEMU may take to start or to end.
const QEMU_TIME: Duration = Duration::from_secs(30);
/// Where NICs can be plugged in later: each needs a port of its own on q35.
const HOT_PLUGS: std::ops::Range<usize> = 1..5;

/// What kind of machine, with its kind of drive for the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Machine {
    /// PCI Express, with the config drive on SATA.
    Q35,
    /// The older PCI, with it on IDE.
    Pc,
}

impl Machine {
    /// Its name, as QEMU has it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Q35 => "q35",
            Self::Pc => "pc",
        }
    }
}

/// How a machine finds its configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Medium {
    /// A CD, as Nova makes it by default.
    Iso9660,
    /// A disk (`config_drive_format = vfat`).
    Vfat,
}

/// What to boot.
#[derive(Clone, Debug)]
pub struct Boot<'a> {
    /// The image; it is only read.
    pub image: &'a Path,
    /// The kind of machine.
    pub machine: Machine,
    /// What the config drive is on.
    pub medium: Medium,
    /// What is on it: see [`drive`].
    pub drive: &'a Path,
    /// Which amphora of the fabric's addresses it is; one that the fabric does not have itself.
    pub index: usize,
}

/// A virtual machine that runs. Dropping it ends it as a loss of power does.
#[derive(Debug)]
pub struct Vm {
    node: Node,
    index: usize,
    id: String,
    machine: Machine,
    serial: PathBuf,
    qemu: Proc,
    qmp: Qmp,
    shell: Shell,
    /// How many NICs it has; the first is the management network's.
    nics: usize,
}

/// The amphora id of machine `index`.
#[must_use]
pub fn id(index: usize) -> String {
    format!("00000000-0000-4000-8000-{:012}", index + 1)
}

/// The MAC of machine `index`'s NIC on the management network.
#[must_use]
pub fn management_mac(index: usize) -> String {
    format!("fa:16:3e:00:10:{:02x}", amphora_host(index))
}

impl Vm {
    /// Powers a machine on that has a NIC on the management network, and does not wait for it to boot.
    ///
    /// # Errors
    /// [`Error::Missing`] without QEMU.
    pub fn boot(fabric: &Fabric, boot: &Boot) -> Result<Self> {
        let (machine, index) = (boot.machine, boot.index);
        let name = format!("vm-{index}");
        let overlay = fabric.workdir.path().join(format!("{name}.qcow2"));
        let image = std::fs::canonicalize(boot.image).map_err(io(boot.image.display().to_string()))?;
        let mut make = command(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b"]);
        run_here(make.arg(image).arg(&overlay))?;

        let node = Node::new(&fabric.workdir, &name)?;
        let serial = node.log_path("serial");
        wire(&node, &fabric.management, 0)?;
        let mut program = command([QEMU]);
        program.args(words(machine));
        program.args(disk("root", &overlay, "qcow2", "virtio-blk-pci,bootindex=1"));
        let reader = match (boot.medium, machine) {
            (Medium::Iso9660, Machine::Q35) => "ide-cd,bus=ide.0",
            (Medium::Iso9660, Machine::Pc) => "ide-cd,bus=ide.1",
            (Medium::Vfat, Machine::Q35) => "ide-hd,bus=ide.0",
            (Medium::Vfat, Machine::Pc) => "ide-hd,bus=ide.1",
        };
        program.args(disk("config", boot.drive, "raw", reader));
        // Without a ROM it is not booted from.
        let nic = format!("virtio-net-pci,id=nic0,netdev=net0,mac={},romfile=", management_mac(index));
        program.args(["-netdev", "tap,id=net0,ifname=tap0,script=no,downscript=no", "-device", &nic]);
        program.args(["-chardev", &format!("file,id=console,path={}", serial.display()), "-serial", "chardev:console"]);
        program.args(["-chardev", &format!("socket,id=shell,path={SHELL_SOCKET},server=on,wait=off")]);
        program.args(["-serial", "chardev:shell", "-qmp", &format!("unix:{QMP_SOCKET},server=on,wait=off")]);
        program.args(shell::credentials());
        let qemu = node.spawn("qemu", &mut program)?;
        let qmp = Qmp::connect(&node, QMP_SOCKET, &qemu, QEMU_TIME)?;
        let shell = Shell::connect(&node, SHELL_SOCKET)?;
        Ok(Self { node, index, id: id(index), machine, serial, qemu, qmp, shell, nics: 1 })
    }

    /// Its amphora id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// `vm-0` and so on.
    #[must_use]
    pub fn name(&self) -> &str {
        self.node.name()
    }

    /// Its address on the management network: what its config drive should say.
    #[must_use]
    pub fn management(&self, family: Family) -> IpAddr {
        MANAGEMENT.host(amphora_host(self.index)).of(family)
    }

    /// Its front-end IP, for the plug call.
    #[must_use]
    pub fn frontend(&self, family: Family) -> IpAddr {
        FRONTEND.host(amphora_host(self.index)).of(family)
    }

    /// The MAC of its front-end NIC, for [`Vm::plug`] and the plug call.
    #[must_use]
    pub fn frontend_mac(&self) -> String {
        frontend_mac(self.index)
    }

    /// Where its first serial console's output is.
    #[must_use]
    pub fn serial(&self) -> &Path {
        &self.serial
    }

    /// Plugs a NIC in while it runs, as Nova does when Octavia attaches a port.
    pub fn plug(&mut self, segment: &Segment, mac: &str) -> Result<()> {
        let number = self.nics;
        assert!(HOT_PLUGS.contains(&number), "a machine has {} slots", HOT_PLUGS.len());
        wire(&self.node, segment, number)?;
        let backend = json!({
            "type": "tap", "id": format!("net{number}"), "ifname": format!("tap{number}"), "script": "no",
            "downscript": "no",
        });
        self.qmp.execute("netdev_add", &backend)?;
        let mut device = json!({
            "driver": "virtio-net-pci", "id": format!("nic{number}"), "netdev": format!("net{number}"), "mac": mac,
            "romfile": "",
        });
        if self.machine == Machine::Q35 {
            device["bus"] = format!("port{number}").into();
        }
        self.qmp.execute("device_add", &device)?;
        self.nics += 1;
        Ok(())
    }

    /// Presses the reset button: everything not on disk is lost, and it boots again.
    pub fn reset(&mut self) -> Result<()> {
        self.qmp.execute("system_reset", &json!({})).map(drop)
    }

    /// Cuts the power.
    pub fn cut_power(&mut self) -> Result<()> {
        let _ = self.qmp.execute("quit", &json!({})); // it may end before it answers
        self.qemu.wait(QEMU_TIME).map(drop)
    }

    /// Whether it is on.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.qemu.is_running()
    }

    /// The shell inside.
    pub fn shell(&mut self) -> &mut Shell {
        &mut self.shell
    }

    /// The controller's client of its agent.
    pub fn api(&self, fabric: &Fabric) -> Result<Api> {
        let to = SocketAddr::new(self.management(Family::V4), API_PORT);
        let tls = fabric.pki.client(Some(fabric.pki.controller()))?;
        Api::new((*fabric.controller).clone(), to, &self.id, tls)
    }
}

/// The NIC of this number as far as the fabric goes: a tap on a bridge with a port of the segment.
fn wire(node: &Node, segment: &Segment, number: usize) -> Result<()> {
    segment.plug(node, &format!("out{number}"), None)?;
    node.sysctl("net/ipv6/conf/default/disable_ipv6", "1")?;
    node.ip(&format!(
        "link add br{number} type bridge stp_state 0 forward_delay 0 mcast_snooping 0
tuntap add dev tap{number} mode tap
link set tap{number} master br{number} up
link set out{number} master br{number} up
link set br{number} up"
    ))
}

fn words(machine: Machine) -> Vec<String> {
    let accelerator = std::env::var("IMAGE_TEST_ACCEL").unwrap_or_else(|_| "tcg,thread=multi".to_owned());
    let mut words: Vec<String> = ["-nodefaults", "-no-user-config", "-display", "none", "-cpu", "max,-svm"]
        .into_iter()
        .chain(["-smp", "2", "-m", "1024", "-rtc", "base=utc", "-accel", &accelerator, "-machine", machine.name()])
        .map(ToOwned::to_owned)
        .collect();
    if machine == Machine::Q35 {
        for port in HOT_PLUGS {
            words.extend(["-device".into(), format!("pcie-root-port,id=port{port},chassis={port},slot={port}")]);
        }
    }
    let more = std::env::var("IMAGE_TEST_QEMU").unwrap_or_default();
    words.extend(more.lines().map(ToOwned::to_owned));
    words
}

/// It need not outlive this machine, so nothing is synced.
fn disk(id: &str, file: &Path, format: &str, device: &str) -> [String; 4] {
    let drive = format!("if=none,id={id},format={format},cache=unsafe,file={}", file.display());
    ["-drive".into(), drive, "-device".into(), format!("{device},drive={id}")]
}

/// Runs a program that touches files only, on this machine.
pub(crate) fn run_here(program: &mut std::process::Command) -> Result<()> {
    let output = program.output().map_err(io(format!("start {}", program.get_program().display())))?;
    if output.status.success() {
        return Ok(());
    }
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    let (command, outcome) = (format!("{program:?}"), output.status.to_string());
    Err(Error::Command { node: "this machine".into(), command, outcome, stderr })
}
