use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use proptest::prelude::*;

use super::{Config, Flag, PeerConfig, Problem, Role, Sources, TlsVersion, Topology, VipMode};

/// As the controller renders it (octavia/amphorae/backends/agent/templates), with values of our own.
const STOCK: &str = "\
[DEFAULT]\ndebug = False\nuse_syslog = True\nsyslog_log_facility = LOG_LOCAL1\n
[haproxy_amphora]\nbase_cert_dir = /var/lib/octavia/certs\nbase_path = /var/lib/octavia\nbind_host = ::\nbind_port = 9443
haproxy_cmd = /usr/sbin/haproxy\nuser_log_facility = 2\nadministrative_log_facility = 3\n
[health_manager]\ncontroller_ip_port_list = 192.0.2.10:5555, [2001:db8::10]:5555\nheartbeat_interval = 10\nheartbeat_key = canary-key\n
[amphora_agent]\nagent_server_ca = /etc/octavia/certs/client_ca.pem\nagent_server_cert = /etc/octavia/certs/server.pem
agent_request_read_timeout = 180\namphora_id = 1b2c\namphora_udp_driver = keepalived_lvs\nagent_tls_protocol = TLSv1.2\n
[controller_worker]\nloadbalancer_topology = ACTIVE_STANDBY\n";

const ANYCAST: &str = "\
[distributor]\nvip_mode = anycast\nannounce = api\nallowed_prefixes = 203.0.113.0/24, 2001:db8:100::/48
[bgp]\nlocal_as = 64512\n[bgp_peer:tor-a]\npeer_ip = 192.0.2.1\nremote_as = 64500\n";

fn load(text: &str) -> Result<Config, Vec<Problem>> {
    Config::from_text(Path::new("a.conf"), text)
}

fn problems(text: &str) -> Vec<String> {
    load(text).expect_err(text).iter().map(ToString::to_string).collect()
}

/// The anycast profile with more lines under its peer.
fn peer(lines: &str) -> Result<PeerConfig, Vec<Problem>> {
    load(&format!("{ANYCAST}{lines}\n")).map(|config| config.bgp.unwrap().peers.remove(0))
}

#[test]
fn an_empty_file_gives_octavias_defaults() {
    let config = load("").unwrap();
    assert_eq!(config.api.bind, "[::]:9443".parse().unwrap());
    assert_eq!(config.api.server_cert, Path::new("/etc/octavia/certs/server.pem"));
    assert_eq!(config.api.client_ca, Path::new("/etc/octavia/certs/client_ca.pem"));
    assert_eq!(config.api.request_read_timeout, Duration::from_mins(3));
    assert_eq!(config.paths.base, Path::new("/var/lib/octavia"));
    assert_eq!(config.heartbeat.interval, Duration::from_secs(10));
    assert_eq!((config.logging.user_facility, config.logging.administrative_facility), (0, 1));
    assert_eq!((config.topology, config.distributor.role), (Topology::Single, Role::Amphora));
    assert_eq!(config.distributor.vip_mode, VipMode::Interface);
    assert!(config.bgp.is_none() && config.warnings.is_empty() && config.ignored.is_empty());
}

#[test]
fn what_the_controller_renders_is_read() {
    let config = load(STOCK).unwrap();
    let controllers: Vec<_> = config.heartbeat.controllers.iter().map(ToString::to_string).collect();
    assert_eq!(controllers, ["192.0.2.10:5555", "[2001:db8::10]:5555"]);
    assert_eq!(config.heartbeat.key.as_ref().unwrap().reveal(), "canary-key");
    assert_eq!((config.logging.user_facility, config.logging.administrative_facility), (2, 3));
    assert_eq!((config.topology, config.amphora_id.as_deref()), (Topology::ActiveStandby, Some("1b2c")));
    assert!(config.logging.use_syslog && config.ignored.is_empty());
}

#[test]
fn octavias_name_space_is_lenient() {
    let config = load("[house_keeping]\ninterval = 1\n[haproxy_amphora]\nnew_option = x\nbind_port =\n").unwrap();
    let ignored: Vec<_> = config.ignored.iter().map(ToString::to_string).collect();
    assert_eq!(ignored.len(), 2);
    assert_eq!(ignored[0], "a.conf:4: [haproxy_amphora] new_option: is not read by this agent");
    assert_eq!(config.api.bind.port(), 9443);
    let facility = "[haproxy_amphora]\nuser_log_facility = 5\n[amphora_agent]\nuser_log_facility = 6\n";
    assert_eq!(load(facility).unwrap().logging.user_facility, 6);
    let old = load("[amphora_agent]\nagent_tls_protocol = TLSv1\n").unwrap();
    assert_eq!((old.api.minimum_tls, old.warnings.len()), (TlsVersion::Tls12, 1));
}

#[test]
fn what_works_and_is_hardly_meant_is_warned_of() {
    let warned = |text: &str| load(text).unwrap().warnings.iter().map(ToString::to_string).collect::<Vec<_>>();
    let one = |text: &str, words: &str| {
        let warned = warned(text);
        assert!(warned.len() == 1 && warned[0].contains(words), "{warned:?}");
    };
    let complete = format!("{STOCK}{ANYCAST}");
    assert_eq!(warned(&complete), [""; 0]);
    one(
        &complete.replace("vip_mode = anycast", "vip_mode = interface"),
        "[distributor] vip_mode: interface with [bgp]",
    );
    one(&complete.replace("heartbeat_key = canary-key", ""), "[health_manager] heartbeat_key: is not set");
    one(&complete.replace("amphora_id = 1b2c", ""), "[amphora_agent] amphora_id: is not set");
    one(
        &complete.replace("announce = api", "announce = api\nmembers_low = 50"),
        "[distributor] members_low: does nothing",
    );
    assert_eq!(warned(&complete.replace("announce = api", "announce = listener\nmembers_low = 50")), [""; 0]);
}

#[test]
fn the_profile_of_the_design_is_read() {
    let config = load(ANYCAST).unwrap();
    let bgp = config.bgp.unwrap();
    let PeerConfig { peer, .. } = &bgp.peers[0];
    assert_eq!((bgp.local_as.get(), bgp.router_id, bgp.graceful_restart.as_secs()), (64512, None, 30));
    assert_eq!(
        (peer.id.as_str(), peer.address.to_string(), peer.remote_as.get()),
        ("tor-a", "192.0.2.1".into(), 64500)
    );
    assert_eq!((peer.hold_time.seconds(), peer.keepalive, peer.connect_retry.as_secs()), (9, 3, 5));
    assert!(peer.families.len() == 2 && !peer.passive && peer.password.is_none() && peer.attributes.is_empty());
    let role = ANYCAST.replace("announce", "role = distributor\nallowed_nexthops = 198.51.100.0/24\nannounce");
    assert_eq!(load(&role).unwrap().distributor.role, Role::Distributor);
    let name = load(&ANYCAST.replace("bgp_peer:tor-a", "bgp_peer:ToR.A_1")).unwrap();
    assert_eq!(name.bgp.unwrap().peers[0].peer.id.as_str(), "ToR.A_1");
}

/// Each wrong line with words of the problem it must bring, and the place where it stands.
#[test]
fn every_wrong_value_names_its_place_and_the_fix() {
    for (line, expected) in [
        ("hold_time = 2", "a.conf:10: [bgp_peer:tor-a] hold_time: a hold time is 3 to 65535 seconds"),
        ("hold_time = 1", "not 1"),
        ("hold_time = 9s", "not a whole number from 3 to 65535"),
        ("hold_time = -3", "not a whole number from 3 to 65535"),
        ("keepalive_interval = 9", "keepalive_interval: 9 is not below hold_time 9; set 3"),
        ("keepalive_interval = 0", "0 never keeps the session up; set 3"),
        ("hold_time = 0", "gobgpd cannot be told 0 (never)"),
        ("ttl_hops = 1\nebgp_multihop = 2", "a.conf:11: [bgp_peer:tor-a] ebgp_multihop: excludes ttl_hops"),
        ("ttl_hops = 0", "not a whole number from 1 to 254"),
        ("ebgp_multihop = 255", "not a whole number from 1 to 254"),
        ("auth_type = md5", "auth_type: needs a password"),
        ("auth_type = ao\nauth_password = x", "`ao` is none of md5"),
        ("auth_password = x", "auth_type: is required with a password; set auth_type = md5"),
        ("auth_type = md5\nauth_password = x\nauth_password_file = /x", "excludes auth_password_file"),
        ("auth_type = md5\nauth_password_file = /no/such", "/no/such: cannot be read: No such file"),
        ("auth_type = md5\nauth_password_file = x", "x: is a relative path"),
        ("auth_type = md5\nauth_password_file = /dev/zero", "not a regular file"),
        ("local_ip = 2001:db8::1", "is not of the family of peer_ip 192.0.2.1"),
        ("peer_ip = fe80::1", "is not the address of one host"),
        ("peer_ip = 0.0.0.0", "is not the address of one host"),
        ("peer_ip = tor", "`tor` is not an IP address"),
        ("families = ipv4, l2vpn", "`l2vpn` is neither ipv4 nor ipv6"),
        ("families =", "is empty; write ipv4, ipv6 or both"),
        ("communities = 1:2, 70000:1", "`70000:1` is not a community"),
        ("remote_as = 0", "not an AS number"),
        ("peer_port = 179", "peer_port: no such option; this section has peer_ip, remote_as"),
        (
            "[bgp_peer:tor-b]\npeer_ip = 192.0.2.1\nremote_as = 1",
            "a.conf:11: [bgp_peer:tor-b] peer_ip: 192.0.2.1 is the address of peer tor-a too",
        ),
        ("[bgp_peer:tor b]\npeer_ip = 192.0.2.2\nremote_as = 1", "a.conf:10: [bgp_peer:tor b] not a peer name"),
        ("[bgp_peer:b]\nremote_as = 1", "a.conf:10: [bgp_peer:b] peer_ip: is required"),
        ("[bgp_peers]", "no such section; ours are"),
        ("[bgp_peer]\npeer_ip = 192.0.2.2", "no such section"),
        ("[distributors]", "no such section"),
        ("[bgp]\nlocal_as = 65536000000", "not an AS number"),
        ("[bgp]\nrouter_id = ::1", "`::1` is not an IPv4 address"),
        ("[bgp]\nspeaker = 127.0.0.1:50051", "is not unix:///ABSOLUTE/PATH"),
        ("[bgp]\ngraceful_restart_time = 4096", "from 0 to 4095"),
        ("[distributor]\nannounce = plug", "`plug` is none of listener, api"),
        ("[distributor]\nmembers_high = 50", "members_high: does nothing without members_low"),
        ("[distributor]\nmembers_low = 50\nmembers_high = 40", "members_high: is lower than members_low; write 50"),
        ("[distributor]\nmembers_low = 101", "members_low: not a whole number from 0 to 100"),
        ("[distributor]\nfall = 0", "fall: not a whole number from 1 to 100"),
        ("[distributor]\ncheck_interval = 99", "check_interval: not a whole number from 100 to 60000"),
        ("[distributor]\nhold_down = -1", "hold_down: not a whole number from 0 to 3600"),
        ("[distributor]\nallowed_prefixes = 203.0.113.5/24", "203.0.113.5/24 has host bits; write 203.0.113.0/24"),
        ("[distributor]\nallowed_prefixes = 203.0.113.5", "has no prefix length; write 203.0.113.5/32"),
        ("[distributor]\nallowed_prefixes = ,x", "`` is not a prefix"),
        ("[distributor]\nallowed_prefixes =", "is empty; list at least one prefix"),
        ("[distributor]\nrole = distributor", "allowed_nexthops: is required with role = distributor"),
        ("[distributor]\nvip_mode = l3", "`l3` is none of interface, anycast, noarp"),
        ("[distributor]\nhaproxy_policy = deny", "haproxy_policy: `deny` is none of warn, enforce"),
        ("[haproxy_amphora]\nbind_host = localhost", "`localhost` is not an IP address"),
        ("[haproxy_amphora]\nbind_port = 65536", "from 0 to 65535"),
        ("[haproxy_amphora]\nbase_path =", "is empty"),
        ("[health_manager]\ncontroller_ip_port_list = 192.0.2.1", "is not ADDRESS:PORT"),
        ("[health_manager]\ncontroller_ip_port_list = [x]:1", "is not ADDRESS:PORT"),
        ("[health_manager]\nheartbeat_key = ca$nary", "option that is not set; set that one, or write $$"),
        ("[amphora_agent]\nagent_tls_protocol = TLSv2", "`TLSv2` is none of SSLv3"),
        ("[amphora_agent]\nagent_request_read_timeout = 0", "from 1 to"),
        ("[DEFAULT]\ndebug = maybe", "neither true nor false"),
    ] {
        let found = problems(&format!("{ANYCAST}{line}\n"));
        assert!(found.iter().any(|problem| problem.contains(expected)), "{line}\n{found:#?}");
    }
}

#[test]
fn what_is_missing_is_asked_for() {
    let bare = "[bgp]\n[bgp_peer:a]\n";
    let found = problems(bare);
    for expected in [
        "[distributor] allowed_prefixes: is required with [bgp]",
        "a.conf:1: [bgp] local_as: is required",
        "a.conf:2: [bgp_peer:a] peer_ip: is required",
        "a.conf:2: [bgp_peer:a] remote_as: is required",
    ] {
        assert!(found.iter().any(|problem| problem.contains(expected)), "{expected}\n{found:#?}");
    }
    assert_eq!(found.len(), 4);
    let without = problems("[bgp_peer:a]\npeer_ip = 192.0.2.1\nremote_as = 1\n");
    assert_eq!(without, ["a.conf:1: [bgp_peer:a] a peer needs a [bgp] section with local_as; add one"]);
}

#[test]
fn passwords_come_from_files_as_they_are_and_never_weaker() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("md5");
    let lines = format!("auth_type = md5\nauth_password_file = {}", path.display());
    let with = |content: &[u8], mode| {
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        peer(&lines)
    };
    let password = |content: &[u8]| with(content, 0o600).unwrap().peer.password.unwrap().reveal().to_owned();
    assert_eq!(password(b"canary\n"), "canary");
    assert_eq!(password(b"canary\r\n"), "canary");
    assert_eq!(password(b" canary $x "), " canary $x ");
    assert_eq!(password(&[b'x'; 80]), "x".repeat(80));
    for (content, expected) in [
        (&b""[..], "1 to 80 printable"),
        (b"\n", "1 to 80 printable"),
        (&[b'x'; 81], "this one has 81"),
        (b"canary\n\n", "printable ASCII"),
        (b"canary\xff", "printable ASCII"),
        (&[b'x'; 5000], "larger than"),
    ] {
        let found = with(content, 0o600).unwrap_err();
        assert!(found.len() == 1 && found[0].text.contains(expected), "{found:?}");
        assert!(!found[0].text.contains("canary"));
    }
    with(b"canary", 0o644).unwrap();
    let mut warned = load(&format!("{ANYCAST}{lines}\n")).unwrap().warnings;
    warned.retain(|warning| warning.key.as_deref() != Some("amphora_id"));
    assert!(warned.len() == 1 && warned[0].text.contains("readable by everybody"), "{warned:?}");
}

#[test]
fn the_effective_configuration_is_printed_without_secrets_and_reads_back() {
    let secret = "auth_type = md5\nauth_password = canary-md5\nttl_hops = 3\ncommunities = 64512:2, 64512:1\nlocal_ip = 192.0.2.9\n";
    let config = load(&format!("{STOCK}{ANYCAST}{secret}")).unwrap();
    let printed = config.to_string();
    assert!(!printed.contains("canary") && !format!("{config:?}").contains("canary"), "{printed}");
    let again = load(&printed).unwrap();
    assert_eq!(again.to_string(), printed);
    assert_eq!((&again.api, &again.paths, &again.distributor), (&config.api, &config.paths, &config.distributor));
    assert_eq!(again.bgp.unwrap().peers[0].peer.attributes, config.bgp.unwrap().peers[0].peer.attributes);
}

#[test]
fn files_are_read_in_oslo_configs_order() {
    let oracle: serde_json::Value = serde_json::from_str(include_str!("../../tests/golden/oslo.json")).unwrap();
    let root = tempfile::tempdir().unwrap();
    for name in [
        "amphora-agent.conf",
        "amphora-agent.conf.d/x.conf",
        "f1",
        "f2",
        "d1/b.conf",
        "d1/a.conf",
        "d2/a.conf",
        "d2/.z.conf",
        "d2/z.txt",
    ] {
        let path = root.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let id = name.replace("amphora-agent", "agent");
        fs::write(path, format!("[amphora_agent]\namphora_id = {id}\n")).unwrap();
    }
    for case in oracle["order"].as_array().unwrap() {
        let flags = case["flags"].as_array().unwrap().iter().map(|flag| flag.as_str().unwrap());
        let flag = |flag: &str| {
            if flag.starts_with('f') {
                Flag::File(root.path().join(flag))
            } else {
                Flag::Directory(root.path().join(flag))
            }
        };
        let sources = Sources::new(flags.map(flag).collect(), root.path());
        assert_eq!(Config::load(&sources).unwrap().amphora_id.as_deref(), case["wins"].as_str(), "{case}");
    }
}

#[test]
fn files_that_cannot_be_read_are_named() {
    let root = tempfile::tempdir().unwrap();
    let none = Config::load(&Sources::new(Vec::new(), root.path())).unwrap();
    assert_eq!(none, load("").unwrap());
    let file = |name: &str, content: &[u8]| -> PathBuf {
        fs::write(root.path().join(name), content).unwrap();
        root.path().join(name)
    };
    let flags = vec![
        Flag::File(root.path().join("missing")),
        Flag::File(file("latin", b"[a]\n\nk = \xe9\n")),
        Flag::File(file("bom", b"\xef\xbb\xbf[a]\n")),
        Flag::Directory(root.path().join("nowhere")),
        Flag::File(root.path().to_owned()),
    ];
    let found: Vec<_> =
        Config::load(&Sources::new(flags, root.path())).unwrap_err().iter().map(ToString::to_string).collect();
    for (problem, expected) in found.iter().zip([
        "missing: cannot be read",
        "latin:3: not UTF-8",
        "bom:1: the file begins with a byte order mark",
        "nowhere: cannot be read",
        "not a regular file",
    ]) {
        assert!(problem.contains(expected), "{problem}");
    }
    assert_eq!(found.len(), 5);
}

proptest! {
    #[test]
    fn no_text_panics_and_what_loads_prints_and_loads(lines in prop::collection::vec(line(), 0..30)) {
        if let Ok(config) = load(&lines.join("\n")) {
            let printed = config.to_string();
            let again = load(&printed).unwrap();
            prop_assert_eq!(again.to_string(), printed);
        }
    }

    #[test]
    fn a_text_option_reads_back_whatever_it_holds(id in "[ -~]{1,20}") {
        let mut config = load("").unwrap();
        config.amphora_id = Some(id.clone());
        prop_assert_eq!(load(&config.to_string()).unwrap().amphora_id, Some(id));
    }
}

fn line() -> impl Strategy<Value = String> {
    let section = prop::sample::select(vec![
        "[DEFAULT]",
        "[haproxy_amphora]",
        "[amphora_agent]",
        "[health_manager]",
        "[distributor]",
        "[bgp]",
        "[bgp_peer:a]",
        "[bgp_peer:b]",
    ]);
    let key = prop::sample::select(vec![
        "debug",
        "bind_port",
        "base_path",
        "amphora_id",
        "heartbeat_key",
        "role",
        "announce",
        "members_low",
        "members_high",
        "check_interval",
        "allowed_prefixes",
        "local_as",
        "peer_ip",
        "remote_as",
        "hold_time",
        "keepalive_interval",
        "families",
        "ttl_hops",
    ]);
    let value = prop::sample::select(vec![
        "",
        "1",
        "3",
        "64512",
        "True",
        "api",
        "amphora",
        "192.0.2.0/24",
        "192.0.2.1",
        "2001:db8::1",
        "ipv6",
        "$$x",
        "\\\\$x",
        "\"'",
        "$debug",
        "${amphora_agent.amphora_id}",
        " a b ",
    ]);
    prop_oneof![section.prop_map(ToOwned::to_owned), (key, value).prop_map(|(key, value)| format!("{key} = {value}"))]
}
