//! One interface's file, as Octavia's `interface_file.py` writes and reads it.

use serde::{Deserialize, Serialize};

/// What an interface is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// The VIP's.
    Vip,
    /// A member network's.
    Backend,
    /// `lo`.
    Lo,
    /// Something of a later release.
    #[serde(other)]
    Other,
}

/// An interface, its keys in upstream's order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub if_type: Kind,
    /// Its addresses.
    #[serde(default)]
    pub addresses: Vec<Address>,
    /// The routes out of it.
    #[serde(default)]
    pub routes: Vec<Route>,
    /// The rules that belong to its VIPs.
    #[serde(default)]
    pub rules: Vec<Rule>,
    /// What is run besides.
    #[serde(default)]
    pub scripts: Scripts,
    /// It is a virtual function.
    #[serde(default)]
    pub is_sriov: bool,
    /// Its MTU in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
}

/// An address, or a way to get one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    /// The address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Its prefix length in bits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefixlen: Option<u8>,
    /// Whether the interface's file is what puts it there: not for a VIP that keepalived, or this agent, looks after.
    /// Only VIPs have the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub octavia_owned: Option<bool>,
    /// By DHCP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dhcp: Option<bool>,
    /// By router advertisements.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6auto: Option<bool>,
}

/// A route, in pyroute2's words.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Where to.
    pub dst: String,
    /// Through whom.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<String>,
    /// `onlink`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flags: Option<Vec<String>>,
    /// The source to prefer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefsrc: Option<String>,
    /// `link`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// The table; `main` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<u32>,
}

/// A rule by source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// The source.
    pub src: String,
    /// Its prefix length in bits.
    pub src_len: u8,
    /// The table to look into.
    pub table: u32,
}

/// What is run when the interface goes up or down.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scripts {
    /// After it is up.
    #[serde(default)]
    pub up: Vec<Script>,
    /// After it is down.
    #[serde(default)]
    pub down: Vec<Script>,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Script {
    /// A command and its arguments with blanks between; no shell.
    pub command: String,
}

impl Interface {
    /// The file's text.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("strings and numbers")
    }

    /// Reads one.
    pub fn from_json(text: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(text)
    }
}
