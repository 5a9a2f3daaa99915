//! The cases are those of Octavia's own unit tests (`test_keepalivedlvs_query.py`): its configurations and kernel tables,
//! and what it makes of them.

use super::*;
use crate::keepalivedlvs::config::Protocol;

const COLUMNS: &str = "IP Virtual Server version 1.2.1 (size=4096)\n\
                       Prot LocalAddress:Port Scheduler Flags\n  \
                       -> RemoteAddress:Port Forward Weight ActiveConn InActConn\n";
const V4: &str = "UDP  0A000025:1E61 rr\n  \
                  -> 0A000023:0D05      Masq    2      0          0\n  \
                  -> 0A000019:08AE      Masq    3      0          0\n";
const V6: &str = "UDP  [fd79:35e2:9963:0000:f816:3eff:fe6d:7a2a]:1E61 rr\n  \
                  -> [fd79:35e2:9963:0000:f816:3eff:feca:b7bf]:08AE      Masq    3      0          0\n  \
                  -> [fd79:35e2:9963:0000:f816:3eff:fe9d:94df]:0D05      Masq    2      0          0\n  \
                  -> [fd79:35e2::8f3f]:115C       Masq    2      0          0\n";
const ELSEWHERE: &str = "UDP  0A000025:FF12 rr persistent 360 FFFFFFFF\n  \
                         -> 0A000019:08AE      Masq    0      9          0\n";

fn kernel(services: &[&str]) -> Table {
    table::table(&[&[COLUMNS], services].concat().concat())
}

fn member(number: u8, address: &str) -> String {
    let (ip, port) = address.rsplit_once(' ').unwrap();
    format!(
        "    # Configuration for Member member-{number}\n    real_server {ip} {port} {{\n        weight 3\n        \
         MISC_CHECK {{\n            misc_path \"/usr/bin/check_script.sh {ip} {port}\"\n            misc_timeout 5\n        \
         }}\n    }}\n"
    )
}

fn disabled(number: u8) -> String {
    format!("    # Member member-{number} is disabled\n")
}

fn group(family: u8, vip: &str, protocol: &str, members: &[String]) -> String {
    format!(
        "virtual_server_group ipv{family}-group {{\n    {vip} 7777\n}}\n\nvirtual_server group ipv{family}-group {{\n    \
         lb_algo rr\n    lb_kind NAT\n    protocol {protocol}\n\n    # Configuration for Pool the-pool\n{}}}\n",
        members.concat()
    )
}

fn listener(groups: &[String]) -> Configuration {
    let head = "# Configuration for Loadbalancer lb\n# Configuration for Listener listener\n\nnet_namespace \
                amphora-haproxy\n\n";
    config::parse(&format!("{head}{}", groups.concat()))
}

const VIP_V6: &str = "fd79:35e2:9963:0:f816:3eff:fe6d:7a2a";

fn v4() -> String {
    let members = [member(1, "10.0.0.25 2222"), member(2, "10.0.0.35 3333"), member(3, "10.0.0.45 4444"), disabled(4)];
    group(4, "10.0.0.37", "UDP", &members)
}

fn v6() -> String {
    let members = [
        member(1, "fd79:35e2:9963:0:f816:3eff:feca:b7bf 2222"),
        member(2, "fd79:35e2:9963:0:f816:3eff:fe9d:94df 3333"),
        member(3, "fd79:35e2:9963:0:f816:3eff:fe9d:8f3f 4444"),
        disabled(4),
        member(5, "fd79:35e2:0:0:0:0:0:8f3f 4444"),
    ];
    group(6, VIP_V6, "UDP", &members)
}

fn pool(configuration: &Configuration, table: &Table, restarting: bool) -> (&'static str, Vec<&'static str>) {
    let pool = judge(configuration, table, None, restarting).pool.unwrap();
    assert_eq!(pool.id, "the-pool");
    (pool.status, pool.members.into_values().collect())
}

#[test]
fn a_member_the_kernel_does_not_have_is_down_or_on_its_way() {
    let (v4, v6) = (listener(&[v4()]), listener(&[v6()]));
    assert_eq!(pool(&v4, &kernel(&[V4]), false), ("UP", vec!["UP", "UP", "DOWN", "MAINT"]));
    assert_eq!(pool(&v6, &kernel(&[V6]), false), ("UP", vec!["UP", "UP", "DOWN", "MAINT", "UP"]));
    assert_eq!(pool(&v4, &kernel(&[V4]), true), ("UP", vec!["UP", "UP", "RESTARTING", "MAINT"]));
    // Neither the same VIP with another port nor another VIP counts.
    for other in [ELSEWHERE, V6, ""] {
        assert_eq!(pool(&v4, &kernel(&[other]), false), ("DOWN", vec!["DOWN", "DOWN", "DOWN", "MAINT"]), "{other}");
    }
    assert_eq!(pool(&v4, &kernel(&[ELSEWHERE, V4]), false).0, "UP");
}

#[test]
fn both_families_of_a_dual_stack_listener_count() {
    let half = |number, address, off| [member(number, address), disabled(off)];
    let dual = listener(&[
        group(4, "10.0.0.37", "udp", &half(1, "10.0.0.25 2222", 2)),
        group(6, VIP_V6, "udp", &half(3, "fd79:35e2:9963:0:f816:3eff:feca:b7bf 2222", 4)),
    ]);
    assert_eq!(dual.addresses.len(), 2);
    assert_eq!(pool(&dual, &kernel(&[V6, V4]), false), ("UP", vec!["UP", "MAINT", "UP", "MAINT"]));
    assert_eq!(pool(&dual, &kernel(&[V4]), false), ("UP", vec!["UP", "MAINT", "DOWN", "MAINT"]));
    // A family without a member of its own.
    let dual = listener(&[group(4, "10.0.0.37", "udp", &half(1, "10.0.0.25 2222", 2)), group(6, VIP_V6, "udp", &[])]);
    assert_eq!(pool(&dual, &kernel(&[V6, V4]), false), ("UP", vec!["UP", "MAINT"]));
}

#[test]
fn a_weight_of_nothing_drains_and_without_a_monitor_nothing_is_checked() {
    let drained = V4.replace("Masq    2", "Masq    0");
    let v4 = v4();
    assert_eq!(
        pool(&listener(std::slice::from_ref(&v4)), &kernel(&[&drained]), false).1,
        ["UP", "DRAIN", "DOWN", "MAINT"]
    );
    let unmonitored = listener(&[v4.replace("MISC_CHECK", "")]);
    assert_eq!(pool(&unmonitored, &kernel(&[&drained]), false).1, ["no check", "DRAIN", "DOWN", "MAINT"]);
    assert_eq!(pool(&unmonitored, &Table::new(), false), ("UP", vec!["no check", "no check", "no check", "MAINT"]));
}

#[test]
fn a_listener_without_a_usable_pool_says_nothing_of_one() {
    let none = Health { stats: None, pool: None };
    assert_eq!(judge(&listener(&[]), &kernel(&[V4]), None, false), none);
    let disabled = listener(&[v4().replace("# Configuration for Pool the-pool", "# Pool the-pool is disabled")]);
    assert_eq!(judge(&disabled, &kernel(&[V4]), None, false), none);
    let empty = listener(&[group(4, "10.0.0.37", "UDP", &[])]);
    assert_eq!(pool(&empty, &kernel(&[V4]), false), ("UP", vec![]));
    assert!(config::parse("# Listener listener is disabled \n\nnet_namespace amphora-haproxy\n").disabled);
}

#[test]
fn the_counters_of_all_its_vips_are_a_listeners() {
    let said = "IP Virtual Server version 1.2.1 (size=4096)\n\
                Prot LocalAddress:Port               Conns   InPkts  OutPkts  InBytes OutBytes\n  \
                -> RemoteAddress:Port\n\
                UDP  10.0.0.37:7777                      5     4264        5  6387472     7490\n  \
                -> 10.0.0.25:2222                      2     1706        2  2555588     2996\n\
                UDP  [fd79:35e2:9963:0:f816:3eff:fe6d:7a2a]:7777   1 1 1 123456789012 10\n\
                SCTP 10.0.0.37:7777                      7        7        7        7        7\n";
    let counters = table::counters(said);
    assert_eq!(counters.len(), 3);
    let active = V4.replace("Masq    3      0", "Masq    3      4");
    let stats = |configuration: &Configuration| judge(configuration, &kernel(&[&active]), Some(&counters), false).stats;
    let one = Stats { bout: 7490, bin: 6_387_472, scur: 4, stot: 5 };
    assert_eq!(stats(&listener(&[v4()])), Some(one));
    let both = Stats { bout: 7500, bin: 6_387_472 + 123_456_789_012, scur: 4, stot: 6 };
    assert_eq!(stats(&listener(&[v4(), v6()])), Some(both));
    // The same VIP and port of another protocol are another listener.
    let sctp = listener(&[v4().replace("protocol UDP", "protocol SCTP")]);
    assert_eq!(sctp.protocol, Some(Protocol::Sctp));
    assert_eq!(stats(&sctp), Some(Stats { bout: 7, bin: 7, scur: 0, stot: 7 }));
    assert_eq!(stats(&listener(&[])), Some(Stats::default()));
    assert_eq!(judge(&listener(&[v4()]), &Table::new(), None, false).stats, None, "not known is not nothing");
}

#[test]
fn a_configuration_newer_than_the_checker_is_not_in_effect_yet() {
    let directory = tempfile::tempdir().unwrap();
    let (base, id) = (directory.path(), LbId::new("123").unwrap());
    let file = |end: &str| base.join(format!("lvs/octavia-keepalivedlvs-123.{end}"));
    std::fs::create_dir(base.join("lvs")).unwrap();
    let write = |end: &str, age: u64| {
        std::fs::write(file(end), "1\n").unwrap();
        let then = SystemTime::now() - Duration::from_secs(age);
        std::fs::File::open(file(end)).unwrap().set_modified(then).unwrap();
    };
    write("conf", 100);
    assert!(is_restarting(base, &id), "there is no checker yet");
    write("check.pid", 99);
    assert!(!is_restarting(base, &id));
    write("conf", 98);
    assert!(is_restarting(base, &id));
    in_effect(base, &id);
    assert!(is_restarting(base, &id), "it has just been read");
    write("check.pid", 97);
    assert!(!is_restarting(base, &id));
}
