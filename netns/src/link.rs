//! Links: found by MAC, moved between namespaces, renamed, brought up.

use std::os::fd::AsRawFd as _;

use rtnetlink::packet_route::{
    RouteNetlinkMessage,
    link::{LinkAttribute, LinkFlags, LinkInfo, LinkMessage},
};

use crate::{Error, IfName, Kind, Mac, Namespace, Network, Result};

/// A network interface as the kernel shows it.
#[expect(clippy::struct_excessive_bools, reason = "they are the kernel's flags")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The interface index, good within its namespace.
    pub index: u32,
    /// The interface name.
    pub name: String,
    /// The MAC address, if it has a unicast one; `lo` has none.
    pub mac: Option<Mac>,
    /// Largest packet, in bytes.
    pub mtu: u32,
    /// Administratively up (`IFF_UP`).
    pub up: bool,
    /// Up, with a carrier (`IFF_LOWER_UP`).
    pub carrier: bool,
    /// Frames can leave by it (`IFF_RUNNING`): it is up, has a carrier, and the kernel has noticed.
    pub running: bool,
    /// The namespace's `lo`.
    pub loopback: bool,
    /// What kind of virtual link it is (`veth`, `bridge`, `vlan`); a device with a driver of its own has none.
    pub kind: Option<String>,
    /// The bridge or bond it is a port of.
    pub controller: Option<u32>,
}

impl Link {
    fn parse(message: &LinkMessage) -> Self {
        let flags = message.header.flags;
        let mut link = Self {
            index: message.header.index,
            name: String::new(),
            mac: None,
            mtu: 0,
            up: flags.contains(LinkFlags::Up),
            carrier: flags.contains(LinkFlags::LowerUp),
            running: flags.contains(LinkFlags::Running),
            loopback: flags.contains(LinkFlags::Loopback),
            kind: None,
            controller: None,
        };
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name.clone_from(name),
                LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
                LinkAttribute::Controller(index) => link.controller = Some(*index),
                LinkAttribute::Address(bytes) => {
                    link.mac = <[u8; 6]>::try_from(bytes.as_slice()).ok().and_then(|b| Mac::new(b).ok());
                }
                LinkAttribute::LinkInfo(infos) => {
                    link.kind = infos.iter().find_map(|info| match info {
                        LinkInfo::Kind(kind) => Some(kind.to_string()),
                        _ => None,
                    });
                }
                _ => {}
            }
        }
        link
    }
}

/// What a link has carried since it was made, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Received.
    pub rx_bytes: u64,
    /// Sent.
    pub tx_bytes: u64,
}

impl Network {
    /// The traffic of each link, by name.
    pub async fn traffic(&self) -> Result<Vec<(String, Traffic)>> {
        let list = self.dump("list links of", &RouteNetlinkMessage::GetLink(LinkMessage::default())).await?;
        let of = |message: &LinkMessage| {
            let counted = message.attributes.iter().find_map(|attribute| match attribute {
                LinkAttribute::Stats64(s) => Some(Traffic { rx_bytes: s.rx_bytes, tx_bytes: s.tx_bytes }),
                _ => None,
            });
            (Link::parse(message).name, counted.unwrap_or_default())
        };
        Ok(list
            .iter()
            .filter_map(|m| if let RouteNetlinkMessage::NewLink(m) = m { Some(of(m)) } else { None })
            .collect())
    }

    /// All links, `lo` included.
    pub async fn links(&self) -> Result<Vec<Link>> {
        let list = self.dump("list links of", &RouteNetlinkMessage::GetLink(LinkMessage::default())).await?;
        Ok(list
            .iter()
            .filter_map(|m| if let RouteNetlinkMessage::NewLink(m) = m { Some(Link::parse(m)) } else { None })
            .collect())
    }

    /// `lo`, whatever its name.
    ///
    /// # Errors
    /// As [`Network::links`].
    pub async fn loopback(&self) -> Result<Option<Link>> {
        Ok(self.links().await?.into_iter().find(|link| link.loopback))
    }

    /// The link with this MAC.
    ///
    /// A bridge, bond or VLAN on a device carries the device's MAC as well: of several the one device with a driver of
    /// its own is meant, and if that does not single one out, it is [`Kind::Ambiguous`].
    pub async fn link_by_mac(&self, mac: &Mac) -> Result<Option<Link>> {
        let mut found: Vec<Link> =
            self.links().await?.into_iter().filter(|link| link.mac.as_ref() == Some(mac)).collect();
        if found.len() > 1 && found.iter().filter(|link| link.kind.is_none()).count() == 1 {
            found.retain(|link| link.kind.is_none());
        }
        if found.len() > 1 {
            let names = found.into_iter().map(|link| link.name).collect();
            return Err(Error::new("find link", mac, Kind::Ambiguous(names)));
        }
        Ok(found.pop())
    }

    /// The link of this name; alternative names do not count.
    pub async fn link_by_name(&self, name: &IfName) -> Result<Option<Link>> {
        Ok(self.links().await?.into_iter().find(|link| link.name == name.as_str()))
    }

    /// Moves a link of this namespace into another, under a new name if one is given; `false` if it is there by now.
    ///
    /// It arrives down, with its MAC and MTU, and without addresses and routes. If the name is taken there, nothing is
    /// moved ([`Kind::Exists`]). Can be repeated after a crash: a link that is no longer here is looked for there by its
    /// MAC, and renamed if need be.
    pub async fn move_link(&self, link: &Link, into: &Namespace, name: Option<&IfName>) -> Result<bool> {
        let object = format!("{} into namespace {}", link.name, into.label());
        let fail = |kind| Error::new("move link", &object, kind);
        let there = into.network()?;
        let here = self.links().await?.into_iter().find(|l| l.index == link.index && l.mac == link.mac);
        if self.namespace() == into || here.is_none() {
            let mac = link.mac.ok_or_else(|| fail(Kind::NoDevice))?;
            let arrived = there.link_by_mac(&mac).await?.ok_or_else(|| fail(Kind::NoDevice))?;
            if let Some(name) = name {
                there.rename(arrived.index, name).await?;
            }
            return Ok(false);
        }
        // The kernel moves first and renames afterwards, so a taken name would leave the work half done.
        let target = name.map_or(link.name.as_str(), IfName::as_str);
        if there.links().await?.iter().any(|l| l.name == target) {
            return Err(fail(Kind::Exists));
        }
        let mut message = LinkMessage::default();
        message.header.index = link.index;
        message.attributes.push(LinkAttribute::NetNsFd(into.file().as_raw_fd()));
        message.attributes.push(LinkAttribute::IfName(target.to_owned()));
        self.change(RouteNetlinkMessage::SetLink(message), 0)
            .await
            .map_err(|refusal| refusal.of("move link", &object))?;
        Ok(true)
    }

    /// Gives a link another name; `false` if it has it already.
    ///
    /// A link that is up can be renamed since Linux 6.2. Before, the answer is [`Kind::Busy`]; taking it down instead
    /// would cost its routes and IPv6 addresses, so that is left to the caller.
    pub async fn rename(&self, index: u32, name: &IfName) -> Result<bool> {
        let operation = "rename link";
        if self.link(operation, index).await?.name == name.as_str() {
            return Ok(false);
        }
        self.set(operation, index, Some(LinkAttribute::IfName(name.as_str().to_owned())), None).await
    }

    /// Brings a link up; `false` if it is.
    pub async fn set_up(&self, index: u32) -> Result<bool> {
        let operation = "bring up link";
        Ok(!self.link(operation, index).await?.up && self.set(operation, index, None, Some(true)).await?)
    }

    /// Takes a link down; `false` if it is. Its routes and its IPv6 addresses are gone with that.
    pub async fn set_down(&self, index: u32) -> Result<bool> {
        let operation = "take down link";
        Ok(self.link(operation, index).await?.up && self.set(operation, index, None, Some(false)).await?)
    }

    /// Sets a link's MTU in bytes; `false` if it has it already.
    pub async fn set_mtu(&self, index: u32, mtu: u32) -> Result<bool> {
        let operation = "set the MTU of link";
        Ok(self.link(operation, index).await?.mtu != mtu
            && self.set(operation, index, Some(LinkAttribute::Mtu(mtu)), None).await?)
    }

    async fn link(&self, operation: &'static str, index: u32) -> Result<Link> {
        let found = self.links().await?.into_iter().find(|link| link.index == index);
        found.ok_or_else(|| Error::new(operation, index, Kind::NoDevice))
    }

    async fn set(
        &self,
        operation: &'static str,
        index: u32,
        attribute: Option<LinkAttribute>,
        up: Option<bool>,
    ) -> Result<bool> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.attributes.extend(attribute);
        if let Some(up) = up {
            message.header.change_mask = LinkFlags::Up;
            message.header.flags = if up { LinkFlags::Up } else { LinkFlags::empty() };
        }
        self.change(RouteNetlinkMessage::SetLink(message), 0).await.map_err(|refusal| refusal.of(operation, index))?;
        Ok(true)
    }
}
