//! Security group rules of an SR-IOV VIP, with the real nft.

use crate::case::{Case, ask, json, request};

const RULES: &str = "/1.0/interface/{vip4}/rules";

pub(crate) fn cases() -> Vec<Case> {
    let good = r#"[{"protocol":"TCP","cidr":"192.0.2.0/24","port":80},{"protocol":"UDP","cidr":null,"port":53},
        {"protocol":"SCTP","cidr":"2001:db8::/32","port":5000},{"protocol":"vrrp","cidr":null,"port":112}]"#;
    let mut cases = vec![
        json("rules: of an unknown address", "PUT", "/1.0/interface/203.0.113.99/rules", good),
        json("rules: of what is no address", "PUT", "/1.0/interface/eth1/rules", good),
        ask("rules: nothing", "PUT", RULES),
        request("rules: as text", "PUT", RULES, "Content-Type: text/plain\r\n", "[]"),
    ];
    for (name, body) in [
        ("no JSON", "rules"),
        ("no list", "{}"),
        ("an unknown key", r#"[{"protocol":"TCP","cidr":null,"port":80,"a":1}]"#),
        ("no port", r#"[{"protocol":"TCP","cidr":null}]"#),
        ("no cidr", r#"[{"protocol":"TCP","port":80}]"#),
        ("port 0", r#"[{"protocol":"TCP","cidr":null,"port":0}]"#),
        ("port 65536", r#"[{"protocol":"TCP","cidr":null,"port":65536}]"#),
        ("a port in quotes", r#"[{"protocol":"TCP","cidr":null,"port":"80"}]"#),
        ("a protocol in lower case", r#"[{"protocol":"tcp","cidr":null,"port":80}]"#),
        ("an unknown protocol", r#"[{"protocol":"ICMP","cidr":null,"port":80}]"#),
    ] {
        cases.push(json(&format!("rules: {name}"), "PUT", RULES, body));
    }
    cases.extend([
        json("rules", "PUT", RULES, good),
        json("rules again", "PUT", RULES, good),
        json("rules: a cidr that is none", "PUT", RULES, r#"[{"protocol":"TCP","cidr":"x","port":80}]"#),
        json("rules: VRRP in upper case", "PUT", RULES, &good.replace("vrrp", "VRRP")),
        json("rules: none", "PUT", RULES, "[]"),
    ]);
    cases
}
