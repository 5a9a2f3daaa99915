//! Rules that choose a routing table by a packet's source.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnet::IpNet;
use rtnetlink::{
    packet_core::{NLM_F_CREATE, NLM_F_EXCL},
    packet_route::{
        AddressFamily, RouteNetlinkMessage,
        route::{RouteHeader, RouteProtocol},
        rule::{RuleAction, RuleAttribute, RuleFlags, RuleMessage},
    },
};

use crate::{Error, Kind, Network, OURS, Result, network::FAMILIES};

/// A rule as the kernel shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Sources it is for; none is all of the family.
    pub from: Option<IpNet>,
    /// IPv6, or IPv4.
    pub ipv6: bool,
    /// The table to look in.
    pub table: u32,
    /// The lower one is asked first.
    pub priority: u32,
    /// Carries our mark.
    pub ours: bool,
    /// Looks in the table for those sources, and nothing more: no other condition, no other action.
    pub plain: bool,
}

/// A rule to be added, or to be deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NewRule {
    /// Sources it is for; host bits are cut off.
    pub from: IpNet,
    /// The table to look in, not 0.
    pub table: u32,
    /// The lower one is asked first; 1 to 32765, before the kernel's rule for `main`.
    pub priority: u32,
}

impl fmt::Display for NewRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: from {} lookup {}", self.priority, self.from, self.table)
    }
}

impl Rule {
    /// Whether this is what `wanted` asks for, whoever owns it.
    #[must_use]
    pub fn is(&self, wanted: &NewRule) -> bool {
        self.plain
            && (self.from, self.table, self.priority) == (Some(wanted.from.trunc()), wanted.table, wanted.priority)
    }

    /// What would add it, or deletes it; none for a rule that is for all sources or is not [`Rule::plain`].
    #[must_use]
    pub fn to_new(&self) -> Option<NewRule> {
        let Self { table, priority, .. } = *self;
        self.from.filter(|_| self.plain).map(|from| NewRule { from, table, priority })
    }

    fn parse(message: &RuleMessage) -> Option<Self> {
        let header = &message.header;
        let (ipv6, any): (bool, IpAddr) = match header.family {
            AddressFamily::Inet => (false, Ipv4Addr::UNSPECIFIED.into()),
            AddressFamily::Inet6 => (true, Ipv6Addr::UNSPECIFIED.into()),
            _ => return None,
        };
        let mut rule = Self {
            from: IpNet::new(any, header.src_len).ok().filter(|net| net.prefix_len() > 0),
            ipv6,
            table: header.table.into(),
            priority: 0,
            ours: false,
            plain: header.action == RuleAction::ToTable
                && header.dst_len == 0
                && header.tos == 0
                && !header.flags.contains(RuleFlags::Invert),
        };
        for attribute in &message.attributes {
            match attribute {
                RuleAttribute::Source(ip) => rule.from = IpNet::new(*ip, header.src_len).ok(),
                RuleAttribute::Table(table) => rule.table = *table,
                RuleAttribute::Priority(priority) => rule.priority = *priority,
                RuleAttribute::Protocol(protocol) => rule.ours = u8::from(*protocol) == OURS,
                // Shown for every rule: the prefix length below which an answer is suppressed, all ones if none.
                RuleAttribute::SuppressPrefixLen(u32::MAX) => {}
                _ => rule.plain = false,
            }
        }
        Some(rule)
    }
}

impl NewRule {
    fn message(&self) -> RuleMessage {
        let from = self.from.trunc();
        let mut message = RuleMessage::default();
        message.header.family = if from.addr().is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
        message.header.src_len = from.prefix_len();
        message.header.table = u8::try_from(self.table).unwrap_or(RouteHeader::RT_TABLE_UNSPEC);
        message.header.action = RuleAction::ToTable;
        message.attributes.extend([
            RuleAttribute::Source(from.addr()),
            RuleAttribute::Table(self.table),
            RuleAttribute::Priority(self.priority),
            RuleAttribute::Protocol(RouteProtocol::Other(OURS)),
        ]);
        message
    }

    fn check(&self, operation: &'static str) -> Result<()> {
        let why = if self.table == 0 || !(1..=32765).contains(&self.priority) {
            "a rule has a table other than 0 and a priority from 1 to 32765"
        } else if self.from.prefix_len() == 0 {
            "a rule of ours is for some sources, not for all"
        } else {
            return Ok(());
        };
        Err(Error::new(operation, self, Kind::Invalid(why)))
    }
}

impl Network {
    /// All rules of both families.
    pub async fn rules(&self) -> Result<Vec<Rule>> {
        let mut all = Vec::new();
        for family in FAMILIES {
            let mut message = RuleMessage::default();
            message.header.family = family;
            for found in self.dump("list rules of", &RouteNetlinkMessage::GetRule(message)).await? {
                if let RouteNetlinkMessage::NewRule(message) = found {
                    all.extend(Rule::parse(&message));
                }
            }
        }
        Ok(all)
    }

    /// Adds a rule, marked as ours; `false` if the same is there, whoever put it there.
    pub async fn add_rule(&self, new: &NewRule) -> Result<bool> {
        let operation = "add rule";
        new.check(operation)?;
        if self.rules().await?.iter().any(|rule| rule.is(new)) {
            return Ok(false);
        }
        let message = RouteNetlinkMessage::NewRule(new.message());
        self.change(message, NLM_F_CREATE | NLM_F_EXCL).await.map_err(|refusal| refusal.of(operation, new))?;
        Ok(true)
    }

    /// Puts a rule of ours in the place of the same of somebody else; `false` if there is no such rule. Packets find one of
    /// the two at any time.
    pub async fn claim_rule(&self, rule: &NewRule) -> Result<bool> {
        let operation = "mark rule";
        rule.check(operation)?;
        let there: Vec<Rule> = self.rules().await?.into_iter().filter(|r| r.is(rule)).collect();
        let foreign = there.iter().filter(|r| !r.ours).count();
        if foreign == 0 {
            return Ok(false);
        }
        if foreign == there.len() {
            let message = RouteNetlinkMessage::NewRule(rule.message());
            self.change(message, NLM_F_CREATE | NLM_F_EXCL).await.map_err(|refusal| refusal.of(operation, rule))?;
        }
        // Of rules that differ only in their mark the kernel takes the first (`fib_rules_find`), and ours came last.
        let mut message = rule.message();
        message.attributes.retain(|a| !matches!(a, RuleAttribute::Protocol(_)));
        for _ in 0..foreign {
            let deleted = self.change(RouteNetlinkMessage::DelRule(message.clone()), 0).await;
            deleted.map_err(|refusal| refusal.of(operation, rule))?;
        }
        Ok(true)
    }

    /// Deletes a rule of ours, and its twins if it is there more than once; `false` if it is not there. Another owner's
    /// is [`Kind::NotOurs`].
    pub async fn delete_rule(&self, rule: &NewRule) -> Result<bool> {
        let operation = "delete rule";
        rule.check(operation)?;
        let there: Vec<Rule> = self.rules().await?.into_iter().filter(|r| r.is(rule)).collect();
        let ours = there.iter().filter(|r| r.ours).count();
        if ours == 0 && !there.is_empty() {
            return Err(Error::new(operation, rule, Kind::NotOurs));
        }
        let mut deleted = false;
        for _ in 0..ours {
            match self.change(RouteNetlinkMessage::DelRule(rule.message()), 0).await {
                Ok(()) => deleted = true,
                Err(refusal) if refusal.kind == Kind::Missing => break,
                Err(refusal) => return Err(refusal.of(operation, rule)),
            }
        }
        Ok(deleted)
    }
}
