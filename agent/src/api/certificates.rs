//! `PUT`, `GET` and `DELETE /1.0/loadbalancer/{lb_id}/certificates/{filename}`: what listeners and pools need
//! for their TLS.
//!
//! Bytes, not certificates: crt-lists, CA bundles and revocation lists come this way too, and before the load
//! balancer does. Who uses them (haproxy) judges them.

use std::{io, path::Path as FsPath, sync::Arc};

use axum::{
    Json,
    extract::{Path, State, rejection::PathRejection},
    http::{HeaderName, header::ETAG},
};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::{
    api::{
        App,
        body::Whole,
        digest::md5_hex,
        error::{ApiError, Fault, Status},
        loadbalancer::serves_by_haproxy,
        plug::Done,
    },
    crash,
    files::{Directory, Name},
    loadbalancers::LbId,
    ramfs,
};

/// The digest of a file.
#[derive(Debug, Serialize, ToSchema)]
pub struct Digest {
    /// Hexadecimal MD5; it tells files apart and protects nothing.
    md5sum: String,
}

/// Where such a file is.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub struct Segments {
    /// The load balancer's id.
    lb_id: String,
    /// A plain file name that ends in `.pem`.
    filename: String,
}

/// They may not be UTF-8.
type Names = Result<Path<Segments>, PathRejection>;
type Tagged<T> = ([(HeaderName, String); 1], Json<T>);

/// Store a file for a load balancer's TLS.
///
/// Replaces it whole. The load balancer need not exist yet.
#[utoipa::path(
    put, path = "/1.0/loadbalancer/{lb_id}/certificates/{filename}", operation_id = "upload_certificate",
    tag = "Amphora API 1.0",
    params(Segments),
    request_body(content = inline(Whole), content_type = "application/octet-stream"),
    responses(
        (status = 200, description = "Stored; the ETag is the body's MD5", body = Done),
        (status = 400, description = "Not a plain name, or the body is too large or late; nothing was changed",
            body = Fault),
        (status = 404, description = "This amphora is a distributor and has no load balancers", body = Fault),
        (status = 500, description = "It could not be stored; what was there is there", body = Fault),
        (status = 503, description = "It would have been stored on a disk, and `require_ramfs` is set", body = Fault),
    )
)]
pub async fn upload(State(app): State<App>, names: Names, Whole(body): Whole) -> Result<Tagged<Done>, ApiError> {
    let (lb, file) = parse(names)?;
    serves_by_haproxy(&app, lb.name().as_str())?;
    let digest = md5_hex(&body);
    let in_memory = app.require_ramfs;
    let on_disk = on_disk("store", &app, move |root| {
        if in_memory && let Some(why) = not_in_memory(root)? {
            return Ok(Err(format!("[distributor] require_ramfs: {}: {why}; mount a tmpfs there", root.display())));
        }
        store(root, &lb, &file, &body).map(Ok)
    });
    let refused = |why| ApiError::new(Status::Unavailable, "The certificate would be written to a disk", why);
    on_disk.await?.map_err(refused)?;
    crash::point("certificate: stored, not answered");
    Ok(([(ETAG, digest)], Json(Done { message: "OK", details: None })))
}

/// Tell the digest of such a file.
#[utoipa::path(
    get, path = "/1.0/loadbalancer/{lb_id}/certificates/{filename}", operation_id = "certificate_md5",
    tag = "Amphora API 1.0",
    params(Segments),
    responses(
        (status = 200, body = Digest),
        (status = 400, description = "Not a plain name", body = Fault),
        (status = 404, description = "No such file, or this amphora is a distributor and has no load balancers", body = Fault),
        (status = 500, description = "It could not be read", body = Fault),
    )
)]
pub async fn digest(State(app): State<App>, names: Names) -> Result<Tagged<Digest>, ApiError> {
    let (lb, file) = parse(names)?;
    serves_by_haproxy(&app, lb.name().as_str())?;
    let missing = format!("No certificate with filename: {file}");
    let contents = on_disk("read", &app, move |root| {
        let Some(root) = Directory::open(root)? else { return Ok(None) };
        root.inner(lb.name())?.map_or(Ok(None), |directory| directory.read(&file))
    });
    let contents = contents.await?.ok_or_else(|| ApiError::new(Status::NotFound, "Certificate Not Found", missing))?;
    let md5sum = md5_hex(&contents);
    Ok(([(ETAG, md5sum.clone())], Json(Digest { md5sum })))
}

/// Remove such a file.
#[utoipa::path(
    delete, path = "/1.0/loadbalancer/{lb_id}/certificates/{filename}", operation_id = "delete_certificate",
    tag = "Amphora API 1.0",
    params(Segments),
    responses(
        (status = 200, description = "Removed, or it was not there", body = Done),
        (status = 400, description = "Not a plain name", body = Fault),
        (status = 404, description = "This amphora is a distributor and has no load balancers", body = Fault),
        (status = 500, description = "It could not be removed", body = Fault),
    )
)]
pub async fn delete(State(app): State<App>, names: Names) -> Result<Json<Done>, ApiError> {
    let (lb, file) = parse(names)?;
    serves_by_haproxy(&app, lb.name().as_str())?;
    on_disk("remove", &app, move |root| {
        let Some(root) = Directory::open(root)? else { return Ok(()) };
        root.inner(lb.name())?.map_or(Ok(()), |directory| directory.remove(&file))
    })
    .await?;
    crash::point("certificate: removed, not answered");
    Ok(Json(Done { message: "OK", details: None }))
}

fn parse(names: Names) -> Result<(LbId, Name), ApiError> {
    let wrong = || ApiError::message(Status::BadRequest, "Filename has wrong format");
    // What does not decode to UTF-8 is no name of ours either.
    let Path(Segments { lb_id, filename }) = names.map_err(|_| wrong())?;
    let lb = LbId::new(&lb_id).ok_or_else(|| {
        let fix = "lb_id: at most 64 letters, digits, `-` and `_`, and none of the agent's own directories";
        ApiError::new(Status::BadRequest, "Invalid load balancer id", fix)
    })?;
    let file = Name::new(&filename).filter(|name| name.as_str().strip_suffix(".pem").is_some()).ok_or_else(wrong)?;
    Ok((lb, file))
}

/// Why keys under `root` would not stay in memory, a directory that is not there included: what is missing is a mount.
fn not_in_memory(root: &FsPath) -> io::Result<Option<String>> {
    match Directory::open(root)? {
        Some(directory) => ramfs::not_in_memory(directory),
        None => Ok(Some("it is not there".to_owned())),
    }
}

fn store(root: &FsPath, lb: &LbId, file: &Name, contents: &Bytes) -> io::Result<()> {
    Directory::open_or_make(root)?.inner_or_make(lb.name())?.replace(file, contents)
}

/// Works on `base_cert_dir` where waiting for a disk holds nobody up. Ends also when the client has gone.
async fn on_disk<T: Send + 'static>(
    doing: &str,
    app: &App,
    work: impl FnOnce(&FsPath) -> io::Result<T> + Send + 'static,
) -> Result<T, ApiError> {
    let paths = Arc::clone(&app.paths);
    let done = tokio::task::spawn_blocking(move || work(&paths.certs)).await;
    let done = done.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
    done.map_err(|e| ApiError::new(Status::Internal, format!("Cannot {doing} the certificate"), e.to_string()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn names(lb: &str, file: &str) -> Result<(LbId, Name), ApiError> {
        parse(Ok(Path(Segments { lb_id: lb.to_owned(), filename: file.to_owned() })))
    }

    /// Everything below a directory, links not followed.
    fn tree(directory: &FsPath) -> Vec<std::path::PathBuf> {
        let mut all = Vec::new();
        for entry in std::fs::read_dir(directory).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_dir() {
                all.extend(tree(&entry.path()));
            }
            all.push(entry.path());
        }
        all
    }

    #[test]
    fn a_file_name_is_plain_and_ends_in_pem() {
        for good in ["a.pem", "5d3b1c.pem", "client-ca_1.crl.pem"] {
            assert!(names("123", good).is_ok(), "{good}");
        }
        for bad in
            ["pem", ".pem", "a.PEM", "a.pem.sh", "../x.pem", "a/b.pem", "..pem", "a.pem\0", "\0.pem", "a.pem ", "ä.pem"]
        {
            let Err(ApiError::Fault(Status::BadRequest, fault)) = names("123", bad) else { panic!("{bad:?}") };
            assert_eq!(fault.message.as_deref(), Some("Filename has wrong format"), "{bad:?}");
        }
        assert!(names("..", "a.pem").is_err());
    }

    /// Whole names of any characters, and names put together from what tends to escape.
    fn segment() -> impl Strategy<Value = String> {
        let pieces = ["..", ".", "/", "\\", "\0", "a", ".pem", "%2e", "~", "\u{202e}", "ä", " ", "\n"];
        prop_oneof![
            any::<String>(),
            prop::collection::vec(prop::sample::select(pieces.to_vec()), 0..8).prop_map(|p| p.concat()),
            "[a-z0-9._/-]{0,300}",
            "[a-z0-9._-]{1,20}\\.pem",
        ]
    }

    proptest! {
        #[test]
        fn whatever_the_names_nothing_is_written_outside_the_load_balancers_directory(lb in segment(), file in segment()) {
            let outer = tempfile::tempdir().unwrap();
            let root = outer.path().join("base/certs");
            let written = match names(&lb, &file) {
                Ok((lb, file)) => store(&root, &lb, &file, &Bytes::from_static(b"key")).map(|()| true).unwrap(),
                Err(_) => false,
            };
            let tree = tree(outer.path());
            if written {
                let file = root.join(&lb).join(&file);
                let mut expected = vec![file.clone(), root.join(&lb), root.clone(), outer.path().join("base")];
                expected.sort();
                let mut tree = tree;
                tree.sort();
                prop_assert_eq!(tree, expected);
                prop_assert_eq!(file.parent().and_then(FsPath::parent), Some(root.as_path()));
            } else {
                prop_assert!(tree.is_empty());
            }
        }
    }
}
