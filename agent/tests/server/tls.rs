//! Who gets in, and certificates that change while the server runs.

use std::{fs, path::Path};

use crate::{
    front::{Front, ask},
    pki::{self, Authority, Identity},
};
use amphora_agent::{
    config::TlsVersion,
    server::{
        serve::Limits,
        tls::{Reloader, TlsError, check_identity},
    },
};
use rcgen::ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};
use rustls::version::{TLS12, TLS13};

/// CVE-2019-17134, at the start and after the CA and the server's certificate were replaced.
#[tokio::test]
async fn nobody_without_a_certificate_of_our_ca_reaches_a_handler() {
    let front = Front::start(Limits::default());
    let (first, renewed, other) = (&front.ca, Authority::new(), Authority::new());
    for (ca, replaced) in [(first, &other), (&renewed, first)] {
        fs::write(front.files.path().join("client_ca.pem"), &ca.pem).unwrap();
        fs::write(front.files.path().join("server.pem"), ca.server().pem).unwrap();
        let calls = front.calls();
        let strangers = [
            ("none", None),
            ("self-signed", Some(Identity::self_signed())),
            ("of another CA, or the one before", Some(replaced.controller())),
            ("expired", Some(ca.issue(pki::expired))),
            ("not yet valid", Some(ca.issue(pki::not_yet_valid))),
            ("for servers only", Some(ca.issue(|params| params.extended_key_usages = vec![ServerAuth]))),
        ];
        for version in [&TLS12, &TLS13] {
            for (kind, identity) in &strangers {
                let client = pki::client(ca, identity.as_ref(), version);
                // In TLS 1.3 connecting succeeds and the refusal comes with the first read.
                let answer = front.get(&client, "/").await;
                assert!(answer.as_ref().map_or(true, String::is_empty), "{kind}, {version:?}: {answer:?}");
            }
        }
        assert_eq!(front.calls(), calls);
        let known = pki::client(ca, Some(&ca.controller()), &TLS13);
        assert!(front.get(&known, "/").await.unwrap().starts_with("HTTP/1.1 200"));
        assert_eq!(front.calls(), calls + 1);
    }
}

#[tokio::test]
async fn certificates_of_old_and_new_cas_are_let_in() {
    for ca in [Authority::new(), Authority::without_key_identifier(), Authority::with_sha512_identifier()] {
        let front = Front::with(ca, Limits::default(), TlsVersion::Tls12);
        for version in [&TLS12, &TLS13] {
            for (usages, identifier) in
                [(vec![], false), (vec![ClientAuth], true), (vec![ClientAuth, ServerAuth], false)]
            {
                let identity = front.ca.issue(|params| {
                    params.extended_key_usages = usages;
                    params.use_authority_key_identifier_extension = identifier;
                });
                let answer = front.get(&pki::client(&front.ca, Some(&identity), version), "/who").await.unwrap();
                assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("controller.test"), "{answer}");
            }
        }
    }
}

#[tokio::test]
async fn the_minimum_version_holds() {
    let front = Front::with(Authority::new(), Limits::default(), TlsVersion::Tls13);
    let identity = front.ca.controller();
    front.get(&pki::client(&front.ca, Some(&identity), &TLS12), "/").await.unwrap_err();
    assert!(
        front.get(&pki::client(&front.ca, Some(&identity), &TLS13), "/").await.unwrap().starts_with("HTTP/1.1 200")
    );
}

#[tokio::test]
async fn a_new_server_certificate_serves_the_next_connection_and_a_broken_one_none() {
    let front = Front::start(Limits::default());
    let client = front.client();
    let path = front.files.path().join("server.pem");
    let shown = async || {
        let tls = front.connect(&client).await.unwrap();
        tls.get_ref().1.peer_certificates().unwrap()[0].to_vec()
    };
    let mut before = front.connect(&client).await.unwrap();
    let first = shown().await;

    let renewed = front.ca.server();
    let beside = front.files.path().join("new");
    fs::write(&beside, &renewed.pem).unwrap();
    fs::rename(&beside, &path).unwrap();
    assert_eq!(shown().await, renewed.chain[0].to_vec());
    assert_ne!(first, renewed.chain[0].to_vec());
    assert!(ask(&mut before, "/").await.unwrap().ends_with("root"));

    let key_of_another =
        front.ca.server().pem.split_inclusive("-----END CERTIFICATE-----\n").nth(1).unwrap().to_owned();
    let certificate = renewed.pem.split_inclusive("-----END CERTIFICATE-----\n").next().unwrap().to_owned();
    for broken in ["", "garbage", &certificate, &key_of_another, &(certificate.clone() + &key_of_another)] {
        fs::write(&path, broken).unwrap();
        assert_eq!(shown().await, renewed.chain[0].to_vec(), "{broken}");
    }
    fs::remove_file(&path).unwrap();
    assert_eq!(shown().await, renewed.chain[0].to_vec());
    let last = front.ca.server();
    fs::write(&path, &last.pem).unwrap(); // in place, as upstream's agent writes it
    assert_eq!(shown().await, last.chain[0].to_vec());
}

/// With session resumption the second connection would be taken without a look at the new CA.
#[tokio::test]
async fn a_replaced_client_ca_shuts_out_those_it_did_not_sign() {
    let front = Front::start(Limits::default());
    for version in [&TLS12, &TLS13] {
        let (old, new) = (front.ca.controller(), Authority::new());
        let path = front.files.path().join("client_ca.pem");
        fs::write(&path, &front.ca.pem).unwrap();
        let client = pki::client(&front.ca, Some(&old), version);
        for _ in 0..2 {
            assert!(front.get(&client, "/").await.unwrap().starts_with("HTTP/1.1 200"));
        }
        let calls = front.calls();
        fs::write(&path, &new.pem).unwrap();
        assert!(front.get(&client, "/").await.map_or(true, |answer| answer.is_empty()), "{version:?}");
        assert_eq!(front.calls(), calls);
        let client = pki::client(&front.ca, Some(&new.controller()), version);
        assert!(front.get(&client, "/").await.unwrap().starts_with("HTTP/1.1 200"));
        fs::write(&path, new.pem.clone() + &front.ca.pem).unwrap(); // both, as during a rotation
        assert!(
            front.get(&pki::client(&front.ca, Some(&old), version), "/").await.unwrap().starts_with("HTTP/1.1 200")
        );
    }
}

#[test]
fn unusable_files_are_named_with_what_they_lack() {
    let directory = tempfile::tempdir().unwrap();
    let ca = Authority::new();
    let file = |name: &str, content: &str| {
        let path = directory.path().join(name);
        fs::write(&path, content).unwrap();
        path
    };
    let pem = ca.server().pem;
    let (certificate, key) = pem.split_at(pem.find("-----BEGIN PRIVATE").unwrap());
    let (good, roots) = (file("good", &pem), file("ca", &ca.pem));
    let new = |cert: &Path, ca: &Path| Reloader::new(cert, ca, TlsVersion::Tls12).map(drop).unwrap_err();
    assert!(matches!(new(&file("none", ""), &roots), TlsError::NoCertificate(_)));
    assert!(matches!(new(&file("half", certificate), &roots), TlsError::NoKey(..)));
    assert!(matches!(new(&file("key", key), &roots), TlsError::NoCertificate(_)));
    assert!(matches!(
        new(&file("other", &(certificate.to_owned() + &ca.server().pem[certificate.len()..])), &roots),
        TlsError::Identity(..)
    ));
    assert!(matches!(new(&good, &file("empty", "")), TlsError::NoCa(..)));
    assert!(matches!(new(&good, &directory.path().join("missing")), TlsError::Read(..)));
    assert!(new(&good, &directory.path().join("missing")).to_string().contains("missing"));
    check_identity(&good, (key.to_owned() + certificate).as_bytes()).unwrap(); // in either order
    assert!(matches!(check_identity(&good, certificate.as_bytes()), Err(TlsError::NoKey(..))));
    assert!(matches!(check_identity(&good, &[0xff; 64]), Err(TlsError::NoCertificate(_))));
}

#[test]
fn a_certificate_that_no_client_would_take_is_refused_with_its_reason() {
    let (ca, path) = (Authority::new(), Path::new("sent"));
    let refused = |identity: &Identity| check_identity(path, identity.pem.as_bytes()).unwrap_err().to_string();
    assert!(refused(&ca.issue(pki::expired)).contains("has expired"));
    assert!(refused(&ca.issue(pki::not_yet_valid)).contains("not valid before"));
    assert!(refused(&ca.controller()).contains("serverAuth"));
    let leaf = check_identity(path, ca.server().pem.as_bytes()).unwrap();
    assert!(leaf.is_for("amphora.test") && !leaf.is_for("another"));
}
