//! UDP and SCTP listeners in a heartbeat. They are in it as soon as their keepalived runs.

use std::{collections::BTreeMap, path::Path, sync::Mutex};

use netns::Namespace;

use super::{Frontend, Pool, Reading, Totals};
use crate::keepalivedlvs::{self, Health};

/// What LVS tells, asked in `namespace`. What cannot be read is left out, as a haproxy that does not answer is.
pub fn source(namespace: Namespace) -> Box<dyn Fn(&Path) -> Reading + Send> {
    let last = Mutex::new(BTreeMap::new());
    Box::new(move |base| match keepalivedlvs::health(base, &namespace) {
        Ok(healths) => reading(healths, &mut last.lock().unwrap_or_else(std::sync::PoisonError::into_inner)),
        Err(error) => {
            tracing::warn!(%error, "LVS does not tell how its listeners are; this heartbeat goes without them");
            Reading::default()
        }
    })
}

/// `last` has the counters of the reading before: those of a listener whose counters could not be read have not moved, for
/// zero would count all of them again the next time.
fn reading(healths: BTreeMap<String, Health>, last: &mut BTreeMap<String, Totals>) -> Reading {
    let mut reading = Reading::default();
    last.retain(|id, _| healths.contains_key(id));
    for (id, Health { stats, pool }) in healths {
        let known = last.entry(id.clone()).or_default();
        if let Some(stats) = stats {
            *known = Totals { bin: stats.bin, bout: stats.bout, ereq: 0, stot: stats.stot };
        }
        let current = stats.map(|stats| stats.scur).unwrap_or_default();
        reading.listeners.insert(id, Frontend { status: "OPEN".to_owned(), current, totals: *known });
        reading.pools.extend(pool.map(|pool| {
            let members = pool.members.into_iter().map(|(id, status)| (id, status.to_owned())).collect();
            (pool.id, Pool { status: pool.status.to_owned(), members })
        }));
    }
    reading
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keepalivedlvs::Stats;

    fn one(stats: Option<Stats>) -> BTreeMap<String, Health> {
        let members = [("m".to_owned(), "UP")].into();
        let pool = Some(keepalivedlvs::Pool { id: "p".to_owned(), status: "UP", members });
        [("l".to_owned(), Health { stats, pool })].into()
    }

    #[test]
    fn counters_that_cannot_be_read_have_not_moved() {
        let mut last = BTreeMap::new();
        let stats = Stats { bout: 1, bin: 2, scur: 3, stot: 4 };
        let read = reading(one(Some(stats)), &mut last);
        let totals = Totals { bin: 2, bout: 1, ereq: 0, stot: 4 };
        assert_eq!(read.listeners["l"], Frontend { status: "OPEN".to_owned(), current: 3, totals });
        assert_eq!(read.pools["p"].members["m"], "UP", "by the bare id of the pool");
        let unread = reading(one(None), &mut last);
        assert_eq!(unread.listeners["l"].totals, totals);
        assert_eq!(unread.pools, read.pools);
        reading(BTreeMap::new(), &mut last);
        assert!(last.is_empty());
    }
}
