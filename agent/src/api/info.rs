//! `GET /` and `GET /1.0/info`.

use std::{
    collections::HashMap,
    process::Command,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use axum::{Json, extract::State};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{api::App, child};

/// The API version both ends agree on.
#[derive(Debug, Serialize, ToSchema)]
pub struct Discovery {
    /// `1.0`.
    api_version: &'static str,
}

/// Tell the API version. The controller asks this at the start of nearly every task.
#[utoipa::path(get, path = "/", operation_id = "version_discovery", tag = "Amphora API 1.0",
    responses((status = 200, body = Discovery)))]
pub async fn version_discovery() -> Json<Discovery> {
    Json(Discovery { api_version: "1.0" })
}

/// What is installed in this amphora.
#[derive(Debug, Serialize, ToSchema)]
pub struct Info {
    hostname: String,
    /// As the package manager prints it; starts with `MAJOR.MINOR`.
    haproxy_version: String,
    api_version: &'static str,
    keepalived_version: String,
    ipvsadm_version: String,
}

/// Tell host name and package versions.
#[utoipa::path(get, path = "/1.0/info", operation_id = "info", tag = "Amphora API 1.0",
    responses((status = 200, body = Info)))]
pub async fn info(State(app): State<App>) -> Json<Info> {
    Json(collect(&app).await)
}

/// The answer to that.
pub(super) async fn collect(app: &App) -> Info {
    let versions = app.versions.get().await;
    let of = |package: &str| versions.get(package).cloned().unwrap_or_default();
    let hostname = nix::unistd::gethostname().unwrap_or_default().to_string_lossy().into_owned();
    Info {
        hostname,
        haproxy_version: of("haproxy"),
        api_version: "1.0",
        keepalived_version: of("keepalived"),
        ipvsadm_version: of("ipvsadm"),
    }
}

const PACKAGES: [&str; 3] = ["haproxy", "keepalived", "ipvsadm"];
/// How long the package manager may take. The controller waits for a minute.
const PATIENCE: Duration = Duration::from_secs(10);

/// Package versions, asked of the package manager once per change of its database.
#[derive(Clone, Debug, Default)]
pub struct Versions(Arc<Mutex<Option<Known>>>);

/// Versions by package.
type Packages = HashMap<String, String>;

#[derive(Debug)]
struct Known {
    database: Option<SystemTime>,
    versions: Arc<Packages>,
}

impl Versions {
    /// The version of each package that is installed.
    pub async fn get(&self) -> Arc<Packages> {
        let this = self.clone();
        let versions = tokio::task::spawn_blocking(move || {
            let database = std::fs::metadata("/var/lib/dpkg/status").and_then(|m| m.modified()).ok();
            this.of(database, query)
        });
        versions.await.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
    }

    /// What is known of this database, or else what the `query` tells; where it fails, what was known last.
    fn of(&self, database: Option<SystemTime>, query: impl FnOnce() -> Option<Packages>) -> Arc<Packages> {
        let known = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = &*known()
            && known.database == database
        {
            return known.versions.clone();
        }
        let Some(versions) = query().map(Arc::new) else {
            return known().as_ref().map(|known| known.versions.clone()).unwrap_or_default();
        };
        *known() = Some(Known { database, versions: versions.clone() });
        versions
    }
}

/// `None` when it could not be asked, to be asked again. Blocks.
fn query() -> Option<Packages> {
    let mut command = Command::new("dpkg-query");
    command.args(["-W", "-f=${Package} ${Version}\n"]).args(PACKAGES);
    match child::run(&mut command, None, b"", PATIENCE) {
        // It exits 1 when any of them is not installed, and lists the others all the same.
        Ok(ended) if matches!(ended.status.code(), Some(0 | 1)) => Some(parse(&ended.text)),
        Ok(ended) => {
            tracing::warn!(status = %ended.status, text = ended.text.trim(), "dpkg-query does not tell package versions");
            None
        }
        Err(error) => {
            tracing::warn!(%error, "cannot ask dpkg-query for package versions");
            None
        }
    }
}

fn parse(lines: &str) -> Packages {
    // The controller reads `MAJOR.MINOR` from the front of haproxy's, so an epoch would mislead it.
    let version = |package: &str, v: &str| match v.split_once(':') {
        Some((_, rest)) if package == "haproxy" => rest.to_owned(),
        _ => v.to_owned(),
    };
    lines.lines().filter_map(|l| l.split_once(' ')).map(|(p, v)| (p.to_owned(), version(p, v))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_known_last_is_told_while_the_package_manager_does_not_answer() {
        let versions = Versions::default();
        assert!(versions.of(None, || None).is_empty());
        assert_eq!(versions.of(None, || Some(parse("haproxy 2.6\n")))["haproxy"], "2.6");
        let database = Some(SystemTime::now());
        assert_eq!(versions.of(database, || None)["haproxy"], "2.6");
        assert_eq!(versions.of(database, || Some(parse("haproxy 2.8\n")))["haproxy"], "2.8", "asked again");
        assert_eq!(versions.of(database, || panic!("known"))["haproxy"], "2.8");
    }

    #[test]
    fn versions_are_as_printed_but_for_an_epoch_of_haproxys() {
        let versions = parse("haproxy 1:2.6.12-1+deb12u2\nkeepalived 1:2.2.7-1+b2\nipvsadm \n");
        assert_eq!(versions["haproxy"], "2.6.12-1+deb12u2");
        assert_eq!(versions["keepalived"], "1:2.2.7-1+b2");
        assert_eq!(versions["ipvsadm"], "");
    }
}
