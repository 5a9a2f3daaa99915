//! The socket: root's alone, there again after whatever happened, and nothing the controller needs.

use std::time::Duration;

use lab::wait_for;
use nix::sys::signal::Signal;

use crate::said::{announced, ctl, program, run_by};
use crate::site::PATIENCE;

const SOCKET: &str = "/run/amphora-agent/api.sock";
const AS_NOBODY: &str = "setpriv --reuid nobody --clear-groups";

#[test]
fn the_socket_is_roots_alone_and_there_again_after_every_start() {
    let (site, _) = announced("ctl-socket", 64_500);
    let (amphora, node) = (site.amphora(), site.amphora().node());
    let stat = || node.run(["stat", "-c", "%a %u %F", SOCKET]).unwrap();
    let inode = || node.run(["stat", "-c", "%i", SOCKET]).unwrap();
    assert_eq!(stat(), "600 0 socket\n");
    // The same router: what is not there is not there in Octavia's words, and what the controller calls is.
    let curl = |line: &str| {
        node.run(["sh", "-c", &format!("curl -s -w ' %{{http_code}}' --unix-socket {SOCKET} {line}")]).unwrap()
    };
    assert_eq!(curl("http://localhost/"), r#"{"api_version":"1.0"} 200"#);
    assert!(curl("http://localhost/nothing").ends_with(" 404"));
    // A request that came to no address of ours cannot have the management NIC plugged either.
    let mac = node.run(["cat", "/sys/class/net/eth0/address"]).unwrap();
    let body = format!(r#"{{"mac_address":"{}","subnet_cidr":"203.0.113.0/24","gateway":"203.0.113.1"}}"#, mac.trim());
    let refused = curl(&format!("-d '{body}' http://localhost/1.0/plug/vip/203.0.113.77"));
    assert!(refused.ends_with(" 400") && refused.contains("management interface"), "{refused}");

    // Nobody else may open it, and if somebody opens it up, whoever comes in is still asked.
    let said = run_by(node, AS_NOBODY, "status");
    assert_eq!(said.code, 2, "{said:?}");
    assert!(said.err.contains("only root may talk to the agent"), "{said:?}");
    node.run(["chmod", "755", "/run/amphora-agent"]).unwrap();
    node.run(["chmod", "666", SOCKET]).unwrap();
    let said = run_by(node, AS_NOBODY, "status");
    assert!(said.code == 2 && said.err.contains("Only root may use this socket"), "{said:?}");

    // Another agent does not get as far as touching it.
    let before = inode();
    let second = node.spawn("second", &mut lab::command([program()])).unwrap();
    std::thread::sleep(Duration::from_secs(2));
    assert!(second.is_running(), "it waits for the lock of the first");
    assert_eq!(inode(), before);
    second.kill_and_wait().unwrap();
    ctl(amphora, "status", 0);

    amphora.kill_agent().unwrap();
    assert_eq!(inode(), before, "what a killed agent leaves");
    amphora.start_agent(&[]).unwrap();
    amphora.wait_api(PATIENCE).unwrap();
    wait_for("a socket of the new agent", PATIENCE, || {
        let said = run_by(node, "", "peers");
        if said.code == 2 { Err(said.err) } else { Ok(()) }
    })
    .unwrap();
    assert_eq!(stat(), "600 0 socket\n");
    assert_ne!(inode(), before);

    // Where there can be none, the controller is served all the same.
    let agent = amphora.agent().unwrap();
    agent.kill(Signal::SIGTERM).unwrap();
    agent.wait(PATIENCE).unwrap();
    node.run(["sh", "-c", &format!("rm {SOCKET} && mkdir {SOCKET}")]).unwrap();
    let mut api = site.start_agent();
    assert_eq!(api.get("/").unwrap().status, 200);
    let log = std::fs::read_to_string(amphora.agent().unwrap().log()).unwrap();
    assert!(log.contains("amphoractl will not work"), "{log}");
    assert_eq!(ctl(amphora, "status", 2).err.lines().count(), 1);
    site.wait_announced();
}
