//! Mutual TLS, with files that may be replaced at any time.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject as _},
    },
    server::{NoServerSessionStorage, VerifierBuilderError, WebPkiClientVerifier, danger::ClientCertVerifier},
    version::{TLS12, TLS13},
};

use tokio_util::sync::CancellationToken;

use super::leaf::Leaf;
use crate::config::TlsVersion;

/// Why there is no TLS with these files.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{0}: cannot be read")]
    Read(PathBuf, #[source] io::Error),
    /// A file is not PEM.
    #[error("{0}: is not PEM")]
    Pem(PathBuf, #[source] pem::Error),
    /// The server's file lacks a certificate.
    #[error("{0}: holds no certificate; it needs the certificate (and chain) and the key")]
    NoCertificate(PathBuf),
    /// The server's file lacks a key.
    #[error("{0}: holds no private key; it needs the certificate (and chain) and the key")]
    NoKey(PathBuf, #[source] pem::Error),
    /// Certificate and key do not belong together, or are of a kind we cannot use.
    #[error("{0}: certificate and key are not usable together")]
    Identity(PathBuf, #[source] rustls::Error),
    /// No client would take the certificate from us.
    #[error("{0}: {1}")]
    Unusable(PathBuf, &'static str),
    /// The CA file has nothing to verify clients with.
    #[error("{0}: holds no usable CA certificate")]
    NoCa(PathBuf, #[source] VerifierBuilderError),
    /// The crypto provider lacks what TLS needs; a build error.
    #[error("the crypto provider is not usable")]
    Provider(#[source] rustls::Error),
}

/// Checks that a PEM text holds a certificate that can be served now and the key that belongs to it, before it replaces
/// `server.pem`; `path` is its name in errors.
///
/// # Errors
/// What is wrong with it.
pub fn check_identity(path: &Path, pem: &[u8]) -> Result<Leaf, TlsError> {
    let (chain, key) = identity(path, pem)?;
    let leaf = Leaf::new(&chain[0]); // `identity` has found one
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let identity = rustls::sign::CertifiedKey::from_der(chain, key, &provider);
    identity.map_err(|error| TlsError::Identity(path.to_owned(), error))?;
    match leaf.unusable(SystemTime::now()) {
        Some(why) => Err(TlsError::Unusable(path.to_owned(), why)),
        None => Ok(leaf),
    }
}

/// Checks that clients can be verified by a PEM text of CAs; what of it is worth a word.
///
/// # Errors
/// What is wrong with it.
pub fn check_clients_ca(path: &Path, pem: &[u8]) -> Result<Vec<String>, TlsError> {
    verifier(path, pem)?;
    let certificates = CertificateDer::pem_slice_iter(pem).filter_map(Result::ok); // `verifier` has read them
    let all: Vec<_> = certificates.map(|der| Leaf::new(&der)).collect();
    if !all.iter().any(Leaf::is_issuer) {
        let why = "holds no CA's certificate, but one that a CA has issued: no client's can come from it";
        return Err(TlsError::Unusable(path.to_owned(), why));
    }
    let (now, mut said) = (SystemTime::now(), Vec::new());
    for (number, certificate) in all.iter().enumerate() {
        let mut say = |what: &str| said.push(format!("{}: certificate {} {what}", path.display(), number + 1));
        if !certificate.is_issuer() {
            say("is no CA's: no client's can come from it");
        }
        if certificate.is_over(now) {
            say("has expired; put the CA's new one beside it");
        }
    }
    Ok(said)
}

fn verifier(path: &Path, pem: &[u8]) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    WebPkiClientVerifier::builder_with_provider(roots(path, pem)?.into(), provider)
        .build()
        .map_err(|error| TlsError::NoCa(path.to_owned(), error))
}

fn identity(path: &Path, pem: &[u8]) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TlsError> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let chain = chain.map_err(|error| TlsError::Pem(path.to_owned(), error))?;
    if chain.is_empty() {
        return Err(TlsError::NoCertificate(path.to_owned()));
    }
    let key = PrivateKeyDer::from_pem_slice(pem).map_err(|error| TlsError::NoKey(path.to_owned(), error))?;
    Ok((chain, key))
}

pub(super) fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|error| TlsError::Read(path.to_owned(), error))
}

fn roots(path: &Path, pem: &[u8]) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| TlsError::Pem(path.to_owned(), error))?;
        if let Err(error) = roots.add(certificate) {
            // One CA fewer makes us stricter, not weaker.
            tracing::warn!(file = %path.display(), %error, "a CA certificate is not usable and is left out");
        }
    }
    Ok(roots)
}

/// When the certificates in use end: the last second of validity, since 1970. `None` where it cannot be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Expiry {
    /// The server's.
    pub server: Option<u64>,
    /// Of the CAs clients are verified by, the one that ends first.
    pub client_ca: Option<u64>,
}

impl Expiry {
    fn of(server: &CertificateDer<'_>, ca: &[u8]) -> Self {
        let ends = |der: &CertificateDer<'_>| Leaf::new(der).not_after();
        let cas = CertificateDer::pem_slice_iter(ca).filter_map(Result::ok);
        Self { server: ends(server), client_ca: cas.filter_map(|der| ends(&der)).min() }
    }
}

/// What files come to: the configuration, the CA file's contents it stands on, and how long it is good for.
type Built = (Arc<ServerConfig>, Vec<u8>, Expiry);

fn build(cert: &Path, ca: &Path, minimum: TlsVersion) -> Result<Built, TlsError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let (chain, key) = identity(cert, &read(cert)?)?;
    let clients_ca = read(ca)?;
    let expiry = Expiry::of(&chain[0], &clients_ca); // `identity` has found one
    let clients = verifier(ca, &clients_ca)?;
    if let Some(why) = Leaf::new(&chain[0]).unusable(SystemTime::now()) {
        // Whether it is taken all the same is for the clients to say.
        tracing::warn!(file = %cert.display(), why, "clients may refuse the server certificate");
    }
    let versions = match minimum {
        TlsVersion::Tls12 => &[&TLS13, &TLS12][..],
        TlsVersion::Tls13 => &[&TLS13],
    };
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .map_err(TlsError::Provider)?
        .with_client_cert_verifier(clients)
        .with_single_cert(chain, key)
        .map_err(|error| TlsError::Identity(cert.to_owned(), error))?;
    // A resumed session would not be verified against a CA file replaced since, and the controller never resumes.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok((Arc::new(config), clients_ca, expiry))
}

/// What changes when a file is replaced or rewritten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Version {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Version {
    fn of(path: &Path) -> Option<Self> {
        let file = fs::metadata(path).ok()?;
        Some(Self {
            device: file.dev(),
            inode: file.ino(),
            size: file.size(),
            modified: (file.mtime(), file.mtime_nsec()),
            changed: (file.ctime(), file.ctime_nsec()),
        })
    }
}

/// The TLS configuration of the newest usable files.
#[derive(Debug)]
pub struct Reloader(Mutex<State>);

#[derive(Debug)]
struct State {
    cert: PathBuf,
    ca: PathBuf,
    minimum: TlsVersion,
    config: Arc<ServerConfig>,
    /// The contents of the CA file in use.
    clients_ca: Vec<u8>,
    expiry: Expiry,
    /// Ends with what clients are verified by.
    admitted: CancellationToken,
    /// The files last looked into, usable or not.
    seen: [Option<Version>; 2],
    /// The last attempt failed, and that has been said.
    failed: bool,
}

impl Reloader {
    /// Reads the files for the first time. `cert` holds the server's certificate chain and key, `ca` the CAs of the
    /// clients.
    ///
    /// # Errors
    /// Which file is not usable, and why.
    pub fn new(cert: &Path, ca: &Path, minimum: TlsVersion) -> Result<Self, TlsError> {
        let seen = [Version::of(cert), Version::of(ca)]; // before reading: a change while reading is seen next time
        let (config, clients_ca, expiry) = build(cert, ca, minimum)?;
        let (cert, ca, admitted) = (cert.to_owned(), ca.to_owned(), CancellationToken::new());
        Ok(Self(Mutex::new(State { cert, ca, minimum, config, clients_ca, expiry, admitted, seen, failed: false })))
    }

    /// Takes the files and the configuration of another, from the next connection on.
    pub fn become_other(&self, other: Self) {
        let mut state = self.lock();
        let old = std::mem::replace(&mut *state, other.0.into_inner().unwrap_or_else(PoisonError::into_inner));
        if (&old.clients_ca, old.minimum) == (&state.clients_ca, state.minimum) {
            state.admitted = old.admitted;
        } else {
            old.admitted.cancel();
        }
    }

    /// When the certificates in use end.
    #[must_use]
    pub fn expiry(&self) -> Expiry {
        let mut state = self.lock();
        state.look();
        state.expiry
    }

    /// Looks at the files now; whether they are others than those of the last look, and in use.
    #[must_use]
    pub fn refresh(&self) -> bool {
        let mut state = self.lock();
        let before = state.config.clone();
        state.look();
        !Arc::ptr_eq(&before, &state.config)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For the next connection, with a token that is cancelled when its client has to be verified anew: when the CAs of
    /// the clients, or the least version of TLS, are others. Looks at the files (two `stat` calls) and rebuilds when one
    /// has changed; when that fails the old configuration stays and the failure is logged once.
    #[must_use]
    pub fn current(&self) -> (Arc<ServerConfig>, CancellationToken) {
        let mut state = self.lock();
        state.look();
        (state.config.clone(), state.admitted.clone())
    }
}

impl State {
    fn look(&mut self) {
        let state = self;
        let seen = [Version::of(&state.cert), Version::of(&state.ca)];
        if state.seen == seen {
            return;
        }
        match build(&state.cert, &state.ca, state.minimum) {
            Ok((config, clients_ca, expiry)) => {
                tracing::info!("new certificates for the next connections");
                if state.clients_ca != clients_ca {
                    std::mem::take(&mut state.admitted).cancel();
                }
                (state.config, state.clients_ca, state.expiry) = (config, clients_ca, expiry);
                (state.seen, state.failed) = (seen, false);
            }
            Err(error) => {
                // What could not be read may be readable next time without having changed.
                let unread = matches!(error, TlsError::Read(..));
                if !unread {
                    state.seen = seen;
                }
                if !(unread && state.failed) {
                    let cause = std::error::Error::source(&error).map(ToString::to_string);
                    tracing::error!(%error, cause, "the certificates on disk are not usable; the old ones stay in use");
                }
                state.failed = true;
            }
        }
    }
}
