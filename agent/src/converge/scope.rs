//! What a pass looks at: what has been committed or has turned since the last one, or everything.

use bgp::Prefix;

use super::Converge;
use crate::{
    health::{Gates, vip::Decision},
    owner::Dirty,
    resolve,
    state::Desired,
};

/// What a pass looks at.
#[derive(Debug)]
pub(super) struct Scope {
    /// What has been committed, and the VIPs whose gates have turned.
    pub(super) dirty: Dirty,
    /// Not only that, but everything held here and there.
    pub(super) everything: bool,
}

impl Converge {
    /// What has been committed since the last pass, or everything. A plug that came or went may open or
    /// close the gate of any registration.
    pub(super) fn scope(&mut self, everything: bool) -> Scope {
        let mut dirty = self.shared.take_dirty();
        let (gates, before) = (self.gates.borrow_and_update().clone(), self.heeded.clone());
        let turned = gates.changed(&before);
        dirty.vips.extend(turned.into_iter().filter_map(|vip| Prefix::try_from(vip).ok()));
        let everything = everything || dirty.plugs || self.is_held(&dirty, [&gates, &before]);
        self.heeded = gates;
        if everything {
            dirty.plugs = true;
            self.shared.leaving(|l| dirty.vips.extend(l.keys()));
            self.shared.read(|d| {
                dirty.vips.extend(d.registrations.keys());
                dirty.vips.extend(resolve::routed(d).filter_map(|own| Prefix::try_from(own.vip).ok()));
            });
        }
        Scope { dirty, everything }
    }

    /// Whether a VIP of this amphora's is to stay as it is, or was. What that is can only be told from what is announced,
    /// and a pass over a few VIPs does not ask; nor is one that stayed to be told again what it holds.
    fn is_held(&self, dirty: &Dirty, gates: [&Gates; 2]) -> bool {
        let held = |vip: &Prefix| gates.iter().any(|g| matches!(g.decision(vip.address()), Decision::Hold(_)));
        let own = |vip: &&Prefix| self.shared.read(|d| d.plug_of(vip.address()).is_some());
        self.policy.gated && dirty.vips.iter().filter(own).any(held)
    }
}

/// The part of the state a pass over a few registrations needs: all but the other registrations.
pub(super) fn narrow(desired: &Desired, dirty: &Dirty) -> Desired {
    let some = dirty.vips.iter().filter_map(|v| desired.registrations.get_key_value(v));
    Desired {
        plugs: desired.plugs.clone(),
        networks: desired.networks.clone(),
        registrations: some.map(|(v, r)| (*v, r.clone())).collect(),
        firewall: desired.firewall.clone(),
        silenced: desired.silenced,
        drains: desired.drains.clone(),
    }
}
