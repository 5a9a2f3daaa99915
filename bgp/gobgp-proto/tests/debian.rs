//! Our subset of gobgp's protos says what the protos Debian ships say.

#![allow(clippy::unwrap_used)] // here, an unwrap is an assertion

mod common;

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::Command,
};

use common::{messages, our_folder, pool, shape};
use gobgp_proto::Codes;
use protox::prost_reflect::{DescriptorPool, ServiceDescriptor};

const GOCODE: &str = "usr/share/gocode/src/github.com/osrg/gobgp";

/// Debian 12's, from golang-github-osrg-gobgp-dev.
fn debian_v3() -> Result<Vec<DescriptorPool>, String> {
    let folder = Path::new("/").join(GOCODE).join("api");
    if !folder.join("gobgp.proto").exists() {
        return Err("golang-github-osrg-gobgp-dev is not installed".to_owned());
    }
    Ok(["gobgp.proto", "attribute.proto", "capability.proto"].iter().map(|file| pool(&folder, file)).collect())
}

/// Debian unstable's, unpacked beside.
fn debian_v4() -> Result<Vec<DescriptorPool>, String> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fetch-gobgp4.sh");
    let unpacked: PathBuf = concat!(env!("CARGO_MANIFEST_DIR"), "/../../build/gobgp4").into();
    let run = Command::new(script).arg(&unpacked).output().map_err(|e| e.to_string())?;
    if !run.status.success() {
        return Err(String::from_utf8_lossy(&run.stderr).trim().to_owned());
    }
    Ok(vec![pool(&unpacked.join(GOCODE).join("proto"), "api/gobgp.proto")])
}

/// Every way in which ours contradicts theirs.
fn differences(ours: &DescriptorPool, package: &str, theirs: &[DescriptorPool]) -> Vec<String> {
    let mut problems = Vec::new();
    for (name, message) in messages(ours, package) {
        let full = message.full_name();
        let Some(reference) = theirs.iter().find_map(|p| p.get_message_by_name(full)) else {
            problems.push(format!("{name}: they have no such message"));
            continue;
        };
        for field in message.fields() {
            let said = shape(&field, package, true);
            match reference.get_field_by_name(field.name()).map(|f| shape(&f, package, true)) {
                Some(theirs) if theirs == said => {}
                theirs => problems.push(format!("{name}.{}: we say {said}, they say {theirs:?}", field.name())),
            }
        }
    }
    for ours in ours.all_enums().filter(|e| e.package_name() == package) {
        let Some(reference) = theirs.iter().find_map(|p| p.get_enum_by_name(ours.full_name())) else {
            problems.push(format!("{}: they have no such enum", ours.full_name()));
            continue;
        };
        for value in ours.values() {
            let number = reference.get_value_by_name(value.name()).map(|v| v.number());
            if number != Some(value.number()) {
                problems.push(format!("{}: {} is {number:?} there", ours.full_name(), value.name()));
            }
        }
    }
    for ours in ours.services() {
        let Some(reference) = theirs.iter().find_map(|p| p.get_service_by_name(ours.full_name())) else {
            problems.push(format!("{}: they have no such service", ours.full_name()));
            continue;
        };
        let theirs = methods(&reference);
        problems.extend(methods(&ours).into_iter().filter(|m| !theirs.contains(m)));
    }
    problems
}

/// `Name(stream? In) stream? Out` of each method.
fn methods(service: &ServiceDescriptor) -> Vec<String> {
    let stream = |yes| if yes { "stream " } else { "" };
    service
        .methods()
        .map(|m| {
            let (takes, gives) = (stream(m.is_client_streaming()), stream(m.is_server_streaming()));
            format!("{}({takes}{}) {gives}{}", m.name(), m.input().full_name(), m.output().full_name())
        })
        .collect()
}

/// `Ok` of the pools, or a line on the terminal (past the test harness's capture) and nothing.
fn or_skip(what: &str, pools: Result<Vec<DescriptorPool>, String>) -> Option<Vec<DescriptorPool>> {
    pools.inspect_err(|why| drop(writeln!(std::io::stderr(), "SKIPPED {what}: {why}"))).ok()
}

#[test]
fn v3_agrees_with_debian_12() {
    if let Some(theirs) = or_skip("v3_agrees_with_debian_12", debian_v3()) {
        assert_eq!(differences(&pool(our_folder(), "v3.proto"), "apipb", &theirs), Vec::<String>::new());
    }
}

#[test]
fn v4_agrees_with_debian_unstable() {
    if let Some(theirs) = or_skip("v4_agrees_with_debian_unstable", debian_v4()) {
        assert_eq!(differences(&pool(our_folder(), "v4.proto"), "api", &theirs), Vec::<String>::new());
    }
}

#[test]
fn a_difference_is_found() {
    let ours = pool(our_folder(), "v4.proto");
    let text = std::fs::read_to_string(our_folder().join("v4.proto")).unwrap();
    let changes = [
        ("uint32 ttl_min = 2;", "uint32 ttl_min = 3;"),
        ("repeated string next_hops", "string next_hops"),
        ("uint32 peer_asn", "uint64 peer_asn"),
        ("TYPE_REMOVE = 2;", "TYPE_TAKE = 2;"),
        ("rpc ListPeer(ListPeerRequest) returns (stream", "rpc ListPeer(ListPeerRequest) returns ("),
    ];
    for (from, to) in changes {
        assert!(text.contains(from), "{from}");
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("v4.proto"), text.replace(from, to)).unwrap();
        let found = differences(&ours, "api", &[pool(folder.path(), "v4.proto")]);
        assert_eq!(found.len(), 1, "{from}: {found:?}");
    }
    assert!(differences(&ours, "api", std::slice::from_ref(&ours)).is_empty());
}

#[test]
fn the_codes_are_the_enums() {
    let check = |file, package: &str, codes: Codes, values: [(&str, &str, i32); 11]| {
        let ours = pool(our_folder(), file);
        for (name, value, code) in values {
            let said = ours.get_enum_by_name(&format!("{package}.{name}")).unwrap();
            assert_eq!(said.get_value_by_name(value).map(|v| v.number()), Some(code), "{name}.{value} of {codes:?}");
        }
    };
    let c = Codes::V3;
    check(
        "v3.proto",
        "apipb",
        c,
        [
            ("TableType", "GLOBAL", c.table_global),
            ("TableType", "ADJ_OUT", c.table_adj_out),
            ("TableLookupPrefix.Type", "EXACT", c.lookup_exact),
            ("DefinedType", "NEIGHBOR", c.set_neighbor),
            ("DefinedType", "LARGE_COMMUNITY", c.set_large_community),
            ("MatchSet.Type", "ANY", c.match_any),
            ("MatchSet.Type", "INVERT", c.match_invert),
            ("MedAction.Type", "REPLACE", c.med_replace),
            ("CommunityAction.Type", "ADD", c.community_add),
            ("CommunityAction.Type", "REMOVE", c.community_remove),
            ("ResetPeerRequest.SoftResetDirection", "OUT", c.reset_out),
        ],
    );
    let c = Codes::V4;
    check(
        "v4.proto",
        "api",
        c,
        [
            ("TableType", "TABLE_TYPE_GLOBAL", c.table_global),
            ("TableType", "TABLE_TYPE_ADJ_OUT", c.table_adj_out),
            ("TableLookupPrefix.Type", "TYPE_EXACT", c.lookup_exact),
            ("DefinedType", "DEFINED_TYPE_NEIGHBOR", c.set_neighbor),
            ("DefinedType", "DEFINED_TYPE_LARGE_COMMUNITY", c.set_large_community),
            ("MatchSet.Type", "TYPE_ANY", c.match_any),
            ("MatchSet.Type", "TYPE_INVERT", c.match_invert),
            ("MedAction.Type", "TYPE_REPLACE", c.med_replace),
            ("CommunityAction.Type", "TYPE_ADD", c.community_add),
            ("CommunityAction.Type", "TYPE_REMOVE", c.community_remove),
            ("ResetPeerRequest.Direction", "DIRECTION_OUT", c.reset_out),
        ],
    );
}
