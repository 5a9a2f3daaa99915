use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering::Relaxed},
};

use super::*;
use crate::config::Flag;

/// An agent's files, and the configuration made of them.
struct Site {
    directory: tempfile::TempDir,
    running: Running,
    debug: Arc<AtomicBool>,
}

const CONF_D: &str = "[distributor]\nannounce = api\nallowed_prefixes = 203.0.113.0/24\n[bgp]\nlocal_as = 64512\n\
                      [bgp_peer:a]\npeer_ip = 192.0.2.1\nremote_as = 64500\n";

impl Site {
    fn new(conf_d: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let key = rcgen::generate_simple_self_signed(["amphora".to_owned()]).unwrap();
        for name in ["server.pem", "other.pem"] {
            fs::write(at(name), key.cert.pem() + &key.signing_key.serialize_pem()).unwrap();
        }
        fs::write(at("ca.pem"), key.cert.pem()).unwrap();
        fs::create_dir(at("conf.d")).unwrap();
        fs::write(at("conf.d/50.conf"), conf_d).unwrap();
        fs::write(at("main.conf"), main(directory.path(), "")).unwrap();
        let flags = vec![Flag::File(at("main.conf")), Flag::Directory(at("conf.d"))];
        let sources = Sources::new(flags, Path::new("/none"));
        let config = Config::load(&sources).unwrap();
        let tls = Reloader::new(&config.api.server_cert, &config.api.client_ca, config.api.minimum_tls).unwrap();
        let debug = Arc::<AtomicBool>::default();
        let level = debug.clone();
        let set_debug = Box::new(move |on| level.store(on, Relaxed));
        Self { running: Running::new(config, sources, Arc::new(tls), set_debug), directory, debug }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn main(&self, more: &str) -> String {
        main(self.directory.path(), more)
    }
}

/// A main file; `more` begins in `[amphora_agent]`.
fn main(directory: &Path, more: &str) -> String {
    let directory = directory.display();
    format!(
        "[amphora_agent]\nagent_server_ca = {directory}/ca.pem\nagent_server_cert = {directory}/server.pem\n{more}\n"
    )
}

#[test]
fn a_usable_file_is_stored_and_everybody_is_told_once() {
    let site = Site::new(CONF_D);
    let mut told = site.running.subscribe();
    let new = site.main("amphora_id = a-1\n[health_manager]\nheartbeat_interval = 3\n[DEFAULT]\ndebug = true");
    site.running.replace(new.as_bytes()).unwrap();
    assert_eq!(fs::read_to_string(site.at("main.conf")).unwrap(), new);
    assert!(told.has_changed().unwrap());
    let config = told.borrow_and_update().clone();
    assert_eq!((config.heartbeat.interval.as_secs(), config.amphora_id.as_deref()), (3, Some("a-1")));
    assert_eq!(config.bgp.as_ref().unwrap().peers.len(), 1, "conf.d is still read");
    assert!(site.debug.load(Relaxed));
    site.running.replace(new.as_bytes()).unwrap();
    site.running.reload().unwrap();
    assert!(!told.has_changed().unwrap(), "nothing has changed");
    assert_eq!(site.running.freshness().stale, [""; 0]);
}

#[test]
fn an_unusable_one_changes_nothing_and_names_every_problem() {
    let site = Site::new(CONF_D);
    let (before, old) = (site.running.current(), fs::read(site.at("main.conf")).unwrap());
    let told = site.running.subscribe();
    for (bad, words) in [
        (b"\xff".to_vec(), &["main.conf:1", "UTF-8"][..]),
        (b"no section\n".to_vec(), &["main.conf:1"]),
        (
            site.main("agent_request_read_timeout = 0\n[haproxy_amphora]\nbind_host = x").into_bytes(),
            &["main.conf:4: [amphora_agent] agent_request_read_timeout", "main.conf:6: [haproxy_amphora] bind_host"],
        ),
        // It is the second file that is wrong, because of the first.
        (site.main("[bgp_peer:b]\npeer_ip = 192.0.2.1\nremote_as = 1").into_bytes(), &["is the address of peer"]),
        (site.main("agent_server_cert = /none.pem").into_bytes(), &["the API cannot have its TLS", "/none.pem"]),
    ] {
        let error = with_causes(&site.running.replace(&bad).unwrap_err());
        for word in words {
            assert!(error.contains(word), "{word} is not in {error}");
        }
    }
    assert_eq!((fs::read(site.at("main.conf")).unwrap(), site.running.current()), (old, before));
    assert_eq!(site.running.freshness().stale, [""; 0], "the file on disk is in effect");
    assert!(!told.has_changed().unwrap());
}

#[test]
fn an_unusable_file_on_disk_is_remembered_until_it_is_mended() {
    let site = Site::new(CONF_D);
    let before = site.running.current();
    fs::write(site.at("conf.d/60.conf"), "[distributor]\nvip_mod = anycast\n").unwrap();
    let error = site.running.reload().unwrap_err().to_string();
    assert!(error.contains("60.conf:2: [distributor] vip_mod"), "{error}");
    assert_eq!((site.running.freshness().stale, site.running.current()), (vec![error], before));
    fs::remove_file(site.at("conf.d/60.conf")).unwrap();
    site.running.reload().unwrap();
    assert_eq!(site.running.freshness().stale, [""; 0]);
}

#[test]
fn what_needs_a_restart_stays_and_is_named_and_the_rest_is_taken() {
    let site = Site::new(CONF_D);
    let before = site.running.current();
    let other = CONF_D.replace("64512", "64513\nrouter_id = 192.0.2.9\nspeaker = unix:///run/other.sock");
    let other = other.replace("[bgp_peer:a]", "[bgp_peer:b]").replace("203.0.113.0", "198.51.100.0");
    let role = "[distributor]\nservices = direct\nrole = distributor\nallowed_nexthops = 192.0.2.0/24";
    let other = other.replace("[distributor]", role);
    fs::write(site.at("conf.d/50.conf"), other).unwrap();
    let new = site.main("[haproxy_amphora]\nbind_port = 9444\nbase_path = /other\nbase_cert_dir = /certs");
    site.running.replace(new.as_bytes()).unwrap();
    let config = site.running.current();
    assert_eq!((config.api.bind, &config.paths.base), (before.api.bind, &before.paths.base));
    assert_eq!(config.paths.certs, Path::new("/certs"));
    assert_eq!(config.distributor.allowed_prefixes, ["198.51.100.0/24".parse().unwrap()]);
    let kept = |config: &Config| {
        let distributor = &config.distributor;
        (distributor.role, distributor.services, distributor.allowed_nexthops.clone())
    };
    assert_eq!(kept(&config), kept(&before));
    let (bgp, old) = (config.bgp.as_ref().unwrap(), before.bgp.as_ref().unwrap());
    assert_eq!((bgp.local_as, bgp.router_id, &bgp.speaker), (old.local_as, old.router_id, &old.speaker));
    assert_eq!(bgp.peers[0].peer.id.as_str(), "b");
    let stale = site.running.freshness().stale.join("\n");
    let named = ["bind_host, bind_port", "base_path", "local_as", "router_id", "[bgp] speaker", "role", "services"];
    for named in named {
        assert!(stale.contains(named), "{named} is not in {stale}");
    }
}

#[test]
fn bgp_neither_comes_nor_goes_without_a_restart() {
    let (with, without) = (Site::new(CONF_D), Site::new(""));
    for (site, new) in [(&with, ""), (&without, CONF_D)] {
        let before = site.running.current();
        fs::write(site.at("conf.d/50.conf"), new).unwrap();
        site.running.reload().unwrap();
        let config = site.running.current();
        assert_eq!((&config.bgp, &config.distributor), (&before.bgp, &before.distributor));
        assert!(site.running.freshness().stale[0].starts_with("[bgp]"));
    }
}

#[test]
fn certificates_that_were_replaced_are_taken_when_they_are_looked_at_and_not_twice() {
    let site = Site::new(CONF_D);
    assert!(!site.running.tls.refresh());
    let other = rcgen::generate_simple_self_signed(["amphora".to_owned(), "other".to_owned()]).unwrap();
    fs::write(site.at("server.pem"), other.cert.pem() + &other.signing_key.serialize_pem()).unwrap();
    assert!(site.running.tls.refresh() && !site.running.tls.refresh());
    fs::write(site.at("server.pem"), "half a file").unwrap();
    assert!(!site.running.tls.refresh(), "the old ones stay in use");
}
