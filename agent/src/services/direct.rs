//! Services as processes of our own, where no systemd runs.

use tokio::sync::broadcast;

use super::{Service, ServiceError, ServiceName, Status, jobs::Kind};

/// The direct backend.
#[derive(Clone, Debug)]
pub struct Direct {
    events: broadcast::Sender<ServiceName>,
}

impl Direct {
    #[expect(clippy::unused_async, reason = "the work comes with the next commit")]
    pub(super) async fn install(&self, service: &Service) -> Result<bool, ServiceError> {
        Err(ServiceError::Unknown(service.name.clone()))
    }

    #[expect(clippy::unused_async, reason = "the work comes with the next commit")]
    pub(super) async fn job(&self, name: &ServiceName, _kind: Kind) -> Result<(), ServiceError> {
        Err(ServiceError::Unknown(name.clone()))
    }

    #[expect(clippy::unused_async, reason = "the work comes with the next commit")]
    pub(super) async fn status(&self, name: &ServiceName) -> Result<Status, ServiceError> {
        Err(ServiceError::Unknown(name.clone()))
    }

    pub(super) fn events(&self) -> broadcast::Receiver<ServiceName> {
        self.events.subscribe()
    }
}
