//! Who gets in, and certificates replaced on disk.

use std::fs;

use hyper::Method;
use lab::addresses::Family;
use lab::pki::{Identity, Pki};
use lab::{Amphora, Fabric};
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, date_time_ymd};
use serde_json::{Value, json};

use crate::support::{Everything, fabric, routes, running, vip};

const CA: &str = "/etc/octavia/certs/client_ca.pem";
const SERVER: &str = "/etc/octavia/certs/server.pem";

/// Every call there is, with what would be changed by those that change something.
fn calls(amphora: &Amphora) -> Vec<(Method, String, Value)> {
    let registration = json!({"vip_ip": "203.0.113.9", "nexthop_ip": "192.0.2.77"});
    let mut of_amphora = registration.clone();
    of_amphora["amphora_id"] = "other".into();
    let get = |path: &str| (Method::GET, path.to_owned(), Value::Null);
    let delete = |path: &str| (Method::DELETE, path.to_owned(), Value::Null);
    vec![
        get("/"),
        get("/1.0/info"),
        get("/1.0/interface/203.0.113.7"),
        get("/1.0/distributor/amphorae"),
        get("/1.0/distributor/vips"),
        get("/1.0/distributor/peers"),
        get("/1.0/nowhere"),
        (Method::POST, format!("/1.0/plug/vip/{}", vip().v4), amphora.plug_body(vip())),
        (Method::POST, "/1.0/distributor/amphorae".to_owned(), of_amphora),
        (Method::POST, "/1.0/distributor/vips".to_owned(), registration),
        delete("/1.0/distributor/amphorae/held"),
        delete("/1.0/distributor/vips/203.0.113.8"),
        delete("/1.0/plug/vip/203.0.113.7"),
    ]
}

fn strangers(fabric: &Fabric) -> Vec<(&'static str, Option<Identity>)> {
    let like = |adjust: fn(&mut CertificateParams)| Some(fabric.pki.client_identity(adjust).unwrap());
    vec![
        ("none", None),
        ("self-signed", Some(Pki::self_signed().unwrap())),
        ("of another CA", Some(fabric.pki.stranger().clone())),
        ("expired", like(|params| params.not_after = date_time_ymd(2026, 1, 1))),
        ("not yet valid", like(|params| params.not_before = date_time_ymd(2095, 1, 1))),
        ("for servers only", like(|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth])),
    ]
}

/// What must not get in: every call under every certificate that is not good.
#[track_caller]
fn nobody_gets_in(fabric: &Fabric, strangers: &[(&'static str, Option<Identity>)]) {
    let amphora = &fabric.amphorae[0];
    let before = Everything::of(amphora);
    let log = amphora.agent().unwrap().log().to_owned();
    let read = fs::read_to_string(&log).unwrap().len();
    let calls = calls(amphora);
    for (kind, identity) in strangers {
        let mut api = amphora.api_as(fabric.pki.client(identity.as_ref()).unwrap()).unwrap();
        for (method, path, body) in &calls {
            let reply = api.send(method.clone(), path, &[], body.to_string().into_bytes());
            assert!(reply.is_err(), "{kind}: {method} {path}: {reply:?}");
        }
    }
    assert_eq!(Everything::of(amphora), before);
    let log = fs::read_to_string(&log).unwrap()[read..].to_owned();
    let refusals = log.lines().filter(|line| line.contains("client refused")).count();
    assert_eq!(refusals, strangers.len() * calls.len(), "each handshake is refused, with a line:\n{log}");
    // What a handler does shows under its own span, or as the converging task's steps.
    for mark in ["plug_vip", "register", "told the speaker", "step="] {
        assert!(!log.contains(mark), "{mark:?} is in\n{log}");
    }
}

#[test]
fn no_handler_runs_for_a_client_without_a_good_certificate() {
    let (fabric, mut api) = running("strangers", 1);
    fabric.tors[0].wait_established(fabric.amphorae[0].management(Family::V4), crate::support::PATIENCE).unwrap();
    let held = "203.0.113.8".parse().unwrap();
    api.register("held", held, "192.0.2.77".parse().unwrap(), None).unwrap().success().unwrap();
    crate::support::wait_route(&mut api, held, "ACTIVE", "ONLINE");
    nobody_gets_in(&fabric, &strangers(&fabric));
    assert_eq!(routes(&mut api, "amphorae").len(), 1);
}

/// Certificates live for 30 days by default, so this is routine.
#[test]
fn replaced_certificates_count_for_the_next_connection_and_an_open_one_ends_with_the_ca_of_its_client() {
    let fabric = fabric("rotation", 1);
    let amphora = &fabric.amphorae[0];
    let mut open = crate::support::start(amphora);
    let (node, addresses) = (amphora.node(), [amphora.management(Family::V4)]);
    let replace = |path: &str, contents: String| {
        node.write_file(&format!("{path}.new"), contents, 0o600).unwrap();
        node.run(["mv", &format!("{path}.new"), path]).unwrap();
    };
    // Another CA for everything: a client that trusts only this one, and has its certificate from it.
    let other = Pki::new().unwrap();
    let connects = |pki: &Pki, identity: &Identity| {
        let mut api = amphora.api_as(pki.client(Some(identity)).unwrap()).unwrap();
        api.get("/").map(|reply| reply.status).ok()
    };
    let [old, new] = [&*fabric.pki, &other];
    assert_eq!(connects(old, old.controller()), Some(200));
    assert_eq!(connects(new, old.controller()), None, "the server's certificate is the old CA's");

    let server = new.server(amphora.id(), &addresses).unwrap();
    replace(SERVER, server.certificate + &server.key);
    assert_eq!(connects(new, old.controller()), Some(200));
    assert_eq!(connects(old, old.controller()), None, "the new certificate is shown");
    assert_eq!(open.get("/1.0/info").unwrap().status, 200);

    replace(CA, new.ca() + &old.ca()); // both, while the controllers change theirs
    assert_eq!([old.controller(), new.controller()].map(|client| connects(new, client)), [Some(200); 2]);
    let kept = |identity| {
        let mut api = amphora.api_as(new.client(Some(identity)).unwrap()).unwrap();
        assert_eq!(api.get("/1.0/info").unwrap().status, 200);
        api
    };
    let [mut outsider, mut idle] = [kept(old.controller()), kept(old.controller())];
    assert_eq!(outsider.get("/1.0/info").unwrap().status, 200, "it is kept");
    replace(CA, new.ca());
    // Nobody has connected since: its own request is what tells.
    let registration = json!({"vip_ip": "203.0.113.9", "nexthop_ip": "192.0.2.77"});
    assert!(outsider.post("/1.0/distributor/vips", &registration).is_err(), "whose CA is trusted no more");
    assert!(idle.get("/1.0/info").is_err(), "an idle one ends too, and its client gets no other");
    assert_eq!(connects(new, new.controller()), Some(200));
    nobody_gets_in_but_new(&fabric, new);
    assert!(open.get("/1.0/info").is_err(), "nor does the first");

    replace(SERVER, "no certificate".to_owned());
    assert_eq!(connects(new, new.controller()), Some(200), "what cannot be used does not replace what can");
}

/// After a change of the CA too: the old CA's controller is a stranger like the others.
fn nobody_gets_in_but_new(fabric: &Fabric, new: &Pki) {
    let amphora = &fabric.amphorae[0];
    for identity in [fabric.pki.controller(), fabric.pki.stranger()] {
        let mut api = amphora.api_as(new.client(Some(identity)).unwrap()).unwrap();
        for (method, path, body) in calls(amphora) {
            assert!(api.send(method.clone(), &path, &[], body.to_string().into_bytes()).is_err(), "{method} {path}");
        }
    }
    assert!(!amphora.node().within(|| fs::exists(crate::support::STATE)).unwrap().unwrap());
}
