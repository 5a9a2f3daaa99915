//! The agent's own certificate and configuration. Last, for the Python agent does not outlive what it accepts here.

use crate::case::{Case, ask, upload};

pub(crate) fn cases() -> Vec<Case> {
    vec![
        upload("configuration: the same again", "/1.0/config", "{configuration}"),
        ask("info under the new configuration", "GET", "/1.0/info"),
        upload("configuration: no INI", "/1.0/config", "[half a section"),
        upload("configuration: the old one after a bad one", "/1.0/config", "{configuration}"),
        upload("own certificate", "/1.0/certificate", "{server.pem}"),
        ask("info under the new certificate", "GET", "/1.0/info"),
        upload("own certificate: none", "/1.0/certificate", "no certificate"),
        ask("info after a certificate that is none", "GET", "/1.0/info"),
    ]
}
