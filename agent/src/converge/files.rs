//! The files that other programs read follow the state with every pass, beside the kernel's steps: nobody waits for the
//! disk longer than for the kernel.

use std::io;

use tokio::task::JoinHandle;

use crate::{
    config::Paths,
    interfaces::{self, files},
    resolve::Policy,
    state::Desired,
};

/// The files, as far as this process has written them.
#[derive(Debug, Default)]
pub(super) struct Files {
    /// Where, and what.
    written: Option<(Paths, interfaces::Files)>,
}

/// Files that are being written.
pub(super) struct Writing {
    files: (Paths, interfaces::Files),
    work: JoinHandle<io::Result<()>>,
}

impl Files {
    /// Begins to write what the files are to say, unless they say it.
    pub(super) fn write(&self, desired: &Desired, policy: &Policy, paths: &Paths) -> Option<Writing> {
        let files = (paths.clone(), files(desired, policy));
        if self.written.as_ref() == Some(&files) {
            return None;
        }
        let (paths, new) = files.clone();
        Some(Writing { files, work: tokio::task::spawn_blocking(move || new.write(&paths)) })
    }

    /// Waits for the end of it; whether all is written. The state is durable without.
    pub(super) async fn written(&mut self, writing: Writing) -> bool {
        match writing.work.await {
            Ok(Ok(())) => self.written = Some(writing.files),
            Ok(Err(error)) => {
                tracing::warn!(%error, "the interfaces' files could not be written; trying again");
                return false;
            }
            Err(error) => {
                tracing::error!(%error, "writing the interfaces' files failed");
                return false;
            }
        }
        true
    }
}
