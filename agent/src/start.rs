//! From a configuration to a running agent.

use std::{io, net::SocketAddr, sync::Arc};

use axum::{Json, Router, routing::get};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::{
    config::{Config, Sources},
    server::{
        serve::{self, Limits},
        tls::{Reloader, TlsError},
    },
};

/// Why the agent did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No threads, or no signals.
    #[error("the runtime cannot start")]
    Runtime(#[source] io::Error),
    /// No TLS.
    #[error("the API cannot have its TLS")]
    Tls(#[from] TlsError),
    /// No socket.
    #[error("the API cannot listen on {0}")]
    Listen(SocketAddr, #[source] io::Error),
}

/// Serves until SIGTERM or SIGINT. SIGHUP reads the configuration again.
///
/// # Errors
/// What is missing to start.
pub fn run(config: Config, sources: Sources) -> Result<(), StartError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.map_err(StartError::Runtime)?.block_on(agent(config, sources))
}

async fn agent(config: Config, sources: Sources) -> Result<(), StartError> {
    let listen = |kind| signal(kind).map_err(StartError::Runtime);
    let (mut hangup, mut terminate, mut interrupt) =
        (listen(SignalKind::hangup())?, listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    config.warnings.iter().for_each(|warning| tracing::warn!(%warning, "configuration"));
    config.ignored.iter().for_each(|ignored| tracing::debug!(%ignored, "configuration"));
    let api = &config.api;
    let reloader = Arc::new(Reloader::new(&api.server_cert, &api.client_ca, api.minimum_tls)?);
    let listener = serve::listen(api.bind).map_err(|error| StartError::Listen(api.bind, error))?;
    let limits = Limits { body: api.request_read_timeout, ..Limits::default() };
    let router = Router::new().route("/", get(async || Json(serde_json::json!({"api_version": "1.0"}))));
    let stop = CancellationToken::new();
    let server = tokio::spawn(serve::serve(listener, reloader, router, limits, stop.clone()));
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => match Config::load(&sources) {
                Ok(_) => tracing::info!("configuration read again"),
                Err(problems) => problems.iter().for_each(|problem| tracing::error!(%problem, "the old configuration stays")),
            },
        }
    }
    stop.cancel();
    let _ = server.await; // its panic is reported by the hook
    Ok(())
}
