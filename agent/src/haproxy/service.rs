//! haproxy as a service: what it is run with, and as whom.

use std::path::{Path, PathBuf};

use nix::unistd::{Gid, Group, User};

use super::peer::peer_name;
use crate::{
    config::Paths,
    loadbalancers::LbId,
    services::{ReloadSignal, Sandbox, Service, ServiceName},
};

/// Octavia's name of the file that tells haproxy its group.
pub(super) const USER_GROUP: &str = "haproxy-default-user-group.conf";

/// A file of a load balancer's in its directory.
pub(super) fn file(paths: &Paths, lb: &LbId, name: &str) -> PathBuf {
    paths.base.join(lb.name().as_str()).join(name)
}

/// Its stats socket, by the name the controller renders.
pub(super) fn socket(paths: &Paths, lb: &LbId) -> PathBuf {
    paths.base.join(format!("{lb}.sock"))
}

/// The command that says whether haproxy would run with `configuration`.
pub(super) fn check(paths: &Paths, configuration: &Path, amphora_id: &str) -> Vec<String> {
    let (haproxy, group) = (text(&paths.haproxy), text(&paths.base.join(USER_GROUP)));
    [haproxy, "-c".into(), "-L".into(), peer_name(amphora_id), "-f".into(), text(configuration), "-f".into(), group]
        .into()
}

/// The service, as upstream's `templates/systemd.conf.j2` has it: a master with its workers, which says when it is ready
/// and starts new workers on SIGUSR2 while the old ones finish what they have.
pub(super) fn service(paths: &Paths, lb: &LbId, amphora_id: &str) -> Service {
    let configuration = file(paths, lb, "haproxy.cfg");
    let mut command = check(paths, &configuration, amphora_id);
    "-Ws".clone_into(&mut command[1]);
    command.extend(["-p".to_owned(), text(&file(paths, lb, &format!("{lb}.pid")))]);
    let mut service = Service::new(ServiceName::haproxy(lb), "HAProxy Load Balancer", command);
    // Upstream's says nothing (`-q`); what haproxy says is what a failed call answers.
    service.checks = vec![check(paths, &configuration, amphora_id)];
    service.reload = ReloadSignal::Usr2;
    service.reload_forks = true;
    service.notify = true;
    service.before = vec![ServiceName::keepalived()];
    // It binds low ports, gives its workers another user and group, and signals them. The one for raw packets is not for
    // it: Debian's ping, the check of a PING monitor, has it as a file capability and is not executed where it could not
    // be given (execve(2), EPERM). Under NoNewPrivileges it is not given to it either, and ping needs none
    // (`net.ipv4.ping_group_range`).
    let capabilities =
        ["CAP_NET_BIND_SERVICE", "CAP_SETUID", "CAP_SETGID", "CAP_KILL", "CAP_SYS_RESOURCE", "CAP_NET_RAW"];
    service.sandbox = Sandbox {
        writable: vec![paths.base.clone()],
        capabilities: capabilities.map(ToOwned::to_owned).into(),
        ..Sandbox::default()
    };
    service
}

/// What the user-group file says where the image has none: Debian's group for nobody's processes; where there is no such
/// group (the Red Hat family), haproxy's own (`elements/haproxy-octavia/post-install.d/20-haproxy-user-group-config`).
pub(super) fn user_group() -> String {
    let there = |name: &&str| Group::from_name(name).is_ok_and(|group| group.is_some());
    let of_nobody = || {
        let gid = User::from_name("nobody").ok().flatten().map_or(Gid::from_raw(65534), |user| user.gid);
        Group::from_gid(gid).ok().flatten().map(|group| group.name)
    };
    let known = ["nogroup", "haproxy"].into_iter().find(there).map(ToOwned::to_owned);
    format!("global\n    group {}\n", known.or_else(of_nobody).unwrap_or_else(|| "nogroup".to_owned()))
}

/// Paths come from a configuration file, which is text.
fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
