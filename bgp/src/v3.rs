//! gobgp 3's paths and peers in gobgp 4's words.
//!
//! The rest of the crate speaks v4. v3 wraps in `Any` what v4 has as oneofs: prefixes, path
//! attributes, capabilities. Everything else is the same bytes and needs no translation.

use gobgp_proto::{
    v3,
    v4::{self, attribute::Attr, capability::Cap},
};
use prost::Message;
use prost_types::Any;

fn wrap(name: &str, message: &impl Message) -> Any {
    Any { type_url: format!("type.googleapis.com/apipb.{name}"), value: message.encode_to_vec() }
}

/// The message inside, if it is of this name.
fn unwrap<M: Message + Default>(any: &Any, name: &str) -> Option<M> {
    let said = any.type_url.rsplit('/').next()?;
    (said.strip_prefix("apipb.")? == name).then(|| M::decode(any.value.as_slice()).ok())?
}

fn wrap_nlri(nlri: &v4::Nlri) -> Option<Any> {
    let v4::nlri::Nlri::Prefix(prefix) = nlri.nlri.as_ref()?;
    Some(wrap("IPAddressPrefix", prefix))
}

fn unwrap_nlri(any: &Any) -> v4::Nlri {
    v4::Nlri { nlri: unwrap(any, "IPAddressPrefix").map(v4::nlri::Nlri::Prefix) }
}

fn wrap_attribute(attribute: &v4::Attribute) -> Option<Any> {
    Some(match attribute.attr.as_ref()? {
        Attr::Origin(a) => wrap("OriginAttribute", a),
        Attr::AsPath(a) => wrap("AsPathAttribute", a),
        Attr::NextHop(a) => wrap("NextHopAttribute", a),
        Attr::MultiExitDisc(a) => wrap("MultiExitDiscAttribute", a),
        Attr::LocalPref(a) => wrap("LocalPrefAttribute", a),
        Attr::Communities(a) => wrap("CommunitiesAttribute", a),
        Attr::LargeCommunities(a) => wrap("LargeCommunitiesAttribute", a),
        Attr::MpReach(a) => {
            let nlris = a.nlris.iter().filter_map(wrap_nlri).collect();
            let next_hops = a.next_hops.clone();
            wrap("MpReachNLRIAttribute", &v3::MpReachNlriAttribute { family: a.family, next_hops, nlris })
        }
    })
}

fn unwrap_attribute(any: &Any) -> v4::Attribute {
    let mp_reach = |a: v3::MpReachNlriAttribute| v4::MpReachNlriAttribute {
        family: a.family,
        next_hops: a.next_hops,
        nlris: a.nlris.iter().map(unwrap_nlri).collect(),
    };
    let attr = unwrap(any, "OriginAttribute")
        .map(Attr::Origin)
        .or_else(|| unwrap(any, "AsPathAttribute").map(Attr::AsPath))
        .or_else(|| unwrap(any, "NextHopAttribute").map(Attr::NextHop))
        .or_else(|| unwrap(any, "MultiExitDiscAttribute").map(Attr::MultiExitDisc))
        .or_else(|| unwrap(any, "LocalPrefAttribute").map(Attr::LocalPref))
        .or_else(|| unwrap(any, "CommunitiesAttribute").map(Attr::Communities))
        .or_else(|| unwrap(any, "LargeCommunitiesAttribute").map(Attr::LargeCommunities))
        .or_else(|| unwrap(any, "MpReachNLRIAttribute").map(mp_reach).map(Attr::MpReach));
    v4::Attribute { attr }
}

pub(crate) fn path_to_v3(path: &v4::Path) -> v3::Path {
    v3::Path {
        nlri: path.nlri.as_ref().and_then(wrap_nlri),
        pattrs: path.pattrs.iter().filter_map(wrap_attribute).collect(),
        is_withdraw: path.is_withdraw,
        family: path.family,
    }
}

pub(crate) fn destination_from_v3(destination: v3::Destination) -> v4::Destination {
    let path = |p: v3::Path| v4::Path {
        nlri: p.nlri.as_ref().map(unwrap_nlri),
        pattrs: p.pattrs.iter().map(unwrap_attribute).collect(),
        is_withdraw: p.is_withdraw,
        family: p.family,
    };
    v4::Destination { prefix: destination.prefix, paths: destination.paths.into_iter().map(path).collect() }
}

/// A peer's configuration; its state is the daemon's to say.
pub(crate) fn peer_to_v3(peer: v4::Peer) -> v3::Peer {
    v3::Peer {
        conf: peer.conf,
        ebgp_multihop: peer.ebgp_multihop,
        state: None,
        timers: peer.timers,
        transport: peer.transport,
        graceful_restart: peer.graceful_restart,
        afi_safis: peer.afi_safis,
        ttl_security: peer.ttl_security,
    }
}

pub(crate) fn peer_from_v3(peer: v3::Peer) -> v4::Peer {
    let capability = |any: &Any| v4::Capability {
        cap: unwrap(any, "MultiProtocolCapability")
            .map(Cap::MultiProtocol)
            .or_else(|| unwrap(any, "GracefulRestartCapability").map(Cap::GracefulRestart))
            .or_else(|| unwrap(any, "AddPathCapability").map(Cap::AddPath)),
    };
    let state = |s: v3::PeerState| v4::PeerState {
        messages: s.messages,
        neighbor_address: s.neighbor_address,
        session_state: s.session_state,
        remote_cap: s.remote_cap.iter().map(capability).collect(),
        local_cap: s.local_cap.iter().map(capability).collect(),
        router_id: s.router_id,
        disconnect_message: String::new(), // v3 does not say
        bfd_state: None,
    };
    v4::Peer {
        conf: peer.conf,
        ebgp_multihop: peer.ebgp_multihop,
        state: peer.state.map(state),
        timers: peer.timers,
        transport: peer.transport,
        graceful_restart: peer.graceful_restart,
        afi_safis: peer.afi_safis,
        ttl_security: peer.ttl_security,
        bfd: None, // v3 has none
    }
}

pub(crate) fn event_from_v3(event: v3::WatchEventResponse) -> v4::WatchEventResponse {
    use v4::watch_event_response::{Event, PeerEvent};
    let event = event.event.map(|v3::watch_event_response::Event::Peer(p)| {
        Event::Peer(PeerEvent { r#type: p.r#type, peer: p.peer.map(peer_from_v3) })
    });
    v4::WatchEventResponse { event }
}
