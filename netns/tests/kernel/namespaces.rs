//! Named namespaces: made, found, made again after a crash, seen by others, taken away.

use std::{fs, path::Path, sync::mpsc, thread};

use crate::support::{another, in_new, remount, with_own_run};
use netns::{Kind, Namespace};
use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::CloneFlags,
};

const PLACE: &str = "/run/netns/amphora-haproxy";

#[test]
fn an_existing_namespace_is_no_error_and_the_same() {
    with_own_run(|| {
        assert_eq!(Namespace::find("amphora-haproxy").unwrap(), None);
        let made = Namespace::create("amphora-haproxy").unwrap();
        assert_ne!(made, Namespace::current().unwrap());
        assert_eq!(Namespace::create("amphora-haproxy").unwrap(), made);
        assert_eq!(Namespace::find("amphora-haproxy").unwrap(), Some(made.clone()));
        assert_eq!(Namespace::open(Path::new(PLACE)).unwrap(), made);
        assert_ne!(Namespace::create("another").unwrap(), made);
        let links = made.run(|| fs::read_to_string("/proc/thread-self/net/dev").unwrap()).unwrap();
        assert_eq!(links.lines().count(), 3, "two lines of heading and lo: {links}");
    });
}

#[test]
fn whatever_a_crash_left_is_completed() {
    let states: [fn(); 4] = [
        || fs::create_dir("/run/netns").unwrap(),
        || {
            fs::create_dir("/run/netns").unwrap();
            mount(Some("/run/netns"), "/run/netns", None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
        },
        || {
            fs::create_dir("/run/netns").unwrap();
            fs::write(PLACE, "").unwrap();
        },
        || {
            Namespace::create("amphora-haproxy").unwrap();
            umount2(PLACE, MntFlags::MNT_DETACH).unwrap();
        },
    ];
    for left in states {
        with_own_run(|| {
            left();
            assert_eq!(Namespace::find("amphora-haproxy").unwrap(), None);
            let made = Namespace::create("amphora-haproxy").unwrap();
            assert_eq!(Namespace::find("amphora-haproxy").unwrap(), Some(made));
            assert!(mount_options("/run/netns").contains("shared:"), "{}", mount_options("/run/netns"));
        });
    }
}

#[test]
fn something_else_in_the_place_is_left_alone() {
    with_own_run(|| {
        fs::create_dir("/run/netns").unwrap();
        fs::write(PLACE, "text").unwrap();
        assert_eq!(Namespace::create("amphora-haproxy").unwrap_err().kind, Kind::Exists);
        assert_eq!(Namespace::delete("amphora-haproxy").unwrap_err().kind, Kind::NotOurs);
        assert_eq!(fs::read_to_string(PLACE).unwrap(), "text");
        for name in ["", ".", "..", "a/b", "a\0b", &"x".repeat(256)] {
            assert!(matches!(Namespace::create(name).unwrap_err().kind, Kind::Invalid(_)), "{name:?}");
        }
    });
}

#[test]
fn many_at_once_make_one_namespace() {
    with_own_run(|| {
        let all: Vec<Namespace> = thread::scope(|scope| {
            let makers: Vec<_> =
                (0..16).map(|_| scope.spawn(|| Namespace::create("amphora-haproxy").unwrap())).collect();
            makers.into_iter().map(|maker| maker.join().unwrap()).collect()
        });
        assert!(all.windows(2).all(|pair| pair[0] == pair[1]));
        let mounts = fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
        assert_eq!(mounts.lines().filter(|line| line.split(' ').nth(4) == Some(PLACE)).count(), 1, "{mounts}");
    });
}

/// Two processes rather than threads: the lock must hold between programs, and with `ip netns`.
#[test]
fn ip_netns_and_we_find_what_the_other_made() {
    with_own_run(|| {
        let ip = |arguments: &[&str]| {
            let output = std::process::Command::new("ip").args(arguments).output().unwrap();
            assert!(output.status.success(), "ip {arguments:?}: {output:?}");
            String::from_utf8(output.stdout).unwrap()
        };
        let made = Namespace::create("ours").unwrap();
        ip(&["netns", "add", "theirs"]);
        assert!(ip(&["netns", "list"]).contains("ours"));
        ip(&["netns", "exec", "ours", "true"]);
        assert!(Namespace::find("theirs").unwrap().is_some());
        assert_eq!(Namespace::create("theirs").unwrap(), Namespace::find("theirs").unwrap().unwrap());
        ip(&["netns", "delete", "ours"]);
        assert_eq!(Namespace::find("ours").unwrap(), None);
        made.run(|| ()).unwrap(); // lives on while it is held
        Namespace::delete("theirs").unwrap();
        assert!(!ip(&["netns", "list"]).contains("theirs"));
    });
}

/// What a service sees that was started with a mount namespace of its own (`ProtectSystem=`: its mounts are slaves)
/// before the namespace was made; and that the reverse does not hold.
fn seen_by_a_running_service(before: fn()) {
    with_own_run(|| {
        before();
        let (ready, started) = mpsc::channel();
        let (go, made) = mpsc::channel::<()>();
        thread::scope(|scope| {
            let service = scope.spawn(move || {
                in_new(CloneFlags::CLONE_NEWNS, move || {
                    remount("/", MsFlags::MS_SLAVE);
                    ready.send(()).unwrap();
                    made.recv().unwrap();
                    Namespace::create("inside").unwrap();
                    Namespace::find("later").unwrap()
                })
            });
            started.recv().unwrap();
            let later = Namespace::create("later").unwrap();
            go.send(()).unwrap();
            assert_eq!(service.join().unwrap(), Some(later));
            assert_eq!(Namespace::find("inside").unwrap(), None);
        });
    });
}

#[test]
fn a_running_service_sees_a_name_made_later() {
    seen_by_a_running_service(|| drop(Namespace::create("earlier").unwrap()));
}

/// The very first name, where `/run` is shared as systemd has it.
#[test]
fn a_running_service_sees_the_first_name() {
    seen_by_a_running_service(|| remount("/run", MsFlags::MS_SHARED));
}

#[test]
fn deletion_takes_the_name_and_can_be_repeated() {
    with_own_run(|| {
        Namespace::delete("amphora-haproxy").unwrap();
        let made = Namespace::create("amphora-haproxy").unwrap();
        // Mounted twice over, as a careless `mount --bind` would.
        mount(Some("/proc/thread-self/ns/net"), PLACE, None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
        Namespace::delete("amphora-haproxy").unwrap();
        assert!(!fs::exists(PLACE).unwrap());
        Namespace::delete("amphora-haproxy").unwrap();
        made.run(|| ()).unwrap();
        assert_ne!(Namespace::create("amphora-haproxy").unwrap(), made);
    });
}

#[test]
fn a_panic_inside_goes_on_in_the_caller_who_stays_where_he_was() {
    let here = Namespace::current().unwrap();
    let away = another();
    assert_eq!(away.run(|| Namespace::current().unwrap()).unwrap(), away);
    let panic = std::panic::catch_unwind(|| away.run(|| panic!("inside"))).unwrap_err();
    assert_eq!(panic.downcast_ref::<&str>(), Some(&"inside"));
    assert_eq!(Namespace::current().unwrap(), here);
    assert_eq!(away.run(|| 1).unwrap(), 1);
}

#[test]
fn what_is_no_network_namespace_is_refused() {
    for path in ["/etc/passwd", "/proc/self/ns/mnt"] {
        let error = Namespace::open(Path::new(path)).unwrap_err();
        assert!(matches!(error.kind, Kind::Invalid(_)), "{error}");
    }
    assert_eq!(Namespace::open(Path::new("/nowhere")).unwrap_err().kind, Kind::Missing);
}

#[test]
fn a_sysctl_is_written_only_when_it_differs_and_only_inside() {
    let (here, away) = (another(), another());
    let key = "net.ipv4.conf.default.arp_announce";
    assert_eq!(away.sysctl(key).unwrap(), "0");
    assert!(away.set_sysctl(key, "2").unwrap());
    assert!(!away.set_sysctl(key, "2").unwrap());
    assert_eq!((away.sysctl(key).unwrap(), here.sysctl(key).unwrap()), ("2".into(), "0".into()));
    assert!(away.set_sysctl("net.ipv4.ip_local_port_range", "20000 30000").unwrap());
    assert!(!away.set_sysctl("net.ipv4.ip_local_port_range", "20000 30000").unwrap());
    assert_eq!(away.sysctl("net.ipv4.conf.eth0.100.arp_ignore").unwrap_err().kind, Kind::Missing);
    assert!(matches!(away.set_sysctl(key, "seven").unwrap_err().kind, Kind::Invalid(_)));
}

fn mount_options(place: &str) -> String {
    let mounts = fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
    let found = mounts.lines().rfind(|line| line.split(' ').nth(4) == Some(place));
    found.unwrap_or_else(|| panic!("{place} is no mount: {mounts}")).to_owned()
}
