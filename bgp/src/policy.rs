//! Who hears what, as gobgp's policies.
//!
//! Import rejects everything but our own paths, so the speaker never learns a route and is no
//! transit router. Export rejects everything but, for each peer, paths marked for it or for all
//! ([`crate::tag`]), and puts that peer's communities on. Always installed, before any peer exists.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use gobgp_proto::{
    Codes,
    v4::{
        self, Actions, CommunityAction, Conditions, DefinedSet, MatchSet, Policy, PolicyAssignment, PolicyDirection,
        RouteAction, SetPoliciesRequest, Statement, conditions::RouteType,
    },
};

use crate::{Community, Error, Peer, PeerId, client::Client, tag};

const TABLE: &str = "global";
const IMPORT: &str = "amphora-import";
const EXPORT: &str = "amphora-export";
/// The name of a peer's neighbor set, large-community set and statement.
const TO: &str = "to-";

/// All that gobgpd holds of policy, ours or not, in an order of its own.
#[derive(Debug, PartialEq)]
struct Held {
    sets: BTreeMap<(i32, String), Vec<String>>,
    import: PolicyAssignment,
    export: PolicyAssignment,
}

fn reject_all(direction: PolicyDirection, policies: Vec<Policy>) -> PolicyAssignment {
    PolicyAssignment {
        name: TABLE.to_owned(),
        direction: direction.into(),
        policies,
        default_action: RouteAction::Reject.into(),
    }
}

fn host(address: IpAddr) -> String {
    format!("{address}/{}", if address.is_ipv4() { 32 } else { 128 })
}

/// The policies that give these peers their marks.
fn want(peers: &[Peer], codes: Codes) -> Held {
    let accept = Actions { route_action: RouteAction::Accept.into(), ..Actions::default() };
    let local = Statement {
        name: "local".to_owned(),
        conditions: Some(Conditions { route_type: RouteType::Local.into(), ..Conditions::default() }),
        actions: Some(accept.clone()),
    };
    let mut sets = BTreeMap::new();
    let mut statements = Vec::new();
    let ordered: BTreeMap<_, _> = peers.iter().map(|p| (&p.id, p)).collect();
    for (id, peer) in ordered {
        let name = format!("{TO}{id}");
        sets.insert((codes.set_neighbor, name.clone()), vec![host(peer.address)]);
        sets.insert((codes.set_large_community, name.clone()), vec![tag::pattern_all(), tag::pattern(id)]);
        let of_this_peer = Some(MatchSet { r#type: codes.match_any, name: name.clone() });
        let without_marks = CommunityAction { r#type: codes.community_remove, communities: vec![tag::pattern_any()] };
        let its_own = CommunityAction {
            r#type: codes.community_add,
            communities: peer.communities.iter().map(Community::to_string).collect(),
        };
        statements.push(Statement {
            name,
            conditions: Some(Conditions {
                neighbor_set: of_this_peer.clone(),
                large_community_set: of_this_peer,
                ..Conditions::default()
            }),
            actions: Some(Actions {
                community: Some(its_own).filter(|action| !action.communities.is_empty()),
                large_community: Some(without_marks),
                ..accept.clone()
            }),
        });
    }
    let policy = |name: &str, statements| vec![Policy { name: name.to_owned(), statements }];
    Held {
        sets,
        import: reject_all(PolicyDirection::Import, policy(IMPORT, vec![local])),
        export: reject_all(PolicyDirection::Export, policy(EXPORT, statements)),
    }
}

async fn have(client: &Client) -> Result<Held, Error> {
    let codes = client.codes();
    let mut sets = BTreeMap::new();
    for kind in [codes.set_neighbor, codes.set_large_community] {
        for mut set in client.defined_sets(kind).await? {
            if kind == codes.set_large_community {
                set.list.iter_mut().for_each(|pattern| *pattern = tag::anchored(pattern));
            }
            sets.insert((kind, set.name), set.list);
        }
    }
    let mut held = Held { sets, import: PolicyAssignment::default(), export: PolicyAssignment::default() };
    for assignment in client.assignments().await? {
        match PolicyDirection::try_from(assignment.direction) {
            Ok(PolicyDirection::Import) => held.import = assignment,
            Ok(PolicyDirection::Export) => held.export = assignment,
            _ => {}
        }
    }
    Ok(held)
}

impl Held {
    /// Whether both directions end in our policies and otherwise reject: then new policies of the
    /// same names take their place in one step.
    fn is_ours(&self) -> bool {
        let ours = |a: &PolicyAssignment, name: &str| {
            a.default_action == i32::from(RouteAction::Reject) && a.policies.iter().map(|p| p.name.as_str()).eq([name])
        };
        ours(&self.import, IMPORT) && ours(&self.export, EXPORT)
    }

    /// By address: the statement that decides what this neighbor is sent, with its sets.
    fn neighbors<'a>(&'a self, codes: Codes) -> BTreeMap<&'a str, (&'a Statement, Option<&'a Vec<String>>)> {
        let statements = self.export.policies.iter().flat_map(|p| &p.statements);
        let entry = |s: &'a Statement| {
            let set = |kind| self.sets.get(&(kind, s.name.clone()));
            Some((set(codes.set_neighbor)?.first()?.as_str(), (s, set(codes.set_large_community))))
        };
        statements.filter_map(entry).collect()
    }

    fn request(&self) -> SetPoliciesRequest {
        let set = |((kind, name), list): (&(i32, String), &Vec<String>)| DefinedSet {
            defined_type: *kind,
            name: name.clone(),
            list: list.clone(),
        };
        SetPoliciesRequest {
            defined_sets: self.sets.iter().map(set).collect(),
            policies: [&self.import, &self.export].into_iter().flat_map(|a| a.policies.clone()).collect(),
        }
    }
}

/// Makes the policies what these peers need, and says whether anything had to be sent.
///
/// At no moment is more let out than before and after: the first time, both directions are closed
/// before anything else; later ones replace all policies in one step of gobgpd's. Neighbors whose
/// own statement changed, and no others, are then sent what is theirs.
pub(crate) async fn set(client: &Client, peers: &[Peer]) -> Result<bool, Error> {
    tag::check_peers(peers)?;
    let codes = client.codes();
    let (want, have_before) = (want(peers, codes), have(client).await?);
    if want == have_before {
        return Ok(false);
    }
    if have_before.is_ours() {
        client.set_policies(want.request()).await?;
    } else {
        // SetPolicies takes over the assignments that stand, by name, and gobgpd starts with "accept"
        client.assign(reject_all(PolicyDirection::Export, vec![])).await?;
        client.assign(reject_all(PolicyDirection::Import, vec![])).await?;
        client.set_policies(want.request()).await?;
        client.assign(want.import.clone()).await?;
        client.assign(want.export.clone()).await?;
    }
    let now = have(client).await?;
    if now != want {
        tracing::error!(?want, ?now, "the speaker's policies are not those it was given");
        let why = "they read back differently".to_owned();
        return Err(Error::Refused { what: "set its policies".to_owned(), why });
    }
    reset_changed(client, &have_before, &want).await?;
    Ok(true)
}

async fn reset_changed(client: &Client, before: &Held, after: &Held) -> Result<(), Error> {
    let codes = client.codes();
    let (before, after) = (before.neighbors(codes), after.neighbors(codes));
    let known: BTreeSet<String> =
        client.list_peers(false).await?.into_iter().filter_map(|p| Some(p.conf?.neighbor_address)).collect();
    for address in known {
        let Ok(ip) = address.parse::<IpAddr>() else { continue };
        let key = host(ip);
        let (before, after) = (before.get(key.as_str()), after.get(key.as_str()));
        if before == after {
            continue;
        }
        // A soft reset of 3.x announces what is now let through and does not withdraw what no longer is. After a hard one
        // gobgpd stays away for 30 s, so communities alone are not worth it.
        let same_routes = before
            .zip(after)
            .is_some_and(|((b, b_marks), (a, a_marks))| b.conditions == a.conditions && b_marks == a_marks);
        let soft = client.version() == crate::ApiVersion::V4 || same_routes;
        tracing::info!(%address, soft, "export policy changed, resetting");
        client.reset_peer(address, soft).await?;
    }
    Ok(())
}

/// The peers the policies know, by mark: what turns a path's marks into names.
pub(crate) async fn names(client: &Client) -> Result<BTreeMap<u32, PeerId>, Error> {
    let sets = client.defined_sets(client.codes().set_large_community).await?;
    Ok(sets.iter().filter_map(name).collect())
}

fn name(set: &v4::DefinedSet) -> Option<(u32, PeerId)> {
    let id = set.name.strip_prefix(TO)?.parse().ok()?;
    Some((tag::parse_pattern(set.list.get(1)?)?, id))
}
