//! What of a status is not as it should be, and the fix for each. Pure: the facts and the time in, words out.

use super::{AmphoraStatus, Certificate, HealthManager, Problem, vips::Cause};
use crate::{api::distributor::notes, health::gate::Gate, speaker::PeerView};

/// How long before its end a certificate is a matter for somebody, in seconds: Octavia's housekeeping looks each hour for
/// those with 14 days left (`[house_keeping] cert_expiry_buffer`) and replaces them, so one with half of that was forgotten.
const EXPIRING: u64 = 7 * 86_400;

/// Each thing that is not as it should be.
pub(super) fn problems(status: &AmphoraStatus, now: u64) -> Vec<Problem> {
    let mut all = Vec::new();
    let mut problem = |problem: String, fix: &str| all.push(Problem { problem, fix: fix.to_owned() });
    for stale in &status.configuration.stale {
        problem(
            format!("the configuration on disk is not in effect: {stale}"),
            if stale.contains("restarted") {
                "systemctl restart amphora-agent; nothing changes on the wire"
            } else {
                "amphoractl check-config shows what is wrong; mend it, then systemctl reload amphora-agent"
            },
        );
    }
    let certificates = &status.certificates;
    for (what, certificate, fix) in [
        (
            "server certificate",
            &certificates.server,
            "replace the file, or have the controller send a new one (openstack loadbalancer amphora failover, or its housekeeping)",
        ),
        (
            "client CA",
            &certificates.client_ca,
            "put the controller's new CA into the file, beside the old one until the controller has changed",
        ),
    ] {
        if let Some(what) = expiring(what, certificate, now) {
            problem(what, fix);
        }
    }
    if status.speaker.as_ref().is_some_and(|speaker| !speaker.up) {
        problem(
            "the BGP speaker does not answer: nothing can be announced or withdrawn".to_owned(),
            "the agent starts gobgpd again by itself; /var/log/gobgpd.log and journalctl -u amphora-agent say why it ends",
        );
    }
    for peer in status.peers.iter().filter(|peer| !peer.is_up()) {
        problem(
            peer.why_down(),
            "the peer needs a neighbor (or a listen range) for this amphora, with its AS, password and TTL; TCP port 179 must get there",
        );
    }
    for vip in status.vips.iter().filter(|vip| vip.degraded) {
        let (ip, reason) = (vip.vip_ip, vip.reason.as_deref().unwrap_or("the speaker is being told"));
        let what =
            if vip.cause == Cause::Unheard { "is announced to nobody" } else { "should be announced and is not" };
        problem(format!("VIP {ip} {what}: {reason}"), &format!("{}; amphoractl why {ip} shows more", fix(vip.cause)));
    }
    for network in &status.network {
        problem(network.clone(), "the agent goes on trying; journalctl -u amphora-agent has the kernel's words");
    }
    heartbeats(status, problem);
    all
}

/// What ends that.
fn fix(cause: Cause) -> &'static str {
    match cause {
        Cause::Unheard => "amphoractl peers shows the sessions; it is sent as soon as one is established",
        Cause::Damped => {
            "all its gates are open: it is announced when that time is over and nothing has failed till then"
        }
        Cause::Undecided => "it is announced when its gates are known and open, in a few seconds as a rule",
        Cause::Other => "it is announced when that is mended",
        Cause::Closed(gate) => match gate {
            Gate::Process => {
                "haproxy is started again by itself, but no more after 5 ends within 10 s; its log says why it ends"
            }
            Gate::Listener => {
                "a listener has to be on the VIP itself: ip netns exec amphora-haproxy ss -ltn shows what listens"
            }
            Gate::Socket => {
                "haproxy has to answer on its stats socket: its log and its CPU time say what it does instead"
            }
            Gate::Bound => "the agent puts the VIP on lo by itself; journalctl -u amphora-agent says what it meets",
            Gate::Carrier => "the front-end NIC has to be up with a carrier: look at its port and the host's bridge",
            Gate::Gateway => "the front-end gateway has to answer ARP or NDP on the front-end NIC",
            Gate::Members => "more members have to be up, or members_low be lower",
            Gate::Drain => "amphoractl undrain ends it",
        },
    }
}

fn expiring(what: &str, certificate: &Certificate, now: u64) -> Option<String> {
    let end = certificate.not_after?;
    let path = certificate.path.display();
    match end.checked_sub(now) {
        None => Some(format!("the {what} {path} has expired")),
        Some(left) if left < EXPIRING => Some(format!("the {what} {path} expires in {} days", left / 86_400)),
        Some(_) => None,
    }
}

fn heartbeats(status: &AmphoraStatus, mut problem: impl FnMut(String, &str)) {
    let beats = &status.heartbeats;
    // Without a health manager, outside a cloud, nobody waits for them.
    if let Some(why) = beats.silent.as_ref().filter(|_| beats.expected) {
        let fix = "until there are, the controller takes this amphora for dead: set what is missing and systemctl reload amphora-agent, or start keepalived";
        problem(format!("there are no heartbeats: {why}"), fix);
    }
    let failing = |target: &&HealthManager| target.last_error.is_some();
    for target in beats.targets.iter().filter(failing) {
        let why = target.last_error.as_deref().unwrap_or_default();
        problem(
            format!("heartbeats cannot be sent to {}: {why}", target.target),
            "check [health_manager] controller_ip_port_list and the management network's routes",
        );
    }
    if beats.members_left_out > 0 {
        problem(
            format!(
                "heartbeats have no room for {} members, which the controller shows as OFFLINE",
                beats.members_left_out
            ),
            "spread the members over more load balancers",
        );
    }
}

/// What works and is still worth a word.
pub(super) fn warnings(status: &AmphoraStatus) -> Vec<String> {
    let hiding = status.speaker.iter().flat_map(|speaker| notes::without_add_path(&status.peers, speaker.local_as));
    let unwatched = |peer: &PeerView| {
        let (name, how) = (peer.id(), peer.lacks_bfd()?);
        Some(format!("peer {name}: its session is up and its BFD {how}; until it is up the hold time alone counts"))
    };
    let notices = status.vips.iter().filter_map(|vip| vip.notice.clone());
    hiding.chain(status.peers.iter().filter_map(unwatched)).chain(notices).collect()
}

#[cfg(test)]
mod tests;
