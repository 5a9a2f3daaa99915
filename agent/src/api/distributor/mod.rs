//! Everything under `/1.0/distributor/`: what is announced, for whom and to whom.

pub mod amphorae;
pub mod check;
pub mod decide;
pub mod drain;
mod notes;
pub mod own;
pub mod peers;
pub mod query;
pub mod route;
pub mod status;
pub mod vips;
pub mod why;

use std::collections::BTreeSet;

use axum::{
    http::StatusCode,
    response::{IntoResponse as _, Response},
};

use crate::{
    api::{
        App, WITHDRAWAL,
        error::{ApiError, Status},
    },
    crash,
    state::{Change, Desired, Registration},
};
pub use route::Route;

/// Without BGP every field of a registration would look wrong; say what is missing instead.
fn needs_bgp(app: &App) -> Result<(), ApiError> {
    if app.speaker.is_none() {
        let fix = "BGP is not configured on this amphora: add [bgp] and a [bgp_peer:NAME] and restart the agent";
        return Err(ApiError::new(Status::Conflict, "Nothing can be announced", fix));
    }
    Ok(())
}

/// Commits a registration and words the answer.
async fn register(app: &App, registration: Registration) -> Result<Route, ApiError> {
    let policy = app.policy.clone();
    let vip = registration.vip;
    let decide = {
        let registration = registration.clone();
        move |d: &Desired| decide::register(&registration, d, &policy)
    };
    let committed = app.owner.commit(decide).await?;
    crash::point("register: not answered");
    if committed.changes.is_empty()
        && let Some(route) = route::list(app, Some(vip.address()), |r| *r == registration).await.pop()
    {
        return Ok(route);
    }
    // What has just been changed is announced by nobody's word yet.
    Ok(app.progress.read(|report| Route::reported(&registration, report, &BTreeSet::new())))
}

/// Commits an unregistration; 200 when everything is withdrawn, 202 while something is not.
async fn unregister(app: &App, filter: decide::Filter) -> Result<Response, ApiError> {
    let decide = {
        let filter = filter.clone();
        move |d: &Desired| decide::unregister(&filter, d)
    };
    let committed = app.owner.commit(decide).await?;
    let gone: Vec<_> = committed
        .changes
        .iter()
        .filter_map(|c| if let Change::Unregister(vip) = c { Some(*vip) } else { None })
        // An earlier call's, that are not withdrawn yet.
        .chain(
            app.owner.shared().leaving(|l| l.values().filter(|r| filter.matches(r)).map(|r| r.vip).collect::<Vec<_>>()),
        )
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect();
    let withdrawn = tokio::time::timeout(WITHDRAWAL, withdrawn(app, &gone)).await.unwrap_or(false);
    crash::point("unregister: not answered");
    let body = route::Unregistered::new(gone.len(), withdrawn);
    let status = if withdrawn { StatusCode::OK } else { StatusCode::ACCEPTED };
    Ok((status, axum::Json(body)).into_response())
}

/// Waits until none of `gone` is announced any more; false when the speaker cannot be asked.
async fn withdrawn(app: &App, gone: &[bgp::Prefix]) -> bool {
    let mut passes = app.progress.passes();
    loop {
        if !app.owner.shared().leaving(|l| gone.iter().any(|v| l.contains_key(v))) {
            return true;
        }
        if app.speaker.is_some() && app.progress.read(|r| r.speaker.is_some()) || passes.changed().await.is_err() {
            return false;
        }
    }
}
