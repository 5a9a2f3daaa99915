//! What the agent is measured against: the same answer from `openssl s_server` and from a bare rustls loop, with the
//! agent's own certificate, and the disk alone.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use lab::{Amphora, Family, Place, Proc, command};
use rustls::{
    RootCertStore, ServerConfig, ServerConnection, StreamOwned,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::WebPkiClientVerifier,
};

use crate::{Result, stats::Samples};

const CERTIFICATE: &str = "/etc/octavia/certs/server.pem";
const CLIENT_CA: &str = "/etc/octavia/certs/client_ca.pem";
/// Where s_server finds its answers.
const PAGES: &str = "/run/pages";

/// Where the floors listen, beside the agent.
pub(crate) fn s_server_address(amphora: &Amphora) -> SocketAddr {
    SocketAddr::new(amphora.management(Family::V4), 4433)
}

/// Puts `answer`, head and all, where s_server answers `GET /1.0/info` with it.
pub(crate) fn write_page(amphora: &Amphora, answer: &[u8]) -> Result<()> {
    Ok(amphora.node().write_file(&format!("{PAGES}/1.0/info"), answer, 0o644)?)
}

/// `openssl s_server`, which serves one connection at a time and closes it after one answer.
pub(crate) fn s_server(amphora: &Amphora) -> Result<Proc> {
    let address = s_server_address(amphora);
    let options = "-tls1_3 -Verify 1 -verify_return_error -verify_quiet -num_tickets 0 -quiet -HTTP";
    let script = format!(
        "cd {PAGES} && exec openssl s_server -accept {address} -cert {CERTIFICATE} -key {CERTIFICATE} -CAfile {CLIENT_CA} {options}"
    );
    Ok(amphora.node().spawn("s_server", &mut command(["sh", "-c", &script]))?)
}

/// A thread that answers every request of one connection after another with `answer`, by rustls and nothing else. Ends
/// with the program.
pub(crate) fn rustls_loop(amphora: &Amphora, answer: Vec<u8>) -> Result<SocketAddr> {
    let config = Arc::new(server_config(amphora.node())?);
    let ip: IpAddr = amphora.management(Family::V4);
    let listener = amphora.node().within(|| TcpListener::bind((ip, 0)))??;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for tcp in listener.incoming().flatten() {
            let _ = serve(tcp, &config, &answer); // the client's end, which is no error
        }
    });
    Ok(address)
}

fn serve(tcp: TcpStream, config: &Arc<ServerConfig>, answer: &[u8]) -> Result<()> {
    tcp.set_nodelay(true)?;
    let mut tls = StreamOwned::new(ServerConnection::new(Arc::clone(config))?, tcp);
    let mut piece = [0; 4096];
    loop {
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            match tls.read(&mut piece)? {
                0 => return Ok(()),
                n => request.extend_from_slice(&piece[..n]),
            }
        }
        tls.write_all(answer)?;
        tls.flush()?;
    }
}

fn server_config(node: &Place) -> Result<ServerConfig> {
    let (identity, ca) = (node.read_file(CERTIFICATE)?, node.read_file(CLIENT_CA)?);
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca.as_bytes())?)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build()?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(clients)
        .with_single_cert(
            vec![CertificateDer::from_pem_slice(identity.as_bytes())?],
            PrivateKeyDer::from_pem_slice(identity.as_bytes())?,
        )?;
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// A file of its full length already, written over piece by piece: the floor of a commit.
#[derive(Debug)]
pub(crate) struct Disk {
    path: PathBuf,
    file: File,
    size: usize,
    used: u64,
}

impl Disk {
    /// Room for `number` pieces of `size` bytes.
    pub(crate) fn new(directory: &Path, number: usize, size: usize) -> Result<Self> {
        let path = directory.join("fsync-floor");
        let mut file = File::create(&path)?;
        file.write_all(&vec![b'\n'; number * size])?;
        file.sync_all()?;
        Ok(Self { path, file, size, used: 0 })
    }

    /// Writes the next piece, and fdatasync.
    pub(crate) fn append(&mut self) -> Result<Duration> {
        let start = Instant::now();
        self.file.write_all_at(&vec![b'x'; self.size], self.used)?;
        self.file.sync_data()?;
        self.used += self.size as u64;
        Ok(start.elapsed())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path); // it is in the lab's directory, which goes too
    }
}

/// So many of them by one thread.
pub(crate) fn appends(directory: &Path, number: usize, size: usize) -> Result<Samples> {
    let mut disk = Disk::new(directory, number, size)?;
    let times = (0..number).map(|_| disk.append()).collect::<Result<Vec<_>>>()?;
    Ok(times.into())
}

/// Calls `attempt` until it succeeds, without a pause worth measuring, for at most 20 s.
pub(crate) fn insist<T>(what: &str, mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
    let start = Instant::now();
    loop {
        match attempt() {
            Ok(value) => return Ok(value),
            Err(error) if start.elapsed() > Duration::from_secs(20) => return Err(format!("{what}: {error}").into()),
            Err(_) => thread::sleep(Duration::from_micros(200)),
        }
    }
}
