//! A start and a reload, judged.

use std::{io, path::Path};

use netns::Namespace;
use rustix::process::Signal;
use tokio::{io::AsyncReadExt as _, time::timeout};

use super::{
    blocking,
    files::{Places, added, length},
    notify::NotifySocket,
    process::{self, Process},
};
use crate::{
    crash,
    services::{Service, ServiceError, processes},
};

const NOT_STARTED: &str = "did not start";
const NOT_RELOADED: &str = "did not reload";

/// Starts a service's main process and waits until it is ready. What fails is gone again.
pub(super) async fn launch(service: &Service, places: &Places, socket: &NotifySocket) -> Result<Process, ServiceError> {
    let late = |text| ServiceError::TimedOut { name: service.name.clone(), what: NOT_STARTED, text };
    let log = places.log(&service.name);
    let mark = length(&log);
    let mut process = None;
    let launch = async {
        clear(service).await?; // an agent that died in the middle of a start may have left it
        // A program that says when it is ready ends by itself when it cannot be, so its checks need not come first: for
        // haproxy they take as long as the start.
        if !service.notify {
            check(service, places).await?;
        }
        start(service, places, socket, &log, mark, &mut process).await
    };
    let result = timeout(service.start_timeout, launch).await.unwrap_or_else(|_| Err(late(added(&log, mark))));
    match (result, process) {
        (Ok(()), Some(process)) => Ok(process),
        (Err(error), Some(process)) => {
            let _ = process.signal(Signal::KILL); // gone, or killed below
            clear(service).await?;
            process.ended().await;
            process.reap();
            Err(error)
        }
        (Err(error), None) => Err(error),
        (Ok(()), None) => unreachable!("a start that went well leaves its process"),
    }
}

async fn clear(service: &Service) -> Result<(), ServiceError> {
    let name = service.name.clone();
    blocking(move || processes::kill_all(&name)).await.map_err(ServiceError::io(&service.name, "clear up"))
}

async fn start(
    service: &Service,
    places: &Places,
    socket: &NotifySocket,
    log: &Path,
    mark: u64,
    started: &mut Option<Process>,
) -> Result<(), ServiceError> {
    let failed = |text| ServiceError::Failed { name: service.name.clone(), what: NOT_STARTED, text };
    socket.drain();
    crash::point("service: before exec");
    let namespace = namespace(service, places)?;
    // Not on a thread of its own: whoever gives up waiting must have the process in his hands.
    let notify = service.notify.then(|| socket.path());
    let (process, mut told) = process::spawn(service, &places.helper, &namespace, log, notify)
        .map_err(ServiceError::io(&service.name, "start"))?;
    crash::point("service: after exec");
    let process = started.insert(process);
    let mut complaint = String::new();
    told.read_to_string(&mut complaint).await.map_err(ServiceError::io(&service.name, "start"))?;
    if !complaint.is_empty() {
        return Err(failed(complaint));
    }
    if !service.notify {
        return Ok(());
    }
    tokio::select! {
        () = socket.ready() => Ok(()),
        () = process.ended() => {
            let how = started.take().map(Process::reap).unwrap_or_default();
            clear(service).await?;
            check(service, places).await?; // they say better what is wrong
            Err(failed(with_words(&how, &added(log, mark))))
        }
    }
}

/// Runs the commands that must succeed first.
pub(super) async fn check(service: &Service, places: &Places) -> Result<(), ServiceError> {
    let failed = |text| ServiceError::Check { name: service.name.clone(), text };
    for argv in &service.checks {
        let namespace = namespace(service, places)?;
        let run = async {
            let child = process::spawn_check(argv, &service.environment, &namespace)?;
            child.wait_with_output().await
        };
        let output = match timeout(service.start_timeout, run).await {
            Ok(Ok(output)) => output,
            Ok(Err(error)) => return Err(failed(format!("cannot run {}: {error}", argv.join(" ")))),
            Err(_) => return Err(failed(format!("{} did not end in time", argv.join(" ")))),
        };
        if !output.status.success() {
            let said = [output.stderr, output.stdout].concat();
            return Err(failed(with_words(&output.status.to_string(), String::from_utf8_lossy(&said).trim())));
        }
    }
    Ok(())
}

/// Tells the main process to read its configuration again, and waits until it has.
pub(super) async fn reload(
    service: &Service,
    process: &Process,
    socket: &NotifySocket,
    log: &Path,
    mark: u64,
) -> Result<(), ServiceError> {
    let failed = |text| ServiceError::Failed { name: service.name.clone(), what: NOT_RELOADED, text };
    let unable = || ServiceError::io(&service.name, "reload");
    socket.drain();
    let before = processes::children(process.pid).map_err(unable())?;
    crash::point("service: before its reload");
    process.signal(service.reload.signal()).map_err(unable())?;
    if !service.notify {
        return Ok(());
    }
    let ready = async {
        tokio::select! {
            () = socket.ready() => Ok(()),
            // The task reaps it, and starts it again.
            () = process.ended() => Err(failed(with_words("it has ended", &added(log, mark)))),
        }
    };
    let late = |_| ServiceError::TimedOut { name: service.name.clone(), what: NOT_RELOADED, text: added(log, mark) };
    timeout(service.start_timeout, ready).await.map_err(late)??;
    if service.reload_forks && !processes::forked(process.pid, &before).map_err(unable())? {
        return Err(failed(added(log, mark)));
    }
    Ok(())
}

fn namespace(service: &Service, places: &Places) -> Result<Namespace, ServiceError> {
    let found = Namespace::find(&places.namespace).map_err(io::Error::other);
    let missing = || io::Error::other(format!("there is no network namespace {}", places.namespace));
    found.and_then(|found| found.ok_or_else(missing)).map_err(ServiceError::io(&service.name, "start"))
}

/// How something ended, and what it said; its words first, for they are what helps.
fn with_words(how: &str, words: &str) -> String {
    if words.is_empty() { how.to_owned() } else { format!("{words} ({how})") }
}
