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

    // Nova writes the drive anew at a hard reboot, without the files.
    fs::write(site.at("etc/octavia/certs/server.pem"), "rotated").unwrap();
    site.write("latest/meta_data.json", r#"{"uuid": "8d0c-1", "hostname": "-"}"#);
    assert_eq!(site.run().unwrap(), ["the drive of instance 8d0c-1 was applied before; nothing to do"]);
    assert_eq!(site.read("etc/octavia/certs/server.pem"), "rotated");

    // Nothing is needed from a drive that is damaged or gone since.
    let goes_on = "the drive of instance 8d0c-1 was applied before, and nothing is needed from it";
    site.write("latest/meta_data.json", "{");
    let said = site.run().unwrap();
    assert!(said[0].starts_with("meta_data.json: EOF") && said[1] == goes_on, "{said:?}");
    let said = run(None, site.machine.path(), Duration::ZERO).unwrap();
    assert!(said[0].starts_with("no config drive: ") && said[1] == goes_on, "{said:?}");
    let mistyped = run(Some(&site.drive.path().join("x")), site.machine.path(), Duration::ZERO);
    assert!(matches!(mistyped, Err(DriveError::NoDirectory(_))), "{mistyped:?}");
    assert_eq!(site.read("etc/octavia/certs/server.pem"), "rotated");
}

/// Its keys, profile and state would be in effect under the drive's identity, or the agent be that one twice.
#[test]
fn the_disk_of_another_instance_is_refused() {
    let site = Site::new();
    site.run().unwrap();
    let before = site.files();
    site.metadata("8d0c-2");
    site.write("content/0002", "[amphora_agent]\namphora_id = other\n");
    let said = site.run().unwrap_err().to_string();
    let expected =
        "the disk was set up for instance 8d0c-1, and the drive is instance 8d0c-2's: boot the amphora from the image";
    assert!(said.starts_with(expected), "{said}");
    assert_eq!((site.files(), site.read("etc/octavia/amphora-agent.conf").as_str()), (before, AGENT_CONF));
}

/// A crash leaves no instance's id, so that the next boot's drive may be another one's or have other NICs.
#[test]
fn nics_of_a_drive_that_was_not_finished_are_removed() {
    let site = Site::new();
    site.run().unwrap();
    fs::remove_file(site.at("var/lib/octavia/amphora-agent/config-drive")).unwrap();
    site.write("latest/network_data.json", &network::tests::NOVA.replace("d4:57:ad", "00:00:09"));
    fs::write(site.at("etc/systemd/network/20-operator.network"), "").unwrap();
    site.run().unwrap();
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
    let site = in_user_data();
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
    site.write(
        "latest/user_data",
        "#cloud-config\nwrite_files:\n- path: /etc/octavia/certs/server.pem\n  content: x\n",
    );
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

/// Nova keeps no files over a rebuild: a drive without them is no machine, unless the image has the agent's configuration.
#[test]
fn a_drive_without_the_agents_configuration_needs_one_on_the_disk() {
    let site = Site::new();
    site.write("latest/meta_data.json", r#"{"uuid": "8d0c-1", "hostname": "amphora-1", "public_keys": {"a": "ssh"}}"#);
    assert!(site.refused().starts_with("no /etc/octavia/amphora-agent.conf, neither on the drive nor on the disk: "));
    fs::create_dir_all(site.at("etc/octavia")).unwrap();
    fs::write(site.at("etc/octavia/amphora-agent.conf"), "the image's").unwrap();
    let said = site.run().unwrap();
    let applied = "applied the drive of instance 8d0c-1: 0 files, 2 NICs";
    assert_eq!(said, ["meta_data.json has public_keys: not used", applied]);
    assert_eq!(site.read("etc/octavia/amphora-agent.conf"), "the image's");
}

/// What is in a file's way is found before the first is written.
#[test]
fn a_directory_in_the_way_changes_nothing() {
    for (directory, file) in [
        ("etc/octavia/amphora-agent.conf", "/etc/octavia/amphora-agent.conf"),
        ("etc/rsyslog.d/10-rsyslog.conf", "/etc/rsyslog.d/10-rsyslog.conf"),
        ("etc/hostname", "/etc/hostname"),
        ("etc/localtime", "/etc/localtime"),
        (
            "etc/systemd/network/10-config-drive-fa163ed457ad.network",
            "/etc/systemd/network/10-config-drive-fa163ed457ad.network",
        ),
    ] {
        let site = Site::new();
        fs::create_dir_all(site.at(directory)).unwrap();
        assert!(site.refused().starts_with(&format!("{file}: cannot be written: a directory has this name")), "{file}");
    }
    let site = Site::new();
    for directory in ["certs", "interfaces"] {
        site.write(
            "latest/meta_data.json",
            &format!(
                r#"{{"uuid": "a", "files": [{{"path": "/etc/octavia/{directory}", "content_path": "/content/0000"}}]}}"#
            ),
        );
        let said = site.refused();
        assert_eq!(said, format!("meta_data.json: files[0].path: \"/etc/octavia/{directory}\" is a directory"));
    }
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
    assert!(said.starts_with("/etc/octavia/certs/server.pem: cannot be written"), "{said}");
    assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 0);
    assert!(!site.at("etc/octavia/amphora-agent.conf").exists() && !site.at("etc/hostname").exists());

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
    let set = |zone: &str, installed: &[&str]| {
        let site = Site::new();
        for file in installed {
            let file = site.at("usr/share/zoneinfo").join(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, "TZif").unwrap();
        }
        site.write("latest/user_data", &format!("#cloud-config\ntimezone: {zone}\n"));
        let notes = site.run().unwrap().len() - 1;
        (fs::read_link(site.at("etc/localtime")).ok(), notes)
    };
    let zone = |zone: &str| Some(Path::new("../usr/share/zoneinfo").join(zone));
    assert_eq!(set("Europe/Vienna", &["Europe/Vienna"]), (zone("Europe/Vienna"), 0));
    assert_eq!(set("Etc/GMT+5", &["Etc/GMT+5"]), (zone("Etc/GMT+5"), 0));
    assert_eq!(set("Europe/Vienna", &[]), (None, 1));
    assert_eq!(set("Europe", &["Europe/Vienna"]), (None, 1));
    assert_eq!(set("UTC", &[]), (None, 0));
}

/// A drive with its files in the user data.
fn in_user_data() -> Site {
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
    site
}

proptest! {
    /// Each of the three texts after two that are well, so that every parser gets to see its own.
    #[test]
    fn any_texts_are_taken_or_refused(
        meta in "[-{}\\[\\]\":,a-z/. ]{0,60}|.{0,40}",
        network in "[-{}\\[\\]\":,a-z0-9/. ]{0,60}|.{0,40}",
        user in "(#cloud-config\n(write_files|timezone|runcmd):)?([-:a-z|'\" \n]{0,60}|.{0,40})",
    ) {
        let well = br#"{"uuid": "a", "files": [{"path": "/etc/octavia/x", "content_path": "/content/0000"}]}"#;
        let _ = Drive::from_texts(meta.as_bytes(), b"{}", b"", b"x");
        let _ = Drive::from_texts(well, network.as_bytes(), b"", b"x");
        let _ = Drive::from_texts(well, b"{}", user.as_bytes(), b"x");
        let files = format!(r#"{{"uuid": "a", "hostname": {network:?}, "files": [{{"path": {meta:?}, "content_path": {user:?}}}]}}"#);
        let _ = Drive::from_texts(files.as_bytes(), b"{}", b"", b"x");
    }

    /// A drive of which a text is cut anywhere is applied as a whole or not at all, with one exception: nothing tells a file
    /// of the user data that is cut behind a line from one that is shorter. (Of a file in `content` nothing ever does.)
    #[test]
    fn what_is_cut_short_writes_nothing(deprecated: bool, file in 0..3_usize, part in 0..10_000_usize) {
        let site = if deprecated { in_user_data() } else { Site::new() };
        let name = ["meta_data.json", "network_data.json", "user_data"][file];
        let whole = fs::read_to_string(site.drive.path().join("openstack/latest").join(name)).unwrap();
        let cut = &whole[..whole.len() * part / 10_000];
        site.write(&format!("latest/{name}"), cut);
        if site.run().is_err() {
            prop_assert_eq!(site.files(), Vec::<PathBuf>::new());
            return Ok(());
        }
        prop_assert_eq!(site.read("etc/octavia/certs/server.pem"), KEY);
        let conf = site.read("etc/octavia/amphora-agent.conf");
        let behind_a_line = deprecated && name == "user_data" && cut.ends_with('\n') && AGENT_CONF.starts_with(&conf);
        prop_assert!(conf == AGENT_CONF || behind_a_line, "{cut:?}");
    }
}
