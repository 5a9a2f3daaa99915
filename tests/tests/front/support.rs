//! What these tests have in common.

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use hyper::Method;
use lab::amphora::API_PORT;
use lab::{Amphora, Api, Fabric, Family, Options, Reply, TorKind};
use rustls::{ClientConnection, StreamOwned};

/// A ceiling, for a machine that is busy with other tests.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);
/// The controller's file.
pub(crate) const MAIN: &str = "/etc/octavia/amphora-agent.conf";

/// One amphora without BGP; its agent is not started.
pub(crate) fn alone(test: &str) -> Fabric {
    let mut options = Options::new(TorKind::Bird);
    options.amphorae = 1;
    let fabric = Fabric::new(test, &options).unwrap();
    fabric.amphorae[0].node().run(["mkdir", "-p", "/etc/octavia/amphora-agent.conf.d"]).unwrap();
    fabric
}

pub(crate) fn start(amphora: &Amphora) -> Api {
    amphora.start_agent(&[]).unwrap();
    amphora.wait_api(PATIENCE).unwrap().0
}

/// `PUT` with a body of bytes.
pub(crate) fn put(api: &mut Api, path: &str, body: impl Into<Vec<u8>>) -> lab::Result<Reply> {
    api.send(Method::PUT, path, &[], body.into())
}

/// What the agent has said so far.
pub(crate) fn log(amphora: &Amphora) -> String {
    std::fs::read_to_string(amphora.node().log_path("agent")).unwrap()
}

/// A connection with the controller's certificate, for what no HTTP client would send.
pub(crate) fn dial(fabric: &Fabric) -> StreamOwned<ClientConnection, TcpStream> {
    let amphora = &fabric.amphorae[0];
    let tls = fabric.pki.client(Some(fabric.pki.controller())).unwrap();
    let to = SocketAddr::new(amphora.management(Family::V4), API_PORT);
    let tcp = fabric.controller.connect(to, PATIENCE).unwrap();
    tcp.set_read_timeout(Some(PATIENCE)).unwrap();
    let name = amphora.id().to_owned().try_into().unwrap();
    let mut stream = StreamOwned::new(ClientConnection::new(tls, name).unwrap(), tcp);
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock).unwrap();
    }
    stream
}

/// The certificate the agent shows a new connection.
pub(crate) fn shown(fabric: &Fabric) -> Vec<u8> {
    dial(fabric).conn.peer_certificates().unwrap()[0].to_vec()
}
