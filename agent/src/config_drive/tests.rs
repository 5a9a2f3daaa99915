use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf};

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

const AGENT_CONF: &str = "[amphora_agent]\namphora_id = 8d0c\n";
const KEY: &str = "-----BEGIN PRIVATE KEY-----\nCANARY\n-----END PRIVATE KEY-----\n";
const USER_DATA: &str =
    "#cloud-config\n# vim: syntax=yaml\n\nruncmd:\n-   systemctl restart rsyslog\n\n\ntimezone: UTC";

/// A drive as Nova and Octavia make it, in a directory; and the machine it is applied to.
struct Site {
    drive: TempDir,
    machine: TempDir,
}

impl Site {
    fn new() -> Self {
        let site = Self { drive: tempfile::tempdir().unwrap(), machine: tempfile::tempdir().unwrap() };
        site.write("content/0000", KEY);
        site.write("content/0001", "the CA\n");
        site.write("content/0002", AGENT_CONF);
        site.write("content/0003", "*.* stop\n");
        site.metadata("8d0c-1");
        site.write("latest/network_data.json", network::tests::NOVA);
        site.write("latest/user_data", USER_DATA);
        site
    }

    fn metadata(&self, instance: &str) {
        let paths = ["octavia/certs/server.pem", "octavia/certs/client_ca.pem", "octavia/amphora-agent.conf"];
        let files: Vec<_> = paths.into_iter().chain(["rsyslog.d/10-rsyslog.conf"]).enumerate().collect();
        let files: Vec<_> = files
            .iter()
            .map(|(n, path)| format!(r#"{{"path": "/etc/{path}", "content_path": "/content/000{n}"}}"#))
            .collect();
        let metadata = format!(
            r#"{{"uuid": "{instance}", "hostname": "amphora-1.novalocal", "name": "amphora-1", "launch_index": 0,
                "admin_pass": "CANARY", "availability_zone": "nova", "random_seed": "x", "files": [{}]}}"#,
            files.join(",")
        );
        self.write("latest/meta_data.json", &metadata);
    }

    fn write(&self, path: &str, contents: &str) {
        let path = self.drive.path().join("openstack").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, contents).unwrap();
    }

    fn run(&self) -> Result<Vec<String>, DriveError> {
        run(Some(self.drive.path()), self.machine.path(), Duration::ZERO)
    }

    /// Why the drive is refused, after which nothing may be on the machine but the agent's own, empty directory.
    fn refused(&self) -> String {
        let error = self.run().unwrap_err();
        assert_eq!(self.files(), Vec::<PathBuf>::new());
        let said = with_causes(&error);
        assert!(!said.contains("CANARY") && !said.contains('\n'), "{said}");
        said
    }

    fn at(&self, path: &str) -> PathBuf {
        self.machine.path().join(path)
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.at(path)).unwrap_or_else(|error| format!("{path}: {error}"))
    }

    /// Every file of the machine.
    fn files(&self) -> Vec<PathBuf> {
        fn walk(at: &Path, all: &mut Vec<PathBuf>) {
            for entry in fs::read_dir(at).unwrap().map(Result::unwrap) {
                if entry.file_type().unwrap().is_dir() { walk(&entry.path(), all) } else { all.push(entry.path()) }
            }
        }
        let mut all = Vec::new();
        walk(self.machine.path(), &mut all);
        all.sort();
        all
    }
}

fn mode(path: PathBuf) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn a_drive_of_novas_makes_the_machine() {
    let site = Site::new();
    assert_eq!(site.run().unwrap(), ["applied the drive of instance 8d0c-1: 4 files, 2 NICs"]);
    assert_eq!(site.read("etc/octavia/certs/server.pem"), KEY);
    assert_eq!(site.read("etc/octavia/amphora-agent.conf"), AGENT_CONF);
    assert_eq!(site.read("etc/hostname"), "amphora-1\n");
    assert!(site.read("etc/systemd/network/10-config-drive-fa163eed9a59.network").contains("Address=192.0.2.10/24"));
    for (path, expected) in [
        ("etc/octavia", 0o755),
        ("etc/octavia/certs", 0o700),
        ("etc/octavia/certs/server.pem", 0o600),
        ("etc/octavia/certs/client_ca.pem", 0o600),
        ("etc/octavia/amphora-agent.conf", 0o600),
        ("etc/rsyslog.d/10-rsyslog.conf", 0o644),
        ("etc/systemd/network/10-config-drive-fa163ed457ad.network", 0o644),
        ("var/lib/octavia", 0o755),
        ("var/lib/octavia/amphora-agent", 0o700),
    ] {
        assert_eq!(mode(site.at(path)), expected, "{path}");
    }
}

/// cloud-init's rule: what the controller has replaced since stays, over every reboot, until it is another instance.
#[test]
fn a_drive_is_applied_once_an_instance() {
    let site = Site::new();
    site.run().unwrap();
    let times = || site.files().iter().map(|path| fs::metadata(path).unwrap().modified().unwrap()).collect::<Vec<_>>();
    let (before, written) = (site.files(), times());
    assert_eq!(site.run().unwrap(), ["the drive of instance 8d0c-1 was applied before; nothing to do"]);
    assert_eq!((site.files(), times()), (before, written), "a second boot changes nothing on the disk");

    fs::write(site.at("etc/octavia/certs/server.pem"), "rotated").unwrap();
    site.run().unwrap();
    assert_eq!(site.read("etc/octavia/certs/server.pem"), "rotated");

    // The disk of another amphora, with the drive of this one: its NICs are not ours.
    site.metadata("8d0c-2");
    site.write("latest/network_data.json", &network::tests::NOVA.replace("d4:57:ad", "00:00:09"));
    fs::write(site.at("etc/systemd/network/20-operator.network"), "").unwrap();
    site.run().unwrap();
    assert_eq!(site.read("etc/octavia/certs/server.pem"), KEY);
    let mut networks: Vec<_> =
        fs::read_dir(site.at("etc/systemd/network")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    networks.sort();
    assert_eq!(
        networks,
        ["10-config-drive-fa163e000009.network", "10-config-drive-fa163eed9a59.network", "20-operator.network"]
    );
}

#[test]
fn the_newest_dated_version_stands_in_for_latest() {
    let site = Site::new();
    let openstack = site.drive.path().join("openstack");
    fs::rename(openstack.join("latest"), openstack.join("2018-08-27")).unwrap();
    site.write("2017-02-22/meta_data.json", "{}");
    fs::create_dir(openstack.join("zzz")).unwrap();
    site.run().unwrap();
    assert_eq!(site.read("etc/octavia/amphora-agent.conf"), AGENT_CONF);
}

#[test]
fn the_deprecated_mode_carries_the_files_in_user_data() {
    let site = Site::new();
    site.write("latest/meta_data.json", r#"{"uuid": "8d0c-1", "hostname": "amphora-1"}"#);
    let block = |text: &str| text.lines().map(|line| format!("        {line}\n")).collect::<Vec<_>>().concat();
    let user_data = format!(
        "#cloud-config\nwrite_files:\n-   path: /etc/octavia/certs/server.pem\n    content: |\n{}\n-   path: \
         /etc/octavia/amphora-agent.conf\n    content: |\n{}\nruncmd:\n-   systemctl restart rsyslog\n-   service \
         amphora-agent restart\n\ntimezone: UTC",
        block(KEY),
        block(AGENT_CONF)
    );
    site.write("latest/user_data", &user_data);
    assert_eq!(site.run().unwrap(), ["applied the drive of instance 8d0c-1: 2 files, 2 NICs"]);
    assert_eq!(site.read("etc/octavia/certs/server.pem"), KEY);
    assert_eq!(mode(site.at("etc/octavia/certs/server.pem")), 0o600);
}

#[test]
fn a_broken_drive_changes_nothing_and_says_where() {
    let site = Site::new();
    fs::remove_file(site.drive.path().join("openstack/content/0002")).unwrap();
    assert_eq!(site.refused(), "openstack/content/0002: not on the drive, or no regular file");

    let site = Site::new();
    site.write("latest/user_data", "#cloud-config\nwrite_files:\n- path: /etc/shadow\n  content: CANARY\n");
    assert!(site.refused().starts_with("user_data: write_files[0].path: \"/etc/shadow\": only files directly in"));
    site.write("latest/user_data", "#cloud-config\nwrite_files: [CANARY]\n");
    assert!(site.refused().starts_with("user_data: line 2: "));
    site.write("latest/user_data", "#cloud-config\nwrite_files:\n- path: /etc/octavia/certs/server.pem\n");
    assert!(site.refused().contains("/etc/octavia/certs/server.pem: there twice"));
    site.write("latest/user_data", "");
    site.write("latest/network_data.json", r#"{"links": [{"id": "a", "type": "vlan"}]}"#);
    assert!(site.refused().starts_with("network_data.json: links[0].type"));
    site.write("latest/network_data.json", "{\"links\": ");
    assert_eq!(site.refused(), "network_data.json: links: EOF while parsing a value at line 1 column 10");
    site.write("content/0001", &"x".repeat((1 << 20) + 1));
    site.write("latest/network_data.json", "{}");
    assert!(site.refused().contains("openstack/content/0001: longer than"));
    site.write("latest/meta_data.json", "\u{0}");
    assert!(site.refused().starts_with("meta_data.json: expected value"));
    fs::remove_dir_all(site.drive.path().join("openstack/latest")).unwrap();
    assert_eq!(site.refused(), "openstack/latest: not on the drive, or no regular file");
    fs::remove_dir_all(site.drive.path().join("openstack")).unwrap();
    assert!(site.refused().starts_with("openstack: "));
}

/// On the drive nothing is followed, and on the machine neither: a link there could lead anywhere.
#[test]
fn no_symbolic_link_is_followed() {
    let site = Site::new();
    let (elsewhere, content) = (tempfile::tempdir().unwrap(), site.drive.path().join("openstack/content/0000"));
    fs::remove_file(&content).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", &content).unwrap();
    assert!(site.refused().starts_with("openstack/content/0000: "));

    let site = Site::new();
    fs::create_dir_all(site.at("etc/octavia")).unwrap();
    std::os::unix::fs::symlink(elsewhere.path(), site.at("etc/octavia/certs")).unwrap();
    let said = with_causes(&site.run().unwrap_err());
    assert!(
        said.contains("/etc/octavia/certs/server.pem: cannot be written") && said.contains("no directory"),
        "{said}"
    );
    assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 0);
    assert!(!site.at("etc/octavia/amphora-agent.conf").exists(), "the agent's comes last");

    // A link in the place of the file itself is replaced, and what it leads to stays.
    let site = Site::new();
    fs::create_dir_all(site.at("etc/octavia")).unwrap();
    fs::write(elsewhere.path().join("x"), "theirs").unwrap();
    std::os::unix::fs::symlink(elsewhere.path().join("x"), site.at("etc/octavia/amphora-agent.conf")).unwrap();
    site.run().unwrap();
    assert_eq!(fs::read_to_string(elsewhere.path().join("x")).unwrap(), "theirs");
    assert_eq!(site.read("etc/octavia/amphora-agent.conf"), AGENT_CONF);
}

#[test]
fn the_time_zone_is_set_where_it_is_installed() {
    let site = Site::new();
    site.write("latest/user_data", "#cloud-config\ntimezone: Europe/Vienna\n");
    let said = site.run().unwrap();
    assert_eq!(said[0], "/usr/share/zoneinfo/Europe/Vienna is not there, or not to be used: the time zone stays");
    site.metadata("8d0c-2");
    fs::create_dir_all(site.at("usr/share/zoneinfo/Europe")).unwrap();
    fs::write(site.at("usr/share/zoneinfo/Europe/Vienna"), "TZif").unwrap();
    assert_eq!(site.run().unwrap().len(), 1);
    let link = fs::read_link(site.at("etc/localtime")).unwrap();
    assert_eq!(link, Path::new("../usr/share/zoneinfo/Europe/Vienna"));
    site.metadata("8d0c-3");
    site.write("latest/user_data", "#cloud-config\ntimezone: Europe\n");
    assert!(site.run().unwrap()[0].contains("Europe is not there"));
    site.metadata("8d0c-4");
    site.write("latest/user_data", "#cloud-config\ntimezone: Etc/GMT+5\n");
    assert!(site.run().unwrap()[0].contains("Etc/GMT+5 is not there, or not to be used"));
}

proptest! {
    #[test]
    fn any_texts_are_taken_or_refused(meta in ".{0,80}", network in ".{0,80}", user in "(#cloud-config\n)?.{0,80}") {
        let _ = Drive::from_texts(meta.as_bytes(), network.as_bytes(), user.as_bytes(), b"x");
    }

    /// A drive that loses bytes anywhere is applied as a whole or not at all.
    #[test]
    fn what_is_cut_short_writes_nothing(file in 0..3_usize, part in 0..100_usize) {
        let name = ["meta_data.json", "network_data.json", "user_data"][file];
        let site = Site::new();
        let whole = fs::read_to_string(site.drive.path().join("openstack/latest").join(name)).unwrap();
        site.write(&format!("latest/{name}"), &whole[..whole.len() * part / 100]);
        if site.run().is_ok() {
            prop_assert_eq!(site.read("etc/octavia/amphora-agent.conf"), AGENT_CONF);
        } else {
            prop_assert_eq!(site.files(), Vec::<PathBuf>::new());
        }
    }
}
