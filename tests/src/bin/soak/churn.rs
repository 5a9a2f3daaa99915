//! The controller's part: load balancers are made, changed and deleted, whatever is being killed meanwhile. Each call is
//! repeated until it succeeds, as the controller does.

use std::time::{Duration, Instant};

use lab::error::chain;
use lab::{Api, Reply, Result};

use crate::random::Random;
use crate::world::{AMPHORAE, Deed, Which, World, words};

/// How long a call may take with its repetitions. A VIP is not unbound before no router can hold its route, which takes up
/// to the hold time and the restart time after a speaker's death: 42 s.
const INSIST: Duration = Duration::from_mins(2);

/// What the passing VIP of an amphora is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Passing {
    Absent,
    Served,
}

/// Works until the soak is over.
pub(crate) fn run(world: &World, mut random: Random) -> Result<()> {
    let mut apis = (0..AMPHORAE).map(|index| world.amphora(index).api()).collect::<Result<Vec<_>>>()?;
    let mut passing = [Passing::Absent; AMPHORAE];
    let mut version = 0;
    while !world.is_over() {
        world.rest(random.time(Duration::from_millis(300), Duration::from_millis(2_700)));
        let index = random.below(AMPHORAE);
        version += 1;
        let mut at = At { world, api: &mut apis[index], index, version };
        if random.below(5) == 0 {
            at.change(Which::Steady);
            continue;
        }
        passing[index] = match (passing[index], random.below(10)) {
            (Passing::Absent, _) => at.create(),
            (Passing::Served, 0..=4) => at.change(Which::Passing),
            (Passing::Served, 5) => at.stop_and_start(),
            (Passing::Served, 6 | 7) => at.delete(false),
            (Passing::Served, _) => at.delete(true),
        };
    }
    Ok(())
}

/// The controller at one amphora.
struct At<'a> {
    world: &'a World,
    api: &'a mut Api,
    index: usize,
    version: usize,
}

impl At<'_> {
    fn create(&mut self) -> Passing {
        // 409: the NIC is plugged already; its answer got lost.
        self.insist("plug", &[409], |at| at.world.plug(at.api, at.index, Which::Passing));
        self.insist("upload", &[], |at| at.world.upload(at.api, at.index, Which::Passing, at.version));
        self.insist("start", &[], |at| at.api.act(Which::Passing.lb(), "start"));
        self.world.count(|tally| tally.created += 1);
        Passing::Served
    }

    fn change(&mut self, which: Which) -> Passing {
        self.insist("upload", &[], |at| at.world.upload(at.api, at.index, which, at.version));
        self.insist("reload", &[], |at| {
            let reply = at.api.act(which.lb(), "reload");
            if which == Which::Steady {
                at.world.note(Deed::Reloaded, at.index);
            }
            reply
        });
        self.world.count(|tally| tally.changed += 1);
        Passing::Served
    }

    fn stop_and_start(&mut self) -> Passing {
        self.insist("stop", &[], |at| at.api.act(Which::Passing.lb(), "stop"));
        self.insist("start", &[], |at| at.api.act(Which::Passing.lb(), "start"));
        self.world.count(|tally| tally.changed += 1);
        Passing::Served
    }

    /// The listener first, or the VIP under it.
    fn delete(&mut self, vip_first: bool) -> Passing {
        let listener = |at: &mut Self| at.insist("delete", &[404], |at| at.api.delete_balancer(Which::Passing.lb()));
        let vip = |at: &mut Self| at.insist("unplug", &[], |at| at.api.unplug_vip(Which::Passing.vip().v4.into()));
        if vip_first {
            vip(self);
            listener(self);
        } else {
            listener(self);
            vip(self);
        }
        self.world.count(|tally| tally.deleted += 1);
        Passing::Absent
    }

    /// Calls until there is a success, or one of these statuses.
    fn insist(&mut self, what: &str, fine: &[u16], mut call: impl FnMut(&mut Self) -> Result<Reply>) {
        let start = Instant::now();
        self.world.count(|tally| tally.calls += 1);
        loop {
            let last = match call(self) {
                Ok(reply) if matches!(reply.status, 200 | 202) || fine.contains(&reply.status) => return,
                Ok(reply) if matches!(reply.status, 500 | 503) => words(&reply),
                Ok(reply) => {
                    let name = self.world.amphora(self.index).name();
                    self.world.violation(&format!("{name} refused a {what}: {}", words(&reply)));
                    return;
                }
                // Its agent is dead or was killed under the call.
                Err(error) => chain(&error),
            };
            if start.elapsed() > INSIST {
                let name = self.world.amphora(self.index).name();
                self.world.violation(&format!("{name}: a {what} did not succeed within {INSIST:?}: {last}"));
                return;
            }
            self.world.count(|tally| tally.repeated += 1);
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}
