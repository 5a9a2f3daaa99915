//! The connection to systemd: kept up by a task, its signals handed on.
//!
//! The system bus, so a dbus-daemon has to run. The socket at which systemd itself speaks D-Bus (`/run/systemd/private`,
//! which `systemctl` uses) would spare it, but systemd 252 names its sender `org.freedesktop.systemd1` there, which is no
//! unique name, and zbus refuses such messages.

use std::{collections::HashMap, path::Path, time::Duration};

use futures_util::StreamExt as _;
use serde::Serialize;
use tokio::sync::{broadcast, watch};
use zbus::{Connection, Message, MessageStream, OwnedObjectPath, OwnedVariant, connection::Builder};

use crate::{api::error::with_causes, services::ServiceName};

const DBUS: &str = "org.freedesktop.DBus";
const SYSTEMD: &str = "org.freedesktop.systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const MANAGER_PATH: &str = "/org/freedesktop/systemd1";
const UNIT_PATH: &str = "/org/freedesktop/systemd1/unit/";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";
/// Signals of ours; `sender` keeps everybody else's out.
const RULES: [&str; 2] = [
    "type='signal',sender='org.freedesktop.systemd1',interface='org.freedesktop.systemd1.Manager',member='JobRemoved'",
    "type='signal',sender='org.freedesktop.systemd1',interface='org.freedesktop.DBus.Properties',\
     path_namespace='/org/freedesktop/systemd1/unit',arg0='org.freedesktop.systemd1.Unit'",
];
/// Where the system bus is (D-Bus specification, "Well-known Message Bus Instances").
const SOCKET: &str = "/var/run/dbus/system_bus_socket";
/// Between attempts to connect.
const PAUSE: Duration = Duration::from_millis(500);
/// How long a call waits for a connection, and then for its answer.
const PATIENCE: Duration = Duration::from_secs(20);
/// Jobs that end while one waits: all of the machine's.
const JOBS: usize = 1024;

/// A job that has ended (`JobRemoved`).
#[derive(Clone, Debug)]
pub(super) struct Ended {
    pub(super) job: OwnedObjectPath,
    /// `done`, `failed`, `timeout`, `canceled`, `dependency`, `skipped`, `invalid`, ...
    pub(super) result: String,
}

/// The connection.
#[derive(Clone, Debug)]
pub(super) struct Bus {
    connection: watch::Receiver<Option<Connection>>,
    jobs: broadcast::Sender<Ended>,
}

/// A call that came to nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum BusError {
    #[error("systemd cannot be reached")]
    Unreachable,
    #[error("systemd cannot be reached: there is no D-Bus socket {SOCKET}; install and start dbus")]
    NoBus,
    #[error("systemd does not answer")]
    Silent,
    /// The name of the D-Bus error, without its prefix, and what it says.
    #[error("{1} ({0})")]
    Refused(String, String),
    #[error("systemd was not understood")]
    Other(#[source] zbus::Error),
}

impl From<zbus::Error> for BusError {
    fn from(error: zbus::Error) -> Self {
        match error {
            zbus::Error::MethodError(name, text, _) => {
                let name = name.as_str();
                let name = name.rsplit_once('.').map_or(name, |(_, last)| last).to_owned();
                Self::Refused(name, text.unwrap_or_default())
            }
            other => Self::Other(other),
        }
    }
}

impl Bus {
    /// Connects, and connects again whenever the connection is lost; `changed` is told of each unit whose state may
    /// have changed, and of `None` when it may be any.
    pub(super) fn start(changed: impl Fn(Option<ServiceName>) + Send + Sync + 'static) -> Self {
        let (up, connection) = watch::channel(None);
        let jobs = broadcast::channel(JOBS).0;
        let bus = Self { connection, jobs: jobs.clone() };
        tokio::spawn(async move {
            let mut complaint = None;
            while !up.is_closed() {
                match connect().await {
                    Ok((connection, mut messages)) => {
                        complaint = None;
                        up.send_replace(Some(connection));
                        changed(None);
                        tokio::select! {
                            () = listen(&mut messages, &jobs, &changed) => {}
                            () = up.closed() => return,
                        }
                        up.send_replace(None);
                        tracing::warn!("the connection to systemd is lost; connecting again");
                    }
                    Err(error) => {
                        let said = if is_absent() { BusError::NoBus.to_string() } else { with_causes(&error) };
                        if complaint.as_ref() != Some(&said) {
                            tracing::warn!(error = said, "systemd cannot be reached; trying again");
                        }
                        complaint = Some(said);
                    }
                }
                tokio::time::sleep(PAUSE).await;
            }
        });
        bus
    }

    /// To be called before what makes the job.
    pub(super) fn jobs(&self) -> broadcast::Receiver<Ended> {
        self.jobs.subscribe()
    }

    /// Waits for a connection; what it gives then waits until that one is lost.
    pub(super) async fn lost(&self) -> Result<impl Future<Output = ()> + use<>, BusError> {
        let mut connection = self.connection.clone();
        drop(there(&mut connection).await?); // from now on the next value is another
        Ok(async move {
            let _ = connection.changed().await; // its task is gone: lost as well
        })
    }

    /// Calls the manager.
    pub(super) async fn manager<B>(&self, method: &str, body: &B) -> Result<Message, BusError>
    where
        B: Serialize + zbus::DynamicType + Sync,
    {
        self.call(MANAGER_PATH, MANAGER, method, body).await
    }

    /// The properties of a unit, of the interfaces `Unit` and `Service`.
    pub(super) async fn properties(&self, unit: &ServiceName) -> Result<HashMap<String, OwnedVariant>, BusError> {
        let path = format!("{UNIT_PATH}{}", escape(&format!("{unit}.service")));
        let mut all = HashMap::new();
        for interface in ["Unit", "Service"] {
            let interface = format!("{SYSTEMD}.{interface}");
            let reply = self.call(&path, PROPERTIES, "GetAll", &(interface)).await?;
            let some: HashMap<String, OwnedVariant> = reply.body().deserialize()?;
            all.extend(some);
        }
        Ok(all)
    }

    async fn call<B>(&self, path: &str, interface: &str, method: &str, body: &B) -> Result<Message, BusError>
    where
        B: Serialize + zbus::DynamicType + Sync,
    {
        let mut connection = self.connection.clone();
        if connection.borrow().is_none() && is_absent() {
            return Err(BusError::NoBus);
        }
        let there = there(&mut connection).await?;
        let answer = there.call_method(Some(SYSTEMD), path, Some(interface), method, body);
        Ok(tokio::time::timeout(PATIENCE, answer).await.map_err(|_| BusError::Silent)??)
    }
}

/// The connection, as soon as there is one.
async fn there(connection: &mut watch::Receiver<Option<Connection>>) -> Result<Connection, BusError> {
    let there = async { connection.wait_for(Option::is_some).await.ok()?.clone() };
    tokio::time::timeout(PATIENCE, there).await.ok().flatten().ok_or(BusError::Unreachable)
}

/// Whether there is no bus to connect to, which no waiting mends.
fn is_absent() -> bool {
    std::env::var_os("DBUS_SYSTEM_BUS_ADDRESS").is_none() && !Path::new(SOCKET).exists()
}

async fn connect() -> zbus::Result<(Connection, MessageStream)> {
    let connection = Builder::system().build().await?;
    let messages = MessageStream::from(&connection);
    for rule in RULES {
        connection.call_method(Some(DBUS), "/org/freedesktop/DBus", Some(DBUS), "AddMatch", &(rule)).await?;
    }
    connection.call_method(Some(SYSTEMD), MANAGER_PATH, Some(MANAGER), "Subscribe", &()).await?;
    Ok((connection, messages))
}

/// Hands signals on until there are no more.
async fn listen(messages: &mut MessageStream, jobs: &broadcast::Sender<Ended>, changed: &impl Fn(Option<ServiceName>)) {
    while let Some(Ok(message)) = messages.next().await {
        let header = message.header();
        match header.member().map(zbus::names::MemberName::as_str) {
            Some("JobRemoved") => {
                if let Ok((_, job, _, result)) = message.body().deserialize::<(u32, OwnedObjectPath, String, String)>()
                {
                    let _ = jobs.send(Ended { job, result }); // nobody may be waiting
                }
            }
            Some("PropertiesChanged") => {
                let unit = header.path().and_then(|path| unescape(path.as_str().strip_prefix(UNIT_PATH)?));
                let name = unit.and_then(|unit| ServiceName::new(unit.strip_suffix(".service")?));
                if name.is_some() {
                    changed(name);
                }
            }
            _ => {}
        }
    }
}

/// A name as part of an object path: every byte but letters and digits as `_xx`, and so a digit in front
/// (`sd_bus_path_encode(3)`).
fn escape(name: &str) -> String {
    let plain = |at: usize, byte: u8| byte.is_ascii_alphabetic() || (at > 0 && byte.is_ascii_digit());
    let byte =
        |(at, byte): (usize, u8)| if plain(at, byte) { char::from(byte).to_string() } else { format!("_{byte:02x}") };
    name.bytes().enumerate().map(byte).collect()
}

fn unescape(text: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'_' {
            let code = [rest.next()?, rest.next()?];
            bytes.push(u8::from_str_radix(std::str::from_utf8(&code).ok()?, 16).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_survives_its_path() {
        assert_eq!(escape("haproxy-1.service"), "haproxy_2d1_2eservice");
        assert_eq!(escape("1_a"), "_31_5fa");
        for name in ["haproxy-1.service", "1_a", "a"] {
            assert_eq!(unescape(&escape(name)).unwrap(), name);
        }
        assert_eq!(unescape("a_2"), None);
    }
}
