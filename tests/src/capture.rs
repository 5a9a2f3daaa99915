//! What went over a wire: tcpdump on an interface of a node.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::error::{Error, Result, io};
use crate::place::{Place, command};
use crate::process::{Proc, collect};
use crate::wait::wait_for;

static CAPTURES: AtomicU32 = AtomicU32::new(0);

/// A capture that is running. Without [`Capture::stop`] it ends with its node.
#[derive(Debug)]
pub struct Capture {
    tcpdump: Proc,
    file: PathBuf,
}

/// A capture that has ended: every packet up to [`Capture::stop`] is in it.
#[derive(Debug)]
pub struct Packets {
    file: PathBuf,
}

impl Capture {
    /// Captures what `filter` (pcap-filter(7); empty for all) lets through, and returns once it does.
    pub fn start(place: &Place, nic: &str, filter: &str) -> Result<Self> {
        // Several captures on one NIC each have a file of their own.
        let number = CAPTURES.fetch_add(1, Ordering::Relaxed);
        let log = format!("tcpdump-{nic}-{number}");
        let file = place.log_path(&log).with_extension("pcap");
        let pcap = File::create(&file).map_err(io(file.display().to_string()))?;
        let errors = place.log_path(&log);
        // 32 MiB of buffer and short packets: hundreds of connections open at once.
        let mut program = command(["tcpdump", "--immediate-mode", "-B", "32768", "-s", "256", "-U", "-n", "-i", nic]);
        program
            .args(["-w", "-", filter])
            .stdout(pcap)
            .stderr(File::create(&errors).map_err(io(errors.display().to_string()))?);
        let tcpdump = place.spawn_into(&log, &mut program)?;
        wait_for(&format!("tcpdump captures on {nic}"), Duration::from_secs(5), || {
            let said = fs::read_to_string(&errors).unwrap_or_default();
            if said.contains("listening on") && tcpdump.is_running() { Ok(()) } else { Err(said) }
        })?;
        Ok(Self { tcpdump, file })
    }

    /// Ends the capture.
    ///
    /// # Errors
    /// Also when the kernel dropped packets: then a count of them proves nothing.
    pub fn stop(self) -> Result<Packets> {
        // Packets the kernel has queued for it are still read: SIGINT only ends its loop after the current batch, so give
        // the batch a moment.
        std::thread::sleep(Duration::from_millis(50));
        self.tcpdump.kill(Signal::SIGINT)?;
        self.tcpdump.wait(Duration::from_secs(5))?;
        let said = fs::read_to_string(self.tcpdump.log()).map_err(io("tcpdump's log"))?;
        if !said.lines().any(|line| line == "0 packets dropped by kernel") {
            return Err(Error::Parse { what: "a capture".into(), text: said });
        }
        Ok(Packets { file: self.file })
    }
}

impl Packets {
    /// The packets a filter selects, one line each, as `tcpdump -nn -e -t` prints them.
    pub fn matching(&self, filter: &str) -> Result<Vec<String>> {
        let mut tcpdump = Command::new("tcpdump");
        tcpdump.args(["-nn", "-e", "-t", "-r"]).arg(&self.file).arg(filter);
        let child = tcpdump.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let output = collect(child.map_err(io("start tcpdump"))?, Duration::from_secs(20), "capture", &tcpdump)?;
        let text = String::from_utf8(output.stdout)
            .map_err(|error| Error::Parse { what: "tcpdump's output".into(), text: error.to_string() })?;
        Ok(text.lines().map(str::to_owned).collect())
    }

    /// How many packets a filter selects.
    pub fn count(&self, filter: &str) -> Result<usize> {
        self.matching(filter).map(|packets| packets.len())
    }
}
