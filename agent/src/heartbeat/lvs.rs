//! The UDP and SCTP listeners, whose state is asked of the kernel and of a program that may hang: on a thread of its own,
//! with an end.

use std::{
    io,
    path::{Path, PathBuf},
};

use netns::Namespace;
use tokio::{
    task::JoinHandle,
    time::{Instant, timeout_at},
};

use super::message::{Frontend, Pool, Reading, Totals};
use crate::keepalivedlvs::{self, Health};

/// What asks.
#[derive(Debug)]
pub(super) struct Lvs {
    base: PathBuf,
    namespace: Namespace,
    /// A question that took longer than a heartbeat could wait; there is never a second one beside it.
    asked: Option<JoinHandle<io::Result<Reading>>>,
}

impl Lvs {
    pub(super) fn new(base: &Path, namespace: Namespace) -> Self {
        Self { base: base.to_owned(), namespace, asked: None }
    }

    /// What they tell until `until`.
    pub(super) async fn read(&mut self, until: Instant) -> io::Result<Reading> {
        if self.asked.is_none() && !keepalivedlvs::files::directory(&self.base).is_dir() {
            return Ok(Reading::default());
        }
        let (base, namespace) = (self.base.clone(), self.namespace.clone());
        let ask = move || keepalivedlvs::health(&base, &namespace).map(reading);
        let asked = self.asked.get_or_insert_with(|| tokio::task::spawn_blocking(ask));
        let Ok(answered) = timeout_at(until, asked).await else { return Err(io::ErrorKind::TimedOut.into()) };
        self.asked = None;
        answered.unwrap_or_else(|end| Err(io::Error::other(end)))
    }
}

fn reading(listeners: impl IntoIterator<Item = (String, Health)>) -> Reading {
    let mut reading = Reading::default();
    for (id, Health { stats, pool }) in listeners {
        let frontend = Frontend {
            status: "OPEN".to_owned(),
            current: stats.map_or(0, |stats| stats.scur),
            totals: stats.map(|stats| Totals { bin: stats.bin, bout: stats.bout, ereq: 0, stot: stats.stot }),
        };
        reading.listeners.insert(id, frontend);
        if let Some(pool) = pool {
            let members = pool.members.into_iter().map(|(id, status)| (id, status.to_owned())).collect();
            reading.pools.insert(pool.id, Pool { status: pool.status.to_owned(), members });
        }
    }
    reading
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keepalivedlvs;

    #[test]
    fn lvs_listeners_are_in_the_message_by_the_words_of_haproxys() {
        let stats = keepalivedlvs::Stats { bout: 1, bin: 2, scur: 3, stot: 4 };
        let members = [("m".to_owned(), "RESTARTING")].into();
        let pool = keepalivedlvs::Pool { id: "p".to_owned(), status: "UP", members };
        let both = [
            ("known".to_owned(), Health { stats: Some(stats), pool: Some(pool) }),
            ("unknown".to_owned(), Health { stats: None, pool: None }),
        ];
        let read = reading(both);
        let known = Frontend {
            status: "OPEN".to_owned(),
            current: 3,
            totals: Some(Totals { bin: 2, bout: 1, ereq: 0, stot: 4 }),
        };
        assert_eq!(read.listeners["known"], known);
        assert_eq!((read.listeners["unknown"].current, read.listeners["unknown"].totals), (0, None));
        let members = [("m".to_owned(), "RESTARTING".to_owned())].into();
        assert_eq!(read.pools, [("p".to_owned(), Pool { status: "UP".to_owned(), members })].into());
    }
}
