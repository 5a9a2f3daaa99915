//! The two names a link has, as values that cannot be wrong: the MAC by which the controller knows it, and the
//! interface name by which the kernel does.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Why a text is not the name of a link.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// Not six bytes in hexadecimal.
    #[error("not a MAC address: six pairs of hexadecimal digits, as in fa:16:3e:00:00:01")]
    Mac,
    /// Multicast, broadcast or all zero.
    #[error("{0} is no single interface's MAC address")]
    NotUnicast(String),
    /// Not what the kernel's `dev_valid_name` takes.
    #[error("not an interface name: 1 to 15 bytes without `/`, `:` or blanks, and not `.` or `..`")]
    IfName,
}

/// The MAC address of one interface: unicast, and not all zero. Its text is lower case with colons.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mac([u8; 6]);

impl Mac {
    /// From the bytes on the wire. Multicast (IEEE 802's group bit) and all zero are refused.
    pub fn new(bytes: [u8; 6]) -> Result<Self, Invalid> {
        if bytes[0] & 1 == 1 || bytes == [0; 6] {
            return Err(Invalid::NotUnicast(Self(bytes).to_string()));
        }
        Ok(Self(bytes))
    }

    /// The bytes on the wire.
    #[must_use]
    pub fn bytes(self) -> [u8; 6] {
        self.0
    }
}

impl FromStr for Mac {
    type Err = Invalid;

    /// Takes either case, and `:` or `-` between the pairs (but not both).
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let separator = if text.contains('-') { '-' } else { ':' };
        let mut bytes = [0; 6];
        let mut pairs = text.split(separator);
        for byte in &mut bytes {
            let pair = pairs.next().filter(|p| p.len() == 2 && p.bytes().all(|b| b.is_ascii_hexdigit()));
            *byte = u8::from_str_radix(pair.ok_or(Invalid::Mac)?, 16).map_err(|_| Invalid::Mac)?;
        }
        if pairs.next().is_some() { Err(Invalid::Mac) } else { Self::new(bytes) }
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, byte) in self.0.iter().enumerate() {
            write!(f, "{}{byte:02x}", if i == 0 { "" } else { ":" })?;
        }
        Ok(())
    }
}

/// A name the kernel would take for an interface (`dev_valid_name` in net/core/dev.c).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct IfName(String);

impl IfName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for IfName {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        // `%` is let through by the kernel's check, but a rename to `eth%d` would then pick a number by itself.
        let wrong = |b: u8| matches!(b, b'/' | b':' | b'%' | 0 | 0xa0) || b.is_ascii_whitespace() || b == 0x0b;
        let length = (1..=15).contains(&text.len());
        if length && !matches!(text, "." | "..") && !text.bytes().any(wrong) {
            Ok(Self(text.to_owned()))
        } else {
            Err(Invalid::IfName)
        }
    }
}

impl fmt::Display for IfName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// As in Display: both names stand in logs.
impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for IfName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl TryFrom<String> for Mac {
    type Error = Invalid;

    fn try_from(text: String) -> Result<Self, Invalid> {
        text.parse()
    }
}

impl From<Mac> for String {
    fn from(mac: Mac) -> Self {
        mac.to_string()
    }
}

impl TryFrom<String> for IfName {
    type Error = Invalid;

    fn try_from(text: String) -> Result<Self, Invalid> {
        text.parse()
    }
}

impl From<IfName> for String {
    fn from(name: IfName) -> Self {
        name.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mac_is_read_in_any_case_and_written_in_one() {
        for text in ["fa:16:3e:0a:bc:de", "FA:16:3E:0A:BC:DE", "fa-16-3E-0a-bC-de"] {
            assert_eq!(text.parse::<Mac>().unwrap().to_string(), "fa:16:3e:0a:bc:de");
        }
        for text in
            ["", "fa:16:3e:0a:bc", "fa:16:3e:0a:bc:de:00", "fa:16:3e:0a:bc:d", "fa:16:3e-0a:bc:de", "+a:16:3e:0a:bc:de"]
        {
            assert_eq!(text.parse::<Mac>().unwrap_err(), Invalid::Mac, "{text}");
        }
        for text in ["00:00:00:00:00:00", "ff:ff:ff:ff:ff:ff", "01:00:5e:00:00:01", "33:33:00:00:00:01"] {
            assert_eq!(text.parse::<Mac>().unwrap_err(), Invalid::NotUnicast(text.to_owned()));
        }
    }

    #[test]
    fn json_goes_through_the_same_checks() {
        assert_eq!(serde_json::from_str::<Mac>("\"FA:16:3E:00:00:01\"").unwrap().bytes(), [0xfa, 0x16, 0x3e, 0, 0, 1]);
        assert!(serde_json::from_str::<Mac>("\"ff:ff:ff:ff:ff:ff\"").is_err());
        assert_eq!(serde_json::to_string(&"eth1".parse::<IfName>().unwrap()).unwrap(), "\"eth1\"");
        assert!(serde_json::from_str::<IfName>("\"../eth1\"").is_err());
    }

    #[test]
    fn an_interface_name_is_what_the_kernel_takes() {
        for name in ["eth1", "a", "eth0.100", "fifteen-bytes-x", "..."] {
            assert_eq!(name.parse::<IfName>().unwrap().as_str(), name);
        }
        for name in ["", ".", "..", "sixteen-bytes-xx", "a/b", "a b", "a:b", "a\tb", "a\x0bb", "eth%d", "ethö\u{a0}"] {
            assert_eq!(name.parse::<IfName>(), Err(Invalid::IfName), "{name:?}");
        }
    }
}
