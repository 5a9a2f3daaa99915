//! `amphora-agent config-drive`: the machine from Nova's config drive, once an instance, in the place of cloud-init.
//!
//! It is a program of its own, before the network and before the agent: what it writes is what they start with. Everything
//! on the drive is read and checked before anything is written, so that a broken drive leaves a machine as it was and a
//! unit that failed, and the agent not started, with one line that says what and where.

mod apply;
mod cloud_config;
mod device;
mod drive;
mod error;
mod metadata;
mod network;
mod networkd;
mod target;
mod tree;
mod yaml;

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use clap::Parser;

pub use drive::{Drive, File};
pub use error::DriveError;
pub use network::{NetworkError, Nic, Route};
pub use networkd::render;
pub use target::{Target, TargetError};
pub use yaml::YamlError;

use crate::api::error::with_causes;

/// `EX_USAGE`
const EX_USAGE: u8 = 64;
/// How long the drive of a machine that has had one applied is waited for: nothing is needed from it, but it tells whether
/// the disk is still this instance's.
const LOOK_AGAIN: Duration = Duration::from_mins(1);

#[derive(Debug, Parser)]
#[command(name = "config-drive", disable_help_flag = true)]
struct Arguments {
    #[arg(long, value_name = "DIR")]
    directory: Option<PathBuf>,
    #[arg(long, value_name = "ROOT", default_value = "/")]
    root: PathBuf,
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    wait: u32,
}

/// The program, given its arguments without its own name.
pub(crate) fn main(arguments: &[OsString]) -> ExitCode {
    let line = std::iter::once(OsString::from("config-drive")).chain(arguments.iter().cloned());
    let arguments = match Arguments::try_parse_from(line) {
        Ok(arguments) => arguments,
        Err(error) => {
            let _ = error.print(); // nobody is left to be told
            return ExitCode::from(EX_USAGE);
        }
    };
    let wait = Duration::from_secs(arguments.wait.into());
    match run(arguments.directory.as_deref(), &arguments.root, wait) {
        Ok(said) => {
            for line in said {
                eprintln!("config-drive: {line}");
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("config-drive: {}", with_causes(&error));
            ExitCode::FAILURE
        }
    }
}

/// Applies the drive in `directory`, or the one that is found within `wait`, to the tree at `root`. Returns what there is to
/// say about it.
pub fn run(directory: Option<&Path>, root: &Path, wait: Duration) -> Result<Vec<String>, DriveError> {
    let machine = apply::Machine::open(root)?;
    let known = machine.applied()?;
    let found = open(directory, if known.is_some() { wait.min(LOOK_AGAIN) } else { wait });
    let (tree, meta_data, instance) = match (found, known) {
        (Ok(found), _) => found,
        (Err(error @ DriveError::NoDirectory(_)), _) | (Err(error), None) => return Err(error),
        (Err(error), Some(known)) => {
            let goes_on = format!("the drive of instance {known} was applied before, and nothing is needed from it");
            return Ok(vec![with_causes(&error), goes_on]);
        }
    };
    let _alone = machine.lock()?;
    match machine.applied()? {
        Some(known) if known == instance => {
            return Ok(vec![format!("the drive of instance {instance} was applied before; nothing to do")]);
        }
        Some(known) => return Err(DriveError::OtherInstance { disk: known, drive: instance }),
        None => {}
    }
    let (network_data, user_data) = (tree.file("network_data.json")?, tree.file("user_data")?);
    let metadata = metadata::parse(&meta_data)?;
    let drive = Drive::new(metadata, network_data.as_deref(), user_data.as_deref(), |name| tree.content(name))?;
    machine.check(&drive)?;
    let missing = machine.apply(&drive)?;
    let applied = format!(
        "applied the drive of instance {}: {} files, {} NICs",
        drive.instance,
        drive.files.len(),
        drive.nics.len()
    );
    Ok(drive.notes.into_iter().chain(missing).chain([applied]).collect())
}

/// The drive, its `meta_data.json`, and whose it is.
fn open(directory: Option<&Path>, wait: Duration) -> Result<(tree::Tree, Vec<u8>, String), DriveError> {
    let tree = match directory {
        Some(directory) => tree::Tree::open(directory)?,
        None => tree::Tree::new(&device::mount(&device::find(wait)?)?)?,
    };
    let meta_data = tree.required("meta_data.json")?;
    let instance = metadata::instance(&meta_data)?;
    Ok((tree, meta_data, instance))
}

#[cfg(test)]
mod tests;
