//! IPv6 addresses of ours that somebody else on the link has too (RFC 4862, section 5.4).
//!
//! That may well pass: while an amphora is replaced, the one before it can still have the VIP. So such an address is
//! taken away and added again now and then, which has the kernel look again.

use std::{
    net::IpAddr,
    sync::PoisonError,
    time::{Duration, Instant},
};

use netns::{Error, Mac, NewAddress};

use super::Kernel;
use crate::plan::Address;

/// How long one is left alone: a little less than the converging task sleeps at most.
const AGAIN: Duration = Duration::from_secs(25);

/// How far duplicate address detection has come.
pub(super) enum Detection {
    Running,
    Failed,
    Over,
}

impl Kernel {
    pub(super) async fn detection(&self, nic: Mac, ip: IpAddr) -> Result<Detection, Error> {
        let index = self.index(nic).await?;
        let all = self.inside.addresses().await?;
        Ok(match all.iter().find(|a| a.index == index && a.ip == ip) {
            Some(a) if a.dad_failed => Detection::Failed,
            Some(a) if a.tentative => Detection::Running,
            _ => Detection::Over,
        })
    }

    /// Whether an address can be added: not when it is there and a duplicate, unless it is time to look again. Then it is
    /// taken away first.
    pub(super) async fn may_detect_again(&self, address: &Address, new: &NewAddress) -> Result<bool, Error> {
        let all = self.inside.addresses().await?;
        if !all.iter().any(|a| a.is(new) && a.ours && a.dad_failed) {
            return Ok(true);
        }
        {
            let mut duplicates = self.duplicates.lock().unwrap_or_else(PoisonError::into_inner);
            match duplicates.get(address) {
                Some(last) if last.elapsed() < AGAIN => return Ok(false),
                Some(_) => {}
                None => {
                    let ip = address.ip;
                    tracing::warn!(%ip, "somebody else on the link has this address; it is tried again now and then");
                    duplicates.insert(*address, Instant::now());
                    return Ok(false);
                }
            }
            duplicates.insert(*address, Instant::now());
        }
        self.inside.delete_address(new.index, new.ip, new.prefix_len).await?;
        Ok(true)
    }
}
