//! What a new namespace lacks, where no unit prepares it.

use crate::support::Site;

#[test]
fn the_namespace_has_what_load_balancers_need_and_an_operators_tuning_stays() {
    let site = Site::new("network-sysctls");
    drop(site.start());
    let read =
        |key: &str| site.inside().run(["sysctl", "-n", key]).unwrap().split_whitespace().collect::<Vec<_>>().join(" ");
    for (key, value) in [
        ("net.ipv4.ip_forward", "1"),
        ("net.ipv6.conf.all.forwarding", "1"),
        ("net.ipv4.ip_nonlocal_bind", "1"),
        ("net.ipv6.ip_nonlocal_bind", "1"),
        ("net.ipv4.ping_group_range", "0 2147483647"),
        ("net.ipv4.ip_local_port_range", "1025 65534"),
        ("net.core.somaxconn", "65534"),
        ("net.ipv4.tcp_fin_timeout", "5"),
    ] {
        assert_eq!(read(key), value, "{key}");
    }
    // ... and the namespace of the management network forwards nothing.
    assert_eq!(site.amphora().node().run(["sysctl", "-n", "net.ipv4.ip_forward"]).unwrap(), "0\n");

    site.amphora().stop_agent().unwrap();
    site.inside().run(["sysctl", "-qw", "net.core.somaxconn=100", "net.ipv4.ip_forward=0"]).unwrap();
    drop(site.start());
    assert_eq!((read("net.core.somaxconn"), read("net.ipv4.ip_forward")), ("100".to_owned(), "1".to_owned()));
}
