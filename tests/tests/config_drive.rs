//! The config drive as the image's unit applies it: by the program itself, on a machine, killed at every step.
#![allow(clippy::unwrap_used, reason = "a test that fails panics")]

use std::time::Duration;

use lab::{Machine, Node, Workdir, command, nspawn, skipped, wait_for, workdir};

const DRIVE: &str = "/run/drive";
const CONF: &str = "/etc/octavia/amphora-agent.conf";
const KEY: &str = "/etc/octavia/certs/server.pem";
const APPLIED: &str = "/var/lib/octavia/amphora-agent/config-drive";
/// More points than there are files, and each is written and replaced.
const MANY: usize = 40;

fn machine(workdir: &Workdir, name: &str) -> Node {
    let node = Node::new(workdir, name).unwrap();
    let write = |path: &str, text: &str| node.write_file(&format!("{DRIVE}/openstack/{path}"), text, 0o644).unwrap();
    write(
        "latest/meta_data.json",
        r#"{"uuid": "1e0c0f5e-0000-4000-8000-000000000001", "hostname": "amphora-7.novalocal", "name": "amphora-7",
            "availability_zone": "nova", "launch_index": 0, "admin_pass": "x", "files": [
            {"path": "/etc/octavia/amphora-agent.conf", "content_path": "/content/0000"},
            {"path": "/etc/octavia/certs/server.pem", "content_path": "/content/0001"},
            {"path": "/etc/octavia/amphora-agent.conf.d/50-bgp.conf", "content_path": "/content/0002"},
            {"path": "/etc/rsyslog.d/10-rsyslog.conf", "content_path": "/content/0003"}]}"#,
    );
    write(
        "latest/network_data.json",
        r#"{"links": [{"id": "tap0", "type": "ovs", "mtu": null, "ethernet_mac_address": "fa:16:3e:00:00:01"}],
            "networks": [{"id": "network0", "type": "ipv4_dhcp", "link": "tap0", "network_id": "n"}], "services": []}"#,
    );
    write("latest/user_data", "#cloud-config\nruncmd:\n-   systemctl restart rsyslog\n\n\ntimezone: UTC");
    for (name, text) in [("0000", "new conf\n"), ("0001", "new key\n"), ("0002", "new bgp\n"), ("0003", "new log\n")] {
        write(&format!("content/{name}"), text);
    }
    node
}

/// Runs the program; its end's word and what it said.
fn apply(node: &Node, crash_at: Option<usize>) -> (bool, String) {
    let mut program = command([workdir::built_program("amphora-agent").unwrap()]);
    program.args(["config-drive", "--directory", DRIVE]);
    program.envs(crash_at.map(|at| ("AMPHORA_AGENT_CRASH_AT", at.to_string())));
    match node.output(&mut program) {
        Ok(output) => (true, String::from_utf8(output.stderr).unwrap()),
        Err(error) => (false, error.to_string()),
    }
}

/// Every file a drive can change, with what is in it.
fn tree(node: &Node) -> String {
    let script =
        "hostname; find /etc /var -type f ! -path '/var/[!l]*' ! -path '/var/lib/[!o]*' -exec sha256sum {} + | sort";
    node.run(["sh", "-c", script]).unwrap()
}

#[test]
fn a_drive_makes_the_machine_and_a_reboot_changes_nothing() {
    let workdir = Workdir::new("drive").unwrap();
    let node = machine(&workdir, "drive");
    let (well, said) = apply(&node, None);
    assert!(
        well && said.contains("applied the drive of instance 1e0c0f5e") && said.contains("4 files, 1 NICs"),
        "{said}"
    );
    assert_eq!(node.run(["hostname"]).unwrap(), "amphora-7\n");
    assert_eq!(node.read_file("/etc/hostname").unwrap(), "amphora-7\n");
    let modes = node.run(["stat", "-c", "%a %U", CONF, KEY, "/etc/rsyslog.d/10-rsyslog.conf"]).unwrap();
    assert_eq!(modes, "600 root\n600 root\n644 root\n");
    let network = node.read_file("/etc/systemd/network/10-config-drive-fa163e000001.network").unwrap();
    for line in ["MACAddress=fa:16:3e:00:00:01", "DHCP=ipv4", "UseMTU=yes", "RouteMetric=1024"] {
        assert!(network.lines().any(|there| there == line), "{line}: {network}");
    }

    // The controller rotates the certificate; the drive has the old one for ever.
    node.write_file(KEY, "rotated\n", 0o600).unwrap();
    let (well, said) = apply(&node, None);
    assert!(well && said.contains("applied before"), "{said}");
    assert_eq!(node.read_file(KEY).unwrap(), "rotated\n");
}

#[test]
fn a_broken_or_missing_drive_fails_with_one_line() {
    let workdir = Workdir::new("drive-broken").unwrap();
    let node = machine(&workdir, "broken");
    let before = tree(&node);
    node.run(["rm", "/run/drive/openstack/content/0002"]).unwrap();
    let (well, said) = apply(&node, None);
    assert!(!well && said.contains("config-drive: openstack/content/0002: not on the drive"), "{said}");
    let program = workdir::built_program("amphora-agent").unwrap();
    let missing = || node.output(command([&program]).args(["config-drive"]));
    let said = missing().unwrap_err().to_string();
    assert!(said.contains("config-drive: no config drive: no device labelled config-2"), "{said}");
    assert_eq!(tree(&node), before);

    // A reboot needs nothing from it.
    node.write_file(&format!("{DRIVE}/openstack/content/0002"), "new bgp\n", 0o644).unwrap();
    assert!(apply(&node, None).0);
    let said = String::from_utf8(missing().unwrap().stderr).unwrap();
    assert!(said.contains("no device labelled config-2") && said.contains("nothing is needed from it"), "{said}");
}

/// Copied from another amphora, with all that makes it that one.
#[test]
fn another_instances_disk_is_refused_and_stays_as_it_is() {
    let workdir = Workdir::new("drive-copied").unwrap();
    let node = machine(&workdir, "copied");
    assert!(apply(&node, None).0);
    let before = tree(&node);
    let meta_data = format!("{DRIVE}/openstack/latest/meta_data.json");
    let other = node.read_file(&meta_data).unwrap().replace("000000000001", "000000000002");
    node.write_file(&meta_data, &other, 0o644).unwrap();
    node.write_file(&format!("{DRIVE}/openstack/content/0001"), "other key\n", 0o644).unwrap();
    for _ in 0..2 {
        let (well, said) = apply(&node, Some(1));
        assert!(
            !well && said.contains("the disk was set up for instance 1e0c0f5e-0000-4000-8000-000000000001"),
            "{said}"
        );
        assert!(said.contains("is instance 1e0c0f5e-0000-4000-8000-000000000002's: boot the amphora from"), "{said}");
        assert_eq!(tree(&node), before);
    }
}

/// The units as they are shipped, at a machine's first boot: nobody can log in, so that the console has to say what is
/// wrong, and no agent starts.
#[test]
fn where_the_unit_fails_the_console_says_why_and_no_agent_starts() {
    let tree = match nspawn::debian12() {
        Ok(tree) => tree,
        Err(error) => return skipped("drive-unit", &error.to_string()),
    };
    let workdir = Workdir::new("drive-unit").unwrap();
    let node = machine(&workdir, "unit");
    node.run(["rm", "/run/drive/openstack/content/0002"]).unwrap();
    let mut boot = nspawn::boot_command(&node, &workdir, &tree).unwrap();
    // A console that is a terminal: nothing is forwarded to another.
    boot.args(["--capability=CAP_NET_ADMIN", "--console=read-only", "--bind-ro=/run/drive:/srv/drive"]);
    let program = workdir::built_program("amphora-agent").unwrap();
    boot.arg(format!("--bind-ro={}:/usr/local/bin/amphora-agent", program.display()));
    let shipped = nspawn::repository().join("systemd");
    for unit in ["amphora-agent", "amphora-config-drive", "amphora-netns"].map(|unit| format!("{unit}.service")) {
        boot.arg(format!("--bind-ro={}:/usr/lib/systemd/system/{unit}", shipped.join(&unit).display()));
    }
    let preset = "50-amphora.preset";
    boot.arg(format!("--bind-ro={}:/usr/lib/systemd/system-preset/{preset}", shipped.join(preset).display()));
    let drop_in = workdir.path().join("drive.conf");
    let text = "[Service]\nExecStart=\nExecStart=/usr/local/bin/amphora-agent config-drive --directory /srv/drive\n";
    std::fs::write(&drop_in, text).unwrap();
    let place = "/etc/systemd/system/amphora-config-drive.service.d/50-test.conf";
    boot.arg(format!("--bind-ro={}:{place}", drop_in.display()));
    boot.arg("systemd.condition-first-boot=1");
    let masked = ["firstboot.service", "networkd.service", "networkd.socket", "networkd-wait-online.service"];
    boot.args(masked.map(|unit| format!("systemd.mask=systemd-{unit}")));
    let machine = Machine::boot(&node, &workdir, boot).unwrap();

    let refused = |line: &str| {
        let console = || std::fs::read_to_string(node.log_path("nspawn")).unwrap();
        let seen = || if console().contains(line) { Ok(()) } else { Err(console()) };
        wait_for("the console has the line", Duration::from_mins(1), seen).unwrap();
        // The job that is waited for ends when that of the unit it requires has failed.
        machine.run("systemctl start amphora-agent").unwrap_err();
        assert_eq!(machine.ask("systemctl is-active amphora-config-drive amphora-agent"), "failed\ninactive");
        assert_eq!(machine.ask("systemctl show -P ExecMainStartTimestampMonotonic amphora-agent"), "0");
    };
    refused("config-drive: openstack/content/0002: not on the drive");
    node.write_file(&format!("{DRIVE}/openstack/content/0002"), "new bgp\n", 0o644).unwrap();
    machine.run("systemctl start amphora-config-drive").unwrap();
    assert_eq!(machine.ask(&format!("stat -c %a {KEY} && hostname")), "600\namphora-7");

    machine.run("systemctl stop amphora-config-drive").unwrap();
    let meta_data = format!("{DRIVE}/openstack/latest/meta_data.json");
    let other = node.read_file(&meta_data).unwrap().replace("000000000001", "000000000002");
    node.write_file(&meta_data, other, 0o644).unwrap();
    machine.run("systemctl start amphora-config-drive").unwrap_err();
    refused("config-drive: the disk was set up for instance 1e0c0f5e-0000-4000-8000-000000000001");
}

/// What is there after a death is whole, the agent's configuration comes after everything it names, and the next boot does
/// all of it.
#[test]
fn killed_at_every_step_the_next_boot_does_it_again() {
    let workdir = Workdir::new("drive-crash").unwrap();
    let node = machine(&workdir, "crash");
    for at in 1..MANY {
        for (path, old) in [(CONF, "old conf\n"), (KEY, "old key\n")] {
            node.write_file(path, old, 0o600).unwrap();
        }
        node.run(["rm", "-f", APPLIED]).unwrap();
        let (well, said) = apply(&node, Some(at));
        if well {
            assert!(at > 8, "{at} points only: is the program built with crash-points?");
            return;
        }
        assert!(said.contains("crash point"), "{said}");
        let (conf, key) = (node.read_file(CONF).unwrap(), node.read_file(KEY).unwrap());
        assert!(
            ["old conf\n", "new conf\n"].contains(&conf.as_str()) && ["old key\n", "new key\n"].contains(&key.as_str())
        );
        assert!(conf == "old conf\n" || key == "new key\n", "the configuration is the last: {said}");
        assert!(node.read_file(APPLIED).is_err() || conf == "new conf\n", "{said}");
        let (well, again) = apply(&node, None);
        assert!(well, "{said}: {again}");
        let read =
            [CONF, KEY, "/etc/octavia/amphora-agent.conf.d/50-bgp.conf"].map(|path| node.read_file(path).unwrap());
        assert_eq!(read, ["new conf\n", "new key\n", "new bgp\n"], "{said}");
        assert_eq!(node.run(["sh", "-c", "find /etc/octavia /etc/rsyslog.d -name '.*.new'"]).unwrap(), "", "{said}");
    }
    panic!("more than {MANY} points");
}
