//! `amphora-agent config-drive`: the machine from Nova's config drive, once an instance, in the place of cloud-init.
//!
//! It is a program of its own, before the network and before the agent: what it writes is what they start with. Everything
//! on the drive is read and checked before anything is written, so that a broken drive leaves a machine as it was and a
//! unit that failed with one line that says what and where.

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
    let tree = match directory {
        Some(directory) => tree::Tree::open(directory)?,
        None => tree::Tree::new(&device::mount(&device::find(wait)?)?)?,
    };
    let metadata = metadata::parse(&tree.required("meta_data.json")?)?;
    let machine = apply::Machine::open(root)?;
    if machine.applied()?.as_ref() == Some(&metadata.instance) {
        return Ok(vec![format!("the drive of instance {} was applied before; nothing to do", metadata.instance)]);
    }
    let (network_data, user_data) = (tree.file("network_data.json")?, tree.file("user_data")?);
    let drive = Drive::new(metadata, network_data.as_deref(), user_data.as_deref(), |name| tree.content(name))?;
    let missing = machine.apply(&drive)?;
    let applied = format!(
        "applied the drive of instance {}: {} files, {} NICs",
        drive.instance,
        drive.files.len(),
        drive.nics.len()
    );
    Ok(drive.notes.into_iter().chain(missing).chain([applied]).collect())
}

#[cfg(test)]
mod tests;
