//! After a reboot: VRRP comes back by itself, whenever its NIC does. And a machine where nobody can be asked to run it.

use lab::amphora::{FRONTEND_NIC, HAPROXY_NETNS};
use lab::wait_for;
use nix::sys::signal::Signal;

use crate::support::{PATIENCE, holds_vip, plug, put, start, stock, vip};

/// A VRRP without a peer and without a check.
fn config() -> String {
    format!(
        "vrrp_instance x {{\n  interface eth1\n  virtual_router_id 1\n  priority 100\n  virtual_ipaddress {{\n    {}\n  \
         }}\n}}\n",
        vip().v4
    )
}

#[test]
fn vrrp_that_gave_up_before_its_nic_was_there_runs_after_a_reboot_unless_it_was_stopped() {
    let fabric = stock("vrrp-boot", 1);
    let amphora = &fabric.amphorae[0];
    let mut api = start(amphora);
    plug(amphora, &mut api);
    put(&mut api, "/1.0/vrrp/upload", config()).unwrap().success().unwrap();
    put(&mut api, "/1.0/vrrp/start", "").unwrap().success().unwrap();
    let mut port = amphora.frontend_port().to_owned();
    for (round, stopped) in [false, true].into_iter().enumerate() {
        let holds = || if holds_vip(amphora) { Ok(()) } else { Err("not yet") };
        wait_for("the only amphora becomes the master", PATIENCE, holds).unwrap();
        if stopped {
            put(&mut amphora.api().unwrap(), "/1.0/vrrp/stop", "").unwrap().success().unwrap();
        }

        // A reboot, with a NIC that comes late.
        amphora.stop_agent().unwrap();
        amphora.kill_program("keepalived", Signal::SIGKILL).unwrap();
        amphora.node().run(["rm", "-r", "/run/amphora-agent/services"]).unwrap();
        fabric.frontend.switch().ip(&format!("link del {port}")).unwrap();
        amphora.node().run(["ip", "netns", "del", HAPROXY_NETNS]).unwrap();
        start(amphora);
        let given_up = || {
            let log = std::fs::read_to_string(amphora.agent().unwrap().log()).unwrap();
            let times = log.matches("given up: started too often").count();
            if times > round { Ok(()) } else { Err(format!("{times} times")) }
        };
        wait_for("keepalived gives up without its NIC", PATIENCE, given_up).unwrap();
        let mac = amphora.frontend_mac();
        port = fabric.frontend.plug(amphora.node(), FRONTEND_NIC, Some(&mac)).unwrap();
        if stopped {
            let there =
                || amphora.haproxy_netns().unwrap().run(["ip", "link", "show", "eth1"]).map_err(|e| e.to_string());
            wait_for("the NIC is back", PATIENCE, there).unwrap();
            std::thread::sleep(std::time::Duration::from_secs(5));
            assert_eq!(amphora.pids("keepalived").unwrap(), [] as [u32; 0], "it was silenced");
        }
    }
}

#[test]
fn a_machine_without_d_bus_is_told_so() {
    let fabric = stock("no-bus", 1);
    let amphora = &fabric.amphorae[0];
    amphora.write_config("[distributor]\nservices = systemd\n").unwrap();
    let mut api = start(amphora);
    let reply = put(&mut api, "/1.0/vrrp/upload", config()).unwrap();
    assert_eq!(reply.status, 500, "{}", reply.text());
    let said = reply.json()["details"].as_str().unwrap().to_owned();
    assert!(said.contains("install and start dbus"), "{said}");
}
