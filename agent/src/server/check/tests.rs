//! Certificates of every kind, and what is said of each.

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose as Extended, IsCa, Issuer, KeyPair,
    date_time_ymd,
};

use super::*;
use crate::config::Flag;

/// A CA's certificate, and a server's with its key that it has issued.
fn pair(change: impl FnOnce(&mut CertificateParams)) -> (String, String) {
    let (ca_key, key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let mut ca = CertificateParams::default();
    ca.distinguished_name.push(DnType::CommonName, "a CA");
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let mut server = CertificateParams::new(["amphora-1".to_owned()]).unwrap();
    change(&mut server);
    let issued = server.signed_by(&key, &Issuer::from_params(&ca, &ca_key)).unwrap();
    (ca.self_signed(&ca_key).unwrap().pem(), issued.pem() + &key.serialize_pem())
}

/// What is found where the files are these; `None` is one that is not there.
fn found(ca: Option<&str>, server: Option<&str>) -> (Vec<String>, Vec<String>) {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    for (name, text) in [("ca.pem", ca), ("server.pem", server)] {
        if let Some(text) = text {
            std::fs::write(path(name), text).unwrap();
        }
    }
    let (ca, server) = (path("ca.pem"), path("server.pem"));
    let text = format!(
        "[amphora_agent]\namphora_id = amphora-1\nagent_server_cert = {}\nagent_server_ca = {}\n",
        server.display(),
        ca.display()
    );
    std::fs::write(path("a.conf"), text).unwrap();
    let Found { problems, warnings } = certificates(&Sources::new(vec![Flag::File(path("a.conf"))], directory.path()));
    let said = |all: Vec<Problem>| all.iter().map(ToString::to_string).collect();
    (said(problems), said(warnings))
}

#[test]
fn every_file_is_named_with_its_option_and_line() {
    let (problems, warnings) = found(None, None);
    assert_eq!((problems.len(), warnings.len()), (2, 0), "{problems:?}");
    assert!(problems[0].contains("a.conf:3: [amphora_agent] agent_server_cert: "), "{problems:?}");
    assert!(problems[1].contains("a.conf:4: [amphora_agent] agent_server_ca: "), "{problems:?}");
    assert!(problems.iter().all(|problem| problem.contains(".pem: cannot be read: No such file")), "{problems:?}");
    let (problems, _) = found(Some("no PEM"), Some("no PEM"));
    assert_eq!(problems.len(), 2, "{problems:?}");
}

#[test]
fn a_certificate_that_clients_would_refuse_is_a_problem_and_one_of_another_name_a_warning() {
    let (ca, good) = pair(|_| {});
    assert_eq!(found(Some(&ca), Some(&good)), (vec![], vec![]));
    let said = |change: fn(&mut CertificateParams)| {
        let (ca, server) = pair(change);
        found(Some(&ca), Some(&server))
    };
    let (problems, _) = said(|params| params.not_after = date_time_ymd(2024, 1, 1));
    assert!(problems.len() == 1 && problems[0].contains("has expired"), "{problems:?}");
    let (problems, _) = said(|params| params.extended_key_usages = vec![Extended::ClientAuth]);
    assert!(problems.len() == 1 && problems[0].contains("lacks serverAuth"), "{problems:?}");
    let (problems, warnings) =
        said(|params| params.subject_alt_names = CertificateParams::new(["b".to_owned()]).unwrap().subject_alt_names);
    assert_eq!(problems, [""; 0]);
    assert!(warnings.len() == 1 && warnings[0].contains("is not for amphora_id amphora-1"), "{warnings:?}");
    let (_, another) = pair(|_| {});
    let key = &another[another.find("-----BEGIN PRIVATE").unwrap()..];
    let certificate = &good[..good.find("-----BEGIN PRIVATE").unwrap()];
    let (problems, _) = found(Some(&ca), Some(&format!("{certificate}{key}")));
    assert!(problems.len() == 1 && problems[0].contains("not usable together"), "{problems:?}");
}

#[test]
fn what_a_ca_has_issued_is_no_clients_ca() {
    let (ca, server) = pair(|_| {});
    let (problems, _) = found(Some(&server), Some(&server));
    assert!(problems.len() == 1 && problems[0].contains("agent_server_ca: "), "{problems:?}");
    assert!(problems[0].contains("holds no CA's certificate"), "{problems:?}");
    let (problems, warnings) = found(Some(&format!("{ca}{server}")), Some(&server));
    assert_eq!(problems, [""; 0]);
    assert!(warnings.len() == 1 && warnings[0].contains("certificate 2 is no CA's"), "{warnings:?}");
}
