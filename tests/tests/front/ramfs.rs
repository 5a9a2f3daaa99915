//! `[distributor] require_ramfs`.

use serde_json::json;

use crate::support::{alone, put, start};

#[test]
fn keys_are_stored_in_memory_or_not_at_all() {
    let fabric = alone("ramfs");
    let (amphora, node) = (&fabric.amphorae[0], fabric.amphorae[0].node());
    let path = "/1.0/loadbalancer/123/certificates/a.pem";
    // The node's /var is an overlay in memory, which nobody can tell; here that is the disk.
    amphora.write_config("[distributor]\nrequire_ramfs = true\n").unwrap();
    let mut api = start(amphora);
    for there in [false, true] {
        if there {
            node.run(["mkdir", "-p", "/var/lib/octavia/certs"]).unwrap();
        }
        let reply = put(&mut api, path, "canary of a key").unwrap();
        let said = reply.json();
        assert_eq!((reply.status, &said["message"]), (503, &json!("The certificate would be written to a disk")));
        assert!(said["details"].as_str().unwrap().contains("[distributor] require_ramfs"), "{said}");
        assert_eq!(node.run(["find", "/var/lib/octavia/certs", "-mindepth", "1"]).unwrap_or_default(), "");
        node.run(["sh", "-c", "! grep -rq canary /var/lib/octavia /etc/octavia"]).unwrap();
    }
    node.run(["mount", "-t", "tmpfs", "-o", "mode=700", "none", "/var/lib/octavia/certs"]).unwrap();
    assert_eq!(put(&mut api, path, "canary of a key").unwrap().status, 200);
    assert_eq!(node.read_file("/var/lib/octavia/certs/123/a.pem").unwrap(), "canary of a key");
    // Gone again: what is below the mount point is a disk.
    node.run(["umount", "-l", "/var/lib/octavia/certs"]).unwrap();
    assert_eq!(put(&mut api, path, "canary of a key").unwrap().status, 503);
    assert_eq!((api.get(path).unwrap().status, api.delete(path).unwrap().status), (404, 200));
    // It may be lifted while the agent runs.
    amphora.write_config("[distributor]\nrequire_ramfs = false\n").unwrap();
    let main = node.read_file(crate::support::MAIN).unwrap();
    assert_eq!(put(&mut api, "/1.0/config", main).unwrap().status, 202);
    assert_eq!(put(&mut api, path, "a key").unwrap().status, 200);
}
