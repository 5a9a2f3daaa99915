//! A config drive as Nova makes it (nova/virt/configdrive.py, nova/api/metadata/base.py), with what Octavia's own task
//! asks of it.

use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::Stdio;

use serde_json::{Value, json};

use super::{Medium, id, management_mac, run_here};
use crate::addresses::{CONTROLLER_HOST, Family, MANAGEMENT, amphora_host};
use crate::error::{Error, Result, io};
use crate::fabric::Fabric;
use crate::heartbeats::KEY;
use crate::octavia;
use crate::place::command;

/// Where a controller's health manager would listen.
pub const HEALTH_MANAGER_PORT: u16 = 5555;
/// The label that tells what it is.
const LABEL: &str = "config-2";

/// What an amphora is born with.
#[derive(Clone, Copy, Debug)]
pub struct Birth<'a> {
    /// Which amphora of the fabric's addresses.
    pub index: usize,
    /// `SINGLE` or `ACTIVE_STANDBY`.
    pub topology: &'a str,
    /// Our own sections, a file in `amphora-agent.conf.d`.
    pub sections: &'a str,
    /// Whether its management address comes by DHCP, as from a subnet that has it; otherwise Nova writes it down.
    pub dhcp: bool,
    /// Whether Octavia's files go in the user data (`user_data_config_drive`, deprecated).
    pub user_data: bool,
    /// Whether the controller's `debug` is on, which it hands to its amphorae.
    pub debug: bool,
    /// What it is on.
    pub medium: Medium,
}

/// What Octavia's task hands to Nova.
fn asked(fabric: &Fabric, birth: &Birth) -> Result<Value> {
    let (id, host) = (id(birth.index), MANAGEMENT.host(amphora_host(birth.index)));
    let server = fabric.pki.server(&id, &[host.v4.into(), host.v6.into()])?;
    let ca = fabric.workdir.path().join("client_ca.pem");
    fs::write(&ca, fabric.pki.ca()).map_err(io(ca.display().to_string()))?;
    let manager = std::net::SocketAddr::new(MANAGEMENT.host(CONTROLLER_HOST).v4.into(), HEALTH_MANAGER_PORT);
    let asked = json!({
        "amphora_id": id, "topology": birth.topology, "server_pem": server.certificate + &server.key, "client_ca": ca,
        "controllers": [manager], "heartbeat_key": KEY, "user_data": birth.user_data,
        "debug": birth.debug,
    });
    let said = octavia::answer("boot.py", &asked)?;
    serde_json::from_slice(&said).map_err(|error| Error::Parse {
        what: "boot.py".into(),
        text: format!("{error}: {}", String::from_utf8_lossy(&said)),
    })
}

/// Nova's description of the one NIC an amphora is born with.
fn network(birth: &Birth) -> Value {
    let host = MANAGEMENT.host(amphora_host(birth.index));
    let address = |ip: IpAddr| match ip {
        IpAddr::V4(_) if birth.dhcp => json!({ "type": "ipv4_dhcp" }),
        IpAddr::V4(ip) => json!({ "type": "ipv4", "ip_address": ip, "netmask": MANAGEMENT.v4.netmask(), "routes": [] }),
        IpAddr::V6(ip) => json!({ "type": "ipv6", "ip_address": ip, "netmask": MANAGEMENT.v6.netmask(), "routes": [] }),
    };
    let networks: Vec<Value> = [Family::V4, Family::V6]
        .into_iter()
        .enumerate()
        .map(|(number, family)| {
            let mut network = address(host.of(family));
            network["id"] = format!("network{number}").into();
            network["link"] = "tap0".into();
            network["network_id"] = "d2a1c6f0-0000-4000-8000-00000000000a".into();
            network["services"] = json!([]);
            network
        })
        .collect();
    json!({
        "links": [{
            "id": "tap0", "vif_id": "7b1f7b2c-0000-4000-8000-00000000000b", "type": "bridge",
            // Where a subnet has DHCP its server names it (netutils.py, _get_link_mtu).
            "mtu": (!birth.dhcp).then_some(1500),
            "ethernet_mac_address": management_mac(birth.index),
        }],
        "networks": networks,
        "services": [],
    })
}

/// Makes the drive, and returns its file in the lab's directory.
pub fn make(fabric: &Fabric, birth: &Birth) -> Result<PathBuf> {
    let asked = asked(fabric, birth)?;
    let name = asked["name"].as_str().unwrap_or_default().to_owned();
    let mut files: Vec<(String, String)> = asked["files"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(path, text)| (path.clone(), text.as_str().unwrap_or_default().to_owned()))
        .collect();
    files.push(("/etc/octavia/amphora-agent.conf.d/50-lab.conf".into(), birth.sections.into()));
    let content: Vec<Value> = files
        .iter()
        .enumerate()
        .map(|(number, (path, _))| json!({ "path": path, "content_path": format!("/content/{number:04}") }))
        .collect();
    let meta = json!({
        "uuid": id(birth.index), "name": name, "hostname": format!("{name}.novalocal"), "launch_index": 0,
        "availability_zone": "nova", "project_id": "0d3b7a1c2d3e4a4e8c1b9f0a6f4b2f0e", "devices": [],
        "dedicated_cpus": [], "files": content,
    });
    let folder = fabric.workdir.path().join(format!("config-{}", birth.index));
    let write = |path: &str, text: &[u8]| {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().expect("below the folder"))
            .and_then(|()| fs::write(&path, text))
            .map_err(io(path.display().to_string()))
    };
    for (number, (_, text)) in files.iter().enumerate() {
        write(&format!("openstack/content/{number:04}"), text.as_bytes())?;
    }
    // Nova writes each version it knows; readers take `latest`.
    for version in ["2018-08-27", "latest"] {
        write(&format!("openstack/{version}/meta_data.json"), meta.to_string().as_bytes())?;
        write(&format!("openstack/{version}/network_data.json"), network(birth).to_string().as_bytes())?;
        write(&format!("openstack/{version}/vendor_data.json"), b"{}")?;
        let user_data = asked["user_data"].as_str().unwrap_or_default();
        write(&format!("openstack/{version}/user_data"), user_data.as_bytes())?;
    }
    let drive = fabric.workdir.path().join(format!("config-{}.img", birth.index));
    match birth.medium {
        Medium::Iso9660 => {
            let mut iso = command(["genisoimage", "-quiet", "-ldots", "-allow-lowercase", "-allow-multidot", "-l"]);
            iso.args(["-publisher", "OpenStack Nova", "-J", "-r", "-V", LABEL, "-o"]).arg(&drive).arg(&folder);
            run_here(&mut iso)?;
        }
        Medium::Vfat => {
            let size = 64 * 1024 * 1024;
            let file = fs::File::create(&drive).map_err(io(drive.display().to_string()))?;
            file.set_len(size).map_err(io(drive.display().to_string()))?;
            run_here(command(["mkfs.vfat", "-n", LABEL]).arg(&drive).stdout(Stdio::null()))?;
            run_here(command(["mcopy", "-s", "-i"]).arg(&drive).arg(folder.join("openstack")).arg("::"))?;
        }
    }
    Ok(drive)
}
