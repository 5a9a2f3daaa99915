//! The checked-in Rust code is what `proto/` says.

#![allow(clippy::unwrap_used)] // here, an unwrap is an assertion

mod common;

use std::{collections::BTreeSet, path::Path};

use common::{messages, our_folder, pool, shape};
use protox::prost_reflect::Kind;

/// Messages of v3 that are the same bytes as v4's of the same name: same numbers, cardinalities and
/// types, down to the leaves; only numbers of enum values may differ ([`gobgp_proto::Codes`]).
fn shared() -> BTreeSet<String> {
    let (v3, v4) = (pool(our_folder(), "v3.proto"), pool(our_folder(), "v4.proto"));
    let (v3, v4) = (messages(&v3, "apipb"), messages(&v4, "api"));
    let mut same: BTreeSet<String> = v3.keys().filter(|name| v4.contains_key(*name)).cloned().collect();
    loop {
        let before = same.len();
        same = same
            .iter()
            .filter(|name| {
                let (a, b) = (&v3[*name], &v4[*name]);
                let inner_shared = a.fields().all(|f| match f.kind() {
                    Kind::Message(m) if m.package_name() == "apipb" => same.contains(&m.full_name()["apipb.".len()..]),
                    _ => true,
                });
                let fields = |m: &protox::prost_reflect::MessageDescriptor, package| {
                    m.fields().map(|f| shape(&f, package, false)).collect::<BTreeSet<_>>()
                };
                inner_shared && fields(a, "apipb") == fields(b, "api")
            })
            .cloned()
            .collect();
        if same.len() == before {
            return same;
        }
    }
}

fn generate(file: &str, package: &str, shared: &BTreeSet<String>) -> String {
    let out = tempfile::tempdir().unwrap();
    let set = protox::compile([file], [our_folder()]).unwrap();
    let mut builder = tonic_prost_build::configure()
        .build_server(false)
        .build_transport(false)
        .skip_debug([".api.PeerConf"]) // it holds a password: lib.rs prints it
        .out_dir(out.path());
    for name in shared.iter().filter(|name| !name.contains('.')) {
        builder = builder.extern_path(format!(".{package}.{name}"), format!("crate::v4::{}", rust_name(name)));
    }
    builder.compile_fds(set).unwrap();
    std::fs::read_to_string(out.path().join(format!("{package}.rs"))).unwrap()
}

/// How prost spells a message's name (`MpReachNLRIAttribute` is `MpReachNlriAttribute`).
fn rust_name(name: &str) -> String {
    name.replace("NLRI", "Nlri").replace("IPAddress", "IpAddress")
}

#[test]
fn the_checked_in_code_is_what_the_protos_say() {
    let shared = shared();
    assert!(shared.contains("Global") && shared.contains("Statement") && shared.contains("AfiSafi"), "{shared:?}");
    assert!(!shared.contains("Path") && !shared.contains("Peer"), "{shared:?}");
    for (file, package, target, shared) in
        [("v3.proto", "apipb", "v3.rs", &shared), ("v4.proto", "api", "v4.rs", &BTreeSet::new())]
    {
        let fresh = generate(file, package, shared);
        let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(target);
        if std::env::var_os("UPDATE_GENERATED").is_some() {
            std::fs::write(&target, &fresh).unwrap();
        }
        let held = std::fs::read_to_string(&target).unwrap();
        assert!(held == fresh, "{} is stale: UPDATE_GENERATED=1 cargo test -p gobgp-proto", target.display());
    }
}
