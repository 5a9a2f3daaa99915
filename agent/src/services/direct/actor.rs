//! One service's task: it alone starts, signals and reaps the main process.

use std::{collections::VecDeque, future::pending, sync::Arc, time::Instant};

use rustix::process::Signal;
use tokio::{
    sync::{broadcast, mpsc, oneshot, watch},
    time::timeout,
};

use super::{
    blocking,
    files::{Places, Record, length},
    launch,
    notify::NotifySocket,
    process::Process,
};
use crate::{
    crash,
    services::{Service, ServiceError, ServiceName, Status, jobs::Kind, processes},
};

/// What is asked of the task.
#[derive(Debug)]
pub(super) enum Task {
    Change(Box<Service>),
    Do(Kind),
}

/// A task, and who waits for it.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) task: Task,
    pub(super) done: oneshot::Sender<Result<(), ServiceError>>,
}

/// How it is when the task begins.
#[derive(Debug)]
pub(super) enum Begin {
    /// It rests.
    Rest,
    /// It was found running.
    Running(Process),
    /// It should run and does not.
    Start,
    /// It was being stopped when the last agent ended.
    Stop(Process),
}

#[derive(Debug)]
pub(super) struct Actor {
    service: Service,
    places: Arc<Places>,
    /// As it is on disk.
    record: Record,
    socket: NotifySocket,
    status: watch::Sender<Status>,
    events: broadcast::Sender<ServiceName>,
    process: Option<Process>,
    /// When it was started of late.
    starts: VecDeque<Instant>,
    /// When it is to be started again.
    retry: Option<Instant>,
}

impl Actor {
    pub(super) fn new(
        service: Service,
        places: Arc<Places>,
        record: Record,
        status: watch::Sender<Status>,
        events: broadcast::Sender<ServiceName>,
    ) -> Result<Self, ServiceError> {
        let socket = NotifySocket::bind(places.socket(&service.name));
        let socket = socket.map_err(ServiceError::io(&service.name, "hear"))?;
        let (process, starts, retry) = (None, VecDeque::new(), None);
        Ok(Self { service, places, record, socket, status, events, process, starts, retry })
    }

    /// Goes on until nobody can call any more, or until the service is removed.
    pub(super) async fn run(
        mut self,
        begin: Begin,
        before: Vec<watch::Receiver<Status>>,
        mut calls: mpsc::Receiver<Call>,
    ) {
        match begin {
            Begin::Rest => {}
            Begin::Running(process) => self.process = Some(process),
            Begin::Stop(process) => {
                self.process = Some(process);
                let ended = self.end().await;
                self.report(ended);
            }
            Begin::Start => {
                for mut other in before {
                    // As systemd's After=: until its start is over, well or badly. A circle ends with the time.
                    let settled = other.wait_for(|status| *status != Status::Starting);
                    let _ = timeout(self.service.start_timeout, settled).await;
                }
                let started = self.start().await;
                self.report(started);
            }
        }
        loop {
            tokio::select! {
                call = calls.recv() => {
                    let Some(Call { task, done }) = call else { return };
                    let removed = matches!(task, Task::Do(Kind::Remove));
                    let result = self.perform(task).await;
                    let over = removed && result.is_ok();
                    let _ = done.send(result); // the caller may have gone
                    if over {
                        return;
                    }
                }
                () = ended(self.process.as_ref()) => self.crashed().await,
                () = due(self.retry) => {
                    let launched = self.launch().await;
                    self.report(launched);
                }
            }
        }
    }

    async fn perform(&mut self, task: Task) -> Result<(), ServiceError> {
        match task {
            Task::Change(service) => self.service = *service,
            Task::Do(Kind::Start) => self.start().await?,
            Task::Do(Kind::Stop) => self.stop().await?,
            Task::Do(Kind::Reload) => self.reload().await?,
            Task::Do(Kind::Restart) => {
                self.want(true).await?;
                self.end().await?;
                self.start().await?;
            }
            Task::Do(Kind::Remove) => {
                self.stop().await?;
                let (places, name) = (self.places.clone(), self.service.name.clone());
                crash::point("service: stopped to be removed");
                let forgotten = blocking(move || places.forget(&name)).await;
                forgotten.map_err(ServiceError::io(&self.service.name, "remove"))?;
                crash::point("service: removed");
            }
            Task::Do(Kind::Install) => {} // is a Change
        }
        Ok(())
    }

    async fn start(&mut self) -> Result<(), ServiceError> {
        // Durable first: an agent that dies in the middle is followed by one that goes on with it.
        self.want(true).await?;
        if self.process.is_some() {
            return Ok(());
        }
        self.starts.clear();
        self.launch().await
    }

    async fn stop(&mut self) -> Result<(), ServiceError> {
        self.want(false).await?;
        self.end().await
    }

    /// Remembers whether it is to run.
    async fn want(&mut self, wanted: bool) -> Result<(), ServiceError> {
        self.remember(Record { wanted, ..self.record.clone() }).await?;
        crash::point("service: wanted or not");
        Ok(())
    }

    async fn remember(&mut self, record: Record) -> Result<(), ServiceError> {
        let (places, name, new) = (self.places.clone(), self.service.name.clone(), record.clone());
        let write = move || match places.record(&name) {
            Ok(Some(held)) if held == new => Ok(()),
            _ => places.put_record(&name, &new),
        };
        blocking(write).await.map_err(ServiceError::io(&self.service.name, "remember"))?;
        self.record = record;
        Ok(())
    }

    /// Starts it, and sees to it that it is tried again where that fails.
    async fn launch(&mut self) -> Result<(), ServiceError> {
        self.retry = None;
        self.starts.push_back(Instant::now());
        self.tell(Status::Starting);
        match launch::launch(&self.service, &self.places, &self.socket).await {
            Ok(process) => {
                crash::point("service: ready");
                let ready = Record { ready: Some(process.identity()), ..self.record.clone() };
                let remembered = self.remember(ready).await;
                self.report(remembered); // it serves all the same; the next agent would start it anew
                tracing::info!(service = %self.service.name, pid = process.pid, "started");
                self.tell(Status::Active { pid: process.pid, since: process.since });
                self.process = Some(process);
                Ok(())
            }
            Err(error) => {
                self.failed(error.text());
                Err(error)
            }
        }
    }

    /// It has ended and nobody asked for it.
    async fn crashed(&mut self) {
        let Some(process) = self.process.take() else { return };
        let (pid, why) = (process.pid, process.reap());
        tracing::warn!(service = %self.service.name, pid, %why, "ended by itself");
        // Whoever announces what it serves shall not wait for what it left to be cleared away.
        self.tell(Status::Starting);
        self.report(self.clear().await);
        self.failed(why);
    }

    fn failed(&mut self, why: String) {
        while self.starts.front().is_some_and(|start| start.elapsed() > Service::START_INTERVAL) {
            self.starts.pop_front();
        }
        if self.starts.len() < Service::START_LIMIT as usize {
            self.retry = Some(Instant::now() + Service::RESTART_DELAY);
            self.tell(Status::Starting);
        } else {
            tracing::error!(service = %self.service.name, %why, "given up: started too often");
            self.tell(Status::Failed { why });
        }
    }

    /// Ends the process, gently and then for good, and whatever it leaves.
    async fn end(&mut self) -> Result<(), ServiceError> {
        self.retry = None;
        if let Some(process) = self.process.take() {
            let error = || ServiceError::io(&self.service.name, "stop");
            crash::point("service: before SIGTERM");
            process.signal(Signal::TERM).and_then(|()| process.signal(Signal::CONT)).map_err(error())?;
            if timeout(self.service.stop_timeout, process.ended()).await.is_err() {
                tracing::warn!(service = %self.service.name, pid = process.pid, "did not end in time: killed");
                process.signal(Signal::KILL).map_err(error())?;
                process.ended().await;
            }
            let (pid, how) = (process.pid, process.reap());
            tracing::info!(service = %self.service.name, pid, %how, "stopped");
        }
        self.clear().await?;
        self.tell(Status::Inactive);
        Ok(())
    }

    async fn clear(&self) -> Result<(), ServiceError> {
        let name = self.service.name.clone();
        blocking(move || processes::kill_all(&name)).await.map_err(ServiceError::io(&self.service.name, "clear up"))
    }

    async fn reload(&mut self) -> Result<(), ServiceError> {
        let Some(process) = &self.process else {
            return Err(ServiceError::NotActive(self.service.name.clone()));
        };
        launch::check(&self.service, &self.places).await?;
        let log = self.places.log(&self.service.name);
        let mark = length(&log);
        launch::reload(&self.service, process, &self.socket, &log, mark).await
    }

    fn tell(&self, status: Status) {
        let change = |held: &mut Status| {
            let changed = *held != status;
            *held = status;
            changed
        };
        if self.status.send_if_modified(change) {
            let _ = self.events.send(self.service.name.clone()); // nobody may be listening
        }
    }

    /// For what nobody waits for.
    fn report(&self, result: Result<(), ServiceError>) {
        if let Err(error) = result {
            tracing::error!(service = %self.service.name, %error, "the supervisor");
        }
    }
}

async fn ended(process: Option<&Process>) {
    match process {
        Some(process) => process.ended().await,
        None => pending().await,
    }
}

async fn due(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => pending().await,
    }
}
