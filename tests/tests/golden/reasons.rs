//! Why an answer may differ, kept by hand: docs/differences.md is written from it.

/// A reason and the cases it is the reason of.
#[derive(Debug)]
pub(crate) struct Reason {
    pub(crate) title: &'static str,
    pub(crate) why: &'static str,
    /// Names of cases; one that ends in `*` means all that start so.
    pub(crate) cases: &'static [&'static str],
}

impl Reason {
    pub(crate) fn covers(&self, case: &str) -> bool {
        self.cases.iter().any(|name| Self::matches(name, case))
    }

    pub(crate) fn matches(name: &str, case: &str) -> bool {
        name.strip_suffix('*').map_or(name == case, |start| case.starts_with(start))
    }
}

pub(crate) const REASONS: &[Reason] = &[
    Reason {
        title: "The words of 404 and 405",
        why: "Status, keys and content type are the same; the sentence is the web framework's there and our own here. The \
              controller logs it and decides by the status.",
        cases: &[
            "unknown: *",
            "wrong method: *",
            "another way to write it: /1.0/../1.0/info",
            "another way to write it: /1.0/./info",
            "another way to write it: /1.0/%2e%2e/1.0/info",
            "plug VIP: nothing in the address's place",
            "plug network: wrong method",
            "certificate named a.pem/b.pem",
            "digest of certificate named a.pem/b.pem",
        ],
    },
    Reason {
        title: "Calls the Python agent does not have",
        why: "Unplugging a VIP is one of the distributor calls; it answers 200 also where nothing was plugged.",
        cases: &["unplug: *"],
    },
    Reason {
        title: "One spelling of a path, and no redirect",
        why: "A path is compared as it was sent: no letter of ours needs an encoding, and what is encoded must not decide \
              which call is made. Empty segments are passed over wherever they stand, where the Python agent redirects with \
              308, which the controller would follow with a second request.",
        cases: &["info, a letter encoded", "another way to write it: /1.0//info"],
    },
    Reason {
        title: "A name stays one name",
        why: "An encoded slash does not make two segments of one: the name is refused, or not found, as the name it is.",
        cases: &[
            "haproxy configuration, name with a slash",
            "interface of a network",
            "plug VIP: 203.0.113.0%2f24 as address",
            "certificate named ..%2fa.pem",
            "digest of certificate named ..%2fa.pem",
            "certificate named %2e%2e%2fa.pem",
            "digest of certificate named %2e%2e%2fa.pem",
            "certificate of load balancer a%2fb",
        ],
    },
    Reason {
        title: "Names that lead elsewhere are refused",
        why: "The Python agent takes every file name that has `pem` after any letter, and any load balancer id: `..` writes \
              beside the directory of certificates. Here a file is a plain `NAME.pem` and an id has letters, digits, `-` and \
              `_`, as every id and name the controller makes.",
        cases: &[
            "certificate named a.pem.sh",
            "digest of certificate named a.pem.sh",
            "certificate named a%20b.pem",
            "digest of certificate named a%20b.pem",
            "certificate named %c3%a4.pem",
            "digest of certificate named %c3%a4.pem",
            "certificate named ..%5ca.pem",
            "digest of certificate named ..%5ca.pem",
            "certificate named a.pem%0a",
            "digest of certificate named a.pem%0a",
            "certificate of load balancer %2e%2e",
            "certificate of load balancer ..",
            "certificate of load balancer .",
            "certificate of load balancer %00",
            "certificate of load balancer %c3%a4",
            "haproxy: for load balancer `..`",
        ],
    },
    Reason {
        title: "OPTIONS has no content type",
        why: "There is no content.",
        cases: &["the API version, OPTIONS", "info, OPTIONS", "certificate's digest, OPTIONS"],
    },
    Reason {
        title: "What is not HTTP",
        why: "400 and no body, or another of the statuses the controller knows: 414, 417, 431 and 501 count as success there. \
              The method is a token by RFC 9110 whatever its case, so an unknown one is 405.",
        cases: &[
            "a URI that is no path",
            "HTTP/2.0 in words",
            "HTTP/9.9",
            "no version",
            "no HTTP at all",
            "a space in the path",
            "a field without a colon",
            "a field with a space before the colon",
            "a folded field",
            "500 fields",
            "a field of 70 kB",
            "a URI of 70 kB",
            "a negative length",
            "a length that is no number",
            "an unknown coding",
            "method in lower case",
        ],
    },
    Reason {
        title: "HTTP that is taken",
        why: "The request is unambiguous for this agent and no proxy is in front of it that could read it otherwise: the \
              Host is not looked at, a chunked body has no other length (RFC 9112, section 6.3), an expectation may be \
              passed over (RFC 9110, section 10.1.1).",
        cases: &["two Hosts", "length and chunks at once", "an unknown expectation"],
    },
    Reason {
        title: "Bodies are bytes",
        why: "The Python agent reads certificates back as UTF-8 and decodes configurations in pieces of 100 bytes, so that a \
              letter across a piece's end is a 500. Here a certificate is whatever was sent, and a configuration that is \
              not UTF-8 a 400.",
        cases: &[
            "certificate's digest, any bytes",
            "haproxy: no UTF-8",
            "haproxy: a letter cut by a hundred bytes",
            "haproxy configuration with letters",
        ],
    },
    Reason {
        title: "JSON is JSON whatever it is called",
        why: "The body decides, not its content type: the refusal or answer is that of the same body with the right one.",
        cases: &["plug VIP: no content type", "plug VIP: as text", "plug network: as text", "rules: as text"],
    },
    Reason {
        title: "A refusal names the field",
        why: "Status and first words are the same; which field is wrong is said beside them, or before the reason.",
        cases: &[
            "plug VIP: nothing",
            "plug VIP: any bytes",
            "plug VIP: empty",
            "plug VIP: no JSON",
            "plug VIP: half of it",
            "plug VIP: a list",
            "plug VIP: null",
            "plug VIP: a text",
            "plug VIP: no keys",
            "plug VIP: no subnet",
            "plug VIP: no gateway",
            "plug VIP: no MAC",
            "plug VIP: a subnet that is none",
            "plug VIP: a subnet with host bits",
            "plug VIP: a subnet that is null",
            "plug VIP: a front-end IP that is none",
            "plug VIP: an additional VIP that is none",
            "plug VIP: an additional VIP with a subnet that is none",
            "plug VIP: x as address",
            "plug VIP: 203.0.113.999 as address",
            "plug VIP: 2001:db8::g as address",
            "plug VIP: %20203.0.113.7 as address",
            "plug network: nothing",
            "plug network: no JSON",
            "plug network: a list",
            "plug network: no keys",
            "plug network: no MAC",
            "plug network: an address that is none",
            "rules: nothing",
            "rules: no JSON",
            "rules: no list",
            "rules: an unknown key",
            "rules: no port",
            "rules: no cidr",
            "rules: port 0",
            "rules: port 65536",
            "rules: a port in quotes",
            "rules: a protocol in lower case",
            "rules: an unknown protocol",
        ],
    },
    Reason {
        title: "Bad input is the caller's fault",
        why: "400 with the field, where the Python agent fails with 500, or says with 404 that a NIC is on its way: the \
              controller would try for ten minutes.",
        cases: &[
            "plug VIP: a MAC that is none",
            "plug VIP: a MAC that is a number",
            "plug VIP: a MAC that is null",
            "plug VIP: an additional VIP without its subnet",
            "plug VIP: additional VIPs that are no list",
            "plug network: a MAC that is null",
            "plug network: an address that is null",
            "plug network: an address without its subnet",
            "plug network: a subnet that is none",
            "plug network: fixed IPs that are no list",
        ],
    },
    Reason {
        title: "A NIC that is plugged is 409",
        why: "A MAC has no case, and a NIC that is inside is inside whatever else the body says: the controller takes 409 for \
              success, and nothing is changed.",
        cases: &["plug VIP: again, MAC in upper case", "plug VIP: again, a subnet that is none"],
    },
    Reason {
        title: "An address with a zone",
        why: "No VIP and no port has one, so it is refused rather than looked for.",
        cases: &["interface of an address with a zone"],
    },
    Reason {
        title: "Rules are read before they are taken",
        why: "The Python agent writes its file first and fails with 500 when nft reads it; so does every later call that \
              brings no rules, for the file stays. Here a network that is none is a 400 and changes nothing. `vrrp` is what \
              the controller writes; `VRRP` means the same.",
        cases: &["rules: a cidr that is none", "rules: none", "rules: VRRP in upper case"],
    },
    Reason {
        title: "An action of any bytes is not repeated",
        why: "It is no text, so there is none to show.",
        cases: &["no such action, any bytes"],
    },
    Reason {
        title: "Words of a configuration's or a service's refusal",
        why: "Status and message are the same; the details are those of the program that refused, which here is this agent.",
        cases: &["configuration: no INI", "VRRP: start before an upload", "VRRP: reload before an upload"],
    },
    Reason {
        title: "A keepalived configuration is read before it is taken",
        why: "The Python agent stores whatever it is sent, and the next start fails. Here keepalived is asked first, and what \
              it finds wrong with the text is a 400 with its words.",
        cases: &["VRRP: what keepalived refuses"],
    },
    Reason {
        title: "A certificate that is none is refused",
        why: "The Python agent writes over its own certificate whatever it is sent, and is out of reach from then on. Here \
              certificate and key are checked to be a pair first, and the old ones serve on.",
        cases: &["own certificate: none", "info after a certificate that is none"],
    },
];

/// What cannot be compared truthfully, and why.
pub(crate) const NOT_COMPARED: &[(&str, &str)] = &[
    (
        "start, stop and reload of UDP and SCTP listeners",
        "keepalived needs IPVS, which the kernel these tests run on may not have",
    ),
    (
        "a plug without a fixed address",
        "the Python agent starts `dhclient`, which is not installed where the tests run",
    ),
    (
        "a plug whose gateway, MTU or host routes are not what they should be, and one of the management NIC",
        "the Python agent moves the NIC first and fails then: what follows would not be comparable. This agent refuses \
         before it touches anything, which its own tests show",
    ),
    (
        "reload of a haproxy that has just crashed",
        "it is systemd that starts it again; `tests/tests/services` has the case",
    ),
    ("times, and what happens to other calls meanwhile", "`PEER=1 make bench`"),
];
