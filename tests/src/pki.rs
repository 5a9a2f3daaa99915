//! Certificates of the lab: Octavia's two roles (amphora agents as servers, the controller as client) from one CA, and a
//! stranger from another.

use std::net::IpAddr;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};

use crate::error::{Error, Result};

/// A certificate with its key, both PEM.
#[derive(Clone)]
pub struct Identity {
    /// The certificate.
    pub certificate: String,
    /// Its private key.
    pub key: String,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

/// The lab's certificates.
#[derive(Debug)]
pub struct Pki {
    ca: CertifiedIssuer<'static, KeyPair>,
    controller: Identity,
    stranger: Identity,
}

impl Pki {
    /// Makes new ones.
    pub fn new() -> Result<Self> {
        let ca = authority("lab CA")?;
        let other = authority("another CA")?;
        let controller = issue(&ca, "controller", Vec::new(), ExtendedKeyUsagePurpose::ClientAuth)?;
        let stranger = issue(&other, "stranger", Vec::new(), ExtendedKeyUsagePurpose::ClientAuth)?;
        Ok(Self { ca, controller, stranger })
    }

    /// The CA's certificate, PEM: what agents and controller trust.
    #[must_use]
    pub fn ca(&self) -> String {
        self.ca.pem()
    }

    /// The CA's private key, PEM: what the controller issues the amphorae's certificates with.
    #[must_use]
    pub fn ca_key(&self) -> String {
        self.ca.key().serialize_pem()
    }

    /// The controller's client certificate.
    #[must_use]
    pub fn controller(&self) -> &Identity {
        &self.controller
    }

    /// A client certificate no agent trusts.
    #[must_use]
    pub fn stranger(&self) -> &Identity {
        &self.stranger
    }

    /// Another client certificate of the lab's CA, after `adjust` has changed what a good one would say.
    pub fn client_identity(&self, adjust: impl FnOnce(&mut CertificateParams)) -> Result<Identity> {
        issue_adjusted(&self.ca, "client", Vec::new(), ExtendedKeyUsagePurpose::ClientAuth, adjust)
    }

    /// A client certificate that no CA has signed.
    pub fn self_signed() -> Result<Identity> {
        let make = || {
            let key = KeyPair::generate()?;
            let certificate = CertificateParams::new(Vec::new())?.self_signed(&key)?;
            Ok(Identity { certificate: certificate.pem(), key: key.serialize_pem() })
        };
        make().map_err(|error: rcgen::Error| unusable(&error))
    }

    /// A server certificate as the controller issues it: for the amphora id, here also for its addresses.
    pub fn server(&self, amphora_id: &str, addresses: &[IpAddr]) -> Result<Identity> {
        let names = std::iter::once(amphora_id.to_owned()).chain(addresses.iter().map(ToString::to_string)).collect();
        issue(&self.ca, amphora_id, names, ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// A TLS client that trusts the lab's CA and shows `identity`, if any.
    pub fn client(&self, identity: Option<&Identity>) -> Result<Arc<ClientConfig>> {
        self.client_of(identity, rustls::DEFAULT_VERSIONS)
    }

    /// The same that speaks only these versions of TLS.
    pub fn client_of(
        &self,
        identity: Option<&Identity>,
        versions: &[&'static SupportedProtocolVersion],
    ) -> Result<Arc<ClientConfig>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.ca.der().clone()).map_err(|error| unusable(&error))?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .map_err(|error| unusable(&error))?
            .with_root_certificates(roots);
        let config = match identity {
            None => config.with_no_client_auth(),
            Some(identity) => {
                let chain = CertificateDer::from_pem_slice(identity.certificate.as_bytes());
                let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes());
                let chain = vec![chain.map_err(|error| unusable(&error))?];
                config
                    .with_client_auth_cert(chain, key.map_err(|error| unusable(&error))?)
                    .map_err(|error| unusable(&error))?
            }
        };
        Ok(Arc::new(config))
    }
}

fn authority(name: &str) -> Result<CertifiedIssuer<'static, KeyPair>> {
    let make = || {
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        CertifiedIssuer::self_signed(params, KeyPair::generate()?)
    };
    make().map_err(|error: rcgen::Error| unusable(&error))
}

fn issue(
    ca: &CertifiedIssuer<'static, KeyPair>,
    name: &str,
    subject_alt_names: Vec<String>,
    usage: ExtendedKeyUsagePurpose,
) -> Result<Identity> {
    issue_adjusted(ca, name, subject_alt_names, usage, |_| {})
}

fn issue_adjusted(
    ca: &CertifiedIssuer<'static, KeyPair>,
    name: &str,
    subject_alt_names: Vec<String>,
    usage: ExtendedKeyUsagePurpose,
    adjust: impl FnOnce(&mut CertificateParams),
) -> Result<Identity> {
    let make = || {
        let mut params = CertificateParams::new(subject_alt_names)?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![usage];
        params.use_authority_key_identifier_extension = true;
        adjust(&mut params);
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, ca)?;
        Ok(Identity { certificate: certificate.pem(), key: key.serialize_pem() })
    };
    make().map_err(|error: rcgen::Error| unusable(&error))
}

fn unusable(error: &dyn std::error::Error) -> Error {
    Error::Parse { what: "a certificate of the lab's own making".into(), text: error.to_string() }
}
