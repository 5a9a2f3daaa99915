//! Taking over what a Python agent has put into the kernel.
//!
//! It marks nothing as its own, so what it left would be anybody's: never replaced by another gateway, never taken away
//! with the VIP. What is exactly as its files say is marked as ours, where it is.

use netns::Error;

use super::{Kernel, step::rule};
use crate::plan::Want;

impl Kernel {
    /// Marks what is there of `want` as ours. What is not there yet, or is otherwise, is left to the first pass.
    pub async fn claim(&self, want: &Want) {
        for address in &want.addresses {
            if let Ok(new) = self.address(address).await {
                told(self.inside.claim_address(&new).await);
            }
        }
        for (key, path) in want.routes.iter().chain(&want.host_routes) {
            if let Ok(new) = self.route(key, path).await {
                told(self.inside.claim_route(&new).await);
            }
        }
        for from in &want.rules {
            told(self.inside.claim_rule(&rule(*from)).await);
        }
    }
}

/// Serving does not depend on it.
fn told(claimed: Result<bool, Error>) {
    if let Err(error) = claimed {
        tracing::warn!(error = &error as &dyn std::error::Error, "left as another agent's");
    }
}
