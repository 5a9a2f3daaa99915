//! Debian's Prometheus on the controller's node, with the files of `monitoring/` as an operator would take them over.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use lab::{Error, Place, Proc, command, wait_for};
use serde_json::Value;

use crate::support::{PATIENCE, Site};

const ADDRESS: &str = "127.0.0.1:9090";
const CONFIGURATION: &str = "/etc/prometheus/prometheus.yml";
/// The target in the example.
const EXAMPLE: &str = "00000000-0000-4000-8000-000000000001";

/// A file of `monitoring/`.
pub(crate) fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../monitoring").join(name)
}

pub(crate) fn read(name: &str) -> String {
    std::fs::read_to_string(file(name)).unwrap()
}

pub(crate) struct Prometheus {
    place: Place,
    _process: Proc,
}

impl Prometheus {
    /// Scrapes the site's amphora every second. The rules have the times to wait for of `hasten`.
    pub(crate) fn start(site: &Site, hasten: impl Fn(&str) -> String) -> Self {
        let (place, amphora) = ((*site.fabric.controller).clone(), site.amphora());
        let (pki, write) = (&site.fabric.pki, |path: &str, text: String| place.write_file(path, text, 0o600).unwrap());
        // The example names the first amphora; its id is what the certificate is for.
        assert_eq!(amphora.id(), EXAMPLE);
        let hosts = place.read_file("/etc/hosts").unwrap();
        write("/etc/hosts", format!("{hosts}\n{} {EXAMPLE}\n", amphora.management(lab::Family::V4)));
        let client = pki.client_identity(|_| {}).unwrap();
        write("/etc/prometheus/amphora/server_ca.pem", pki.ca());
        write("/etc/prometheus/amphora/client.pem", client.certificate);
        write("/etc/prometheus/amphora/client.key", client.key);
        write("/etc/prometheus/alerts.yml", hasten(&read("alerts.yml")));
        write(CONFIGURATION, read("prometheus.yml").replace("_interval: 15s", "_interval: 1s"));
        place.run(["promtool", "check", "config", CONFIGURATION]).unwrap();
        let mut program = command(["prometheus", "--web.listen-address", ADDRESS, "--config.file", CONFIGURATION]);
        program.args(["--storage.tsdb.path", "/run/prometheus", "--log.level", "warn"]);
        let process = place.spawn("prometheus", &mut program).unwrap();
        let this = Self { place, _process: process };
        wait_for("Prometheus is up", PATIENCE, || this.get("/-/ready").map(drop)).unwrap();
        this
    }

    /// The series an expression has now.
    pub(crate) fn query(&self, expression: &str) -> Result<Vec<Value>, Error> {
        let mut encoded = String::new();
        for byte in expression.bytes() {
            write!(encoded, "%{byte:02x}").unwrap();
        }
        let said = self.json(&format!("/api/v1/query?query={encoded}"))?;
        match said["data"]["result"].as_array() {
            Some(series) => Ok(series.clone()),
            None => Err(Error::Parse { what: expression.to_owned(), text: said.to_string() }),
        }
    }

    /// The alerting rules, as it has them.
    pub(crate) fn rules(&self) -> Vec<Value> {
        let said = self.json("/api/v1/rules?type=alert").unwrap();
        said["data"]["groups"].as_array().unwrap().iter().flat_map(|g| g["rules"].as_array().unwrap().clone()).collect()
    }

    /// The alerts that are pending or firing.
    pub(crate) fn alerts(&self) -> Vec<Value> {
        self.json("/api/v1/alerts").unwrap()["data"]["alerts"].as_array().unwrap().clone()
    }

    fn json(&self, path: &str) -> Result<Value, Error> {
        Ok(serde_json::from_str(&self.get(path)?).unwrap_or_default())
    }

    fn get(&self, path: &str) -> Result<String, Error> {
        get(&self.place, ADDRESS, path)
    }
}

/// The body of an answer. By HTTP/1.0, so that it ends with the connection.
pub(crate) fn get(place: &Place, to: &str, path: &str) -> Result<String, Error> {
    let mut stream = place.connect(to.parse().unwrap(), PATIENCE)?;
    let io = |source| Error::Io { what: format!("GET {path}"), source };
    stream.set_read_timeout(Some(PATIENCE)).map_err(io)?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {to}\r\n\r\n").map_err(io)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(io)?;
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) if head.contains(" 200 ") => Ok(body.to_owned()),
        _ => Err(Error::Parse { what: path.to_owned(), text: answer }),
    }
}
