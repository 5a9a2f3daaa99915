//! What a machine is, and must be again after a reboot without a call: its name, which NIC is which, addresses, rules,
//! routes and sysctls.

use lab::{Result, Vm};

use crate::evidence::COMMAND_TIME;
use crate::report::{Report, check};
use crate::site::{FAMILIES, member_mac};

const INSIDE: &str = "ip netns exec amphora-haproxy ";

/// Sysctls of the load balancers' namespace, in docs/operating.md's order: what they do not work without, what keeps a VIP
/// on `lo` silent, and of haproxy's tuning what tells that it is there.
const INSIDE_SYSCTLS: &[(&str, &str)] = &[
    ("net.ipv4.ip_forward", "1"),
    ("net.ipv6.conf.all.forwarding", "1"),
    ("net.ipv4.ip_nonlocal_bind", "1"),
    ("net.ipv6.ip_nonlocal_bind", "1"),
    ("net.ipv4.vs.conntrack", "1"),
    ("net.ipv4.vs.expire_nodest_conn", "1"),
    ("net.ipv4.conf.all.arp_ignore", "1"),
    ("net.ipv4.conf.all.arp_announce", "2"),
    ("net.core.somaxconn", "65534"),
    ("net.ipv4.ip_local_port_range", "1025\t65534"),
    ("net.ipv4.tcp_max_tw_buckets", "5800000"),
    ("net.ipv4.tcp_tw_reuse", "1"),
    ("net.ipv4.tcp_mtu_probing", "1"),
    ("net.ipv4.tcp_fin_timeout", "5"),
    ("net.ipv4.ping_group_range", "0\t2147483647"),
];

/// And of the whole machine. It forwards nothing between its NICs.
const SYSCTLS: &[(&str, &str)] = &[
    ("net.ipv4.ip_forward", "0"),
    ("net.ipv6.conf.all.forwarding", "0"),
    ("fs.file-max", "2600000"),
    ("fs.nr_open", "2600000"),
];

/// What is the same before and after: addresses without their lifetimes, by NIC and MAC, and every rule and route of ours.
fn state(vm: &mut Vm) -> Result<String> {
    let command = format!(
        "hostname; for family in -4 -6; do {INSIDE}ip $family -o addr show | awk '{{ print $2, $4 }}' | sort; \
         {INSIDE}ip $family rule; {INSIDE}ip $family route show table 1; {INSIDE}ip $family route show proto 79; done; \
         {INSIDE}ip -o link | sed -E 's/^[0-9]+: ([^:@]*).*link[^ ]* ([0-9a-f:]+).*/\\1 \\2/' | sort; \
         {INSIDE}nft list tables"
    );
    vm.shell().run(&command, COMMAND_TIME)
}

/// Looks at all of it once, and says which parts it must have; the state is to be compared with a later one.
pub(crate) fn look(report: &mut Report, vm: &mut Vm, vip: lab::Dual, index: usize) -> Result<String> {
    for (enter, sysctls) in [("", SYSCTLS), (INSIDE, INSIDE_SYSCTLS)] {
        let keys: Vec<_> = sysctls.iter().map(|(key, _)| *key).collect();
        let have = vm.shell().run(&format!("{enter}sysctl {}", keys.join(" ")), COMMAND_TIME)?;
        let want: Vec<_> = sysctls.iter().map(|(key, value)| format!("{key} = {value}")).collect();
        check(have.lines().eq(want.iter().map(String::as_str)), &format!("sysctls {want:?}"), have)?;
    }
    let state = state(vm)?;
    let mut wanted = vec![
        format!("amphora-{}", vm.id()),
        format!("eth1 {}", vm.frontend_mac()),
        format!("eth2 {}", member_mac(index)),
    ];
    for family in FAMILIES {
        let vip = vip.of(family);
        wanted.push(format!("lo {vip}/{}", if vip.is_ipv4() { 32 } else { 128 }));
        check(state.lines().any(|line| line.contains(&format!("from {vip} lookup 1"))), "a rule for the VIP", &state)?;
    }
    for line in wanted {
        check(state.lines().any(|have| have == line), &line, &state)?;
    }
    // The kernel has the NICs in the order in which they were plugged, and they are in the other one here.
    let slots = format!("for nic in eth1 eth2; do {INSIDE}readlink /sys/class/net/$nic/device; done");
    let slots = vm.shell().run(&slots, COMMAND_TIME)?;
    report.figure(&format!("{}: front-end and members' NIC are in", vm.name()), slots);
    Ok(state)
}
