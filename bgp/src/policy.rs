//! Who hears what, as gobgp's policies.
//!
//! Import rejects everything but our own paths, so the speaker never learns a route and is no
//! transit router. Export rejects everything but, for each peer, paths marked for it or for all
//! ([`crate::tag`]), and puts that peer's attributes on. Always installed, before any peer exists.
//!
//! gobgpd takes the statements in order and each that matches changes the path: first the prepends a
//! path is marked for, then what a peer's routes get, and last the one that lets it out.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use gobgp_proto::{
    Codes,
    v4::{
        self, Actions, AsPrependAction, CommunityAction, Conditions, DefinedSet, LocalPrefAction, MatchSet, MedAction,
        Policy, PolicyAssignment, PolicyDirection, RouteAction, SetPoliciesRequest, Statement, conditions::RouteType,
    },
};

use crate::{Community, Error, Peer, PeerId, client::Client, tag};

const TABLE: &str = "global";
const IMPORT: &str = "amphora-import";
const EXPORT: &str = "amphora-export";
/// The name of a peer's neighbor set, large-community set and statement.
const TO: &str = "to-";
/// The set of those peers whose AS is not ours.
const EXTERNAL: &str = "external";

/// By kind and name: prefixes of neighbors, or expressions on large communities.
type Sets = BTreeMap<(i32, String), Vec<String>>;

/// All that gobgpd holds of policy, ours or not, in an order of its own.
#[derive(Debug, PartialEq)]
struct Held {
    sets: Sets,
    import: PolicyAssignment,
    export: PolicyAssignment,
}

/// A statement and the expressions on large communities it looks for.
type Decides<'a> = (&'a Statement, Option<&'a Vec<String>>);

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

/// A step that changes what matches and goes on to the next.
fn step(name: String, neighbors: MatchSet, marks: MatchSet, actions: Actions) -> Statement {
    let conditions =
        Conditions { neighbor_set: Some(neighbors), large_community_set: Some(marks), ..Conditions::default() };
    Statement { name, conditions: Some(conditions), actions: Some(actions) }
}

/// `times` more of our AS, which gobgpd has put there for an external peer by then.
fn prepend(times: u8) -> AsPrependAction {
    AsPrependAction { repeat: times.into(), use_left_most: true }
}

/// A peer's own: what its paths get that have none of their own, then whether they are let out at all.
fn to_peer(peer: &Peer, external: bool, codes: Codes, sets: &mut Sets) -> Vec<Statement> {
    let (name, said) = (format!("{TO}{}", peer.id), &peer.attributes);
    sets.insert((codes.set_neighbor, name.clone()), vec![host(peer.address)]);
    sets.insert((codes.set_large_community, name.clone()), vec![tag::pattern_all(), tag::pattern(&peer.id)]);
    let of_this_peer = MatchSet { r#type: codes.match_any, name: name.clone() };
    let mut statements = Vec::new();
    let mut unless = |set: &str, pattern: String, actions: Actions| {
        sets.insert((codes.set_large_community, set.to_owned()), vec![pattern]);
        let has_none = MatchSet { r#type: codes.match_invert, name: set.to_owned() };
        statements.push(step(format!("{set}-{}", peer.id), of_this_peer.clone(), has_none, actions));
    };
    if let Some(med) = said.med {
        let med = Some(MedAction { r#type: codes.med_replace, value: med.into() });
        unless("med", tag::pattern_own_med(), Actions { med, ..Actions::default() });
    }
    if let (Some(value), false) = (said.local_pref, external) {
        let local_pref = Some(LocalPrefAction { value });
        unless("local-pref", tag::pattern_own_local_pref(), Actions { local_pref, ..Actions::default() });
    }
    let its_own = CommunityAction {
        r#type: codes.community_add,
        communities: said.communities.iter().map(Community::to_string).collect(),
    };
    let without_marks = CommunityAction { r#type: codes.community_remove, communities: tag::patterns_any() };
    let actions = Actions {
        route_action: RouteAction::Accept.into(),
        community: Some(its_own).filter(|action| !action.communities.is_empty()),
        as_prepend: (external && said.prepend > 0).then(|| prepend(said.prepend)),
        large_community: Some(without_marks),
        ..Actions::default()
    };
    statements.push(step(name, of_this_peer.clone(), of_this_peer, actions));
    statements
}

/// The policies that give these peers of an AS what is theirs.
fn want(peers: &[Peer], local_as: u32, codes: Codes) -> Held {
    let local = Statement {
        name: "local".to_owned(),
        conditions: Some(Conditions { route_type: RouteType::Local.into(), ..Conditions::default() }),
        actions: Some(Actions { route_action: RouteAction::Accept.into(), ..Actions::default() }),
    };
    let mut sets = BTreeMap::new();
    let mut statements = Vec::new();
    let ordered: BTreeMap<_, _> = peers.iter().map(|p| (&p.id, p)).collect();
    let is_external = |peer: &Peer| peer.remote_as.get() != local_as;
    let external: Vec<String> = ordered.values().filter(|p| is_external(p)).map(|p| host(p.address)).collect();
    if !external.is_empty() {
        // An empty set would match every neighbor.
        sets.insert((codes.set_neighbor, EXTERNAL.to_owned()), external);
        for times in tag::PREPENDS {
            let name = format!("prepend-{times}");
            sets.insert((codes.set_large_community, name.clone()), vec![tag::pattern_prepend(times)]);
            let matches = |name: &str| MatchSet { r#type: codes.match_any, name: name.to_owned() };
            let actions = Actions { as_prepend: Some(prepend(times)), ..Actions::default() };
            statements.push(step(name.clone(), matches(EXTERNAL), matches(&name), actions));
        }
    }
    for peer in ordered.values() {
        statements.extend(to_peer(peer, is_external(peer), codes, &mut sets));
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

    /// By address: the statements that decide what this neighbor is sent, with the expressions they look for.
    fn neighbors(&self, codes: Codes) -> BTreeMap<&str, Vec<Decides<'_>>> {
        let mut all: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for statement in self.export.policies.iter().flat_map(|p| &p.statements) {
            let Some(conditions) = &statement.conditions else { continue };
            let set = |kind, of: &Option<MatchSet>| self.sets.get(&(kind, of.as_ref()?.name.clone()));
            let marks = set(codes.set_large_community, &conditions.large_community_set);
            for address in set(codes.set_neighbor, &conditions.neighbor_set).into_iter().flatten() {
                all.entry(address.as_str()).or_default().push((statement, marks));
            }
        }
        all
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
    let local_as = client.get_bgp().await?.asn;
    if local_as == 0 {
        return Err(Error::NotStarted);
    }
    let (want, have_before) = (want(peers, local_as, codes), have(client).await?);
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

/// Which paths these statements let out, whatever they do to them.
fn let_out<'a>(
    statements: &'a [Decides<'_>],
) -> impl Iterator<Item = (Option<&'a Conditions>, Option<&'a Vec<String>>)> {
    let accepts = |s: &&Decides<'_>| s.0.actions.as_ref().is_some_and(|a| a.route_action == RouteAction::Accept as i32);
    statements.iter().filter(accepts).map(|(statement, marks)| (statement.conditions.as_ref(), *marks))
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
        // gobgpd stays away for 30 s, so attributes alone are not worth it.
        let same_routes = before.zip(after).is_some_and(|(before, after)| let_out(before).eq(let_out(after)));
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
