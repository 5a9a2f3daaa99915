//! The proxy as a service, as in the stock image: started with the agent, and running on without it. Its unit is the one
//! shipped with the agent, or one that the agent writes where that is missing.

use std::time::Duration;

use crate::{
    programs,
    services::{
        Service, ServiceError, ServiceName, Services,
        systemd::{Shipped, shipped},
    },
};

fn service() -> Service {
    let command = vec![programs::own_path().display().to_string(), "prometheus-proxy".to_owned()];
    Service {
        // Another version's is another service, and takes the place of the one before.
        environment: [("AMPHORA_AGENT_VERSION".to_owned(), env!("CARGO_PKG_VERSION").to_owned())].into(),
        // It serves 16 connections, with one to haproxy each.
        limit_nofile: 1024,
        stop_timeout: Duration::from_secs(2),
        ..Service::new(ServiceName::prometheus_proxy(), "Metrics of a load balancer by Octavia's names", command)
    }
}

/// How soon it is tried again.
const AGAIN: Duration = Duration::from_secs(30);

/// Has it run, unless an operator has masked its unit. What the agent serves does not depend on it, so a failure is logged
/// only.
pub async fn keep_running(services: Services) {
    let (service, name) = (service(), ServiceName::prometheus_proxy());
    let written = services.installed().contains(&name);
    let shipped = if services.are_systemds() && !written { shipped(name.as_str()) } else { Shipped::Not };
    if shipped == Shipped::Masked {
        tracing::info!("prometheus-proxy.service is masked; tenants see no metrics");
        return;
    }
    let runs = async || -> Result<(), ServiceError> {
        let changed = shipped == Shipped::Not && services.install(&service).await?;
        if changed { services.restart(&name).await } else { services.start(&name).await }
    };
    let mut complained = false;
    while let Err(error) = runs().await {
        if !complained {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "prometheus-proxy does not run; tenants see no metrics; trying again");
        }
        complained = true;
        tokio::time::sleep(AGAIN).await;
    }
}
