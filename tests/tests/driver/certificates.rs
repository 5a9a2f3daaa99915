//! Mutual TLS with certificates as Octavia's operators have them: by Octavia's local generator, by the openssl procedure
//! of its guide, with and without key identifiers, alone and from an authority below the one that is trusted.

use std::path::Path;

use lab::controller::Outcome;
use lab::{Family, command, wait_for};
use serde_json::{Value, json};

use crate::site::{Case, PATIENCE, Site};

const CASE: Case = Case { name: "certificates", standby: false, families: &[Family::V4], anycast: false, sriov: false };
const FOLDER: &str = "/run/authorities";
const AGENTS: &str = "/etc/octavia/certs";

/// Octavia as its operator has set it up with one set of authorities.
struct Octavia {
    site: Site,
    amphora: Value,
    set: &'static str,
}

impl Octavia {
    fn new() -> Option<Self> {
        let site = Site::new(CASE)?;
        let agent = &site.fabric.amphorae[0];
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("octavia/authorities.sh");
        let mut make = command(["sh"]);
        make.arg(script).args([FOLDER, agent.id()]);
        let made = site.fabric.controller.spawn("authorities", &mut make).unwrap();
        let ended = made.wait(PATIENCE * 3).unwrap(); // making keys takes seconds, and on a busy machine many
        assert!(ended.success(), "{ended}: {}", std::fs::read_to_string(made.log()).unwrap_or_default());
        let amphora = json!({ "id": agent.id(), "lb_network_ip": agent.management(Family::V4) });
        Some(Self { site, amphora, set: "" })
    }

    /// Which of the set's files the controller shows, and whose amphorae it trusts.
    fn configure(&mut self, client: &str, server_ca: &str) {
        let (client_cert, server_ca) = (format!("{FOLDER}/{client}"), format!("{FOLDER}/{server_ca}"));
        let ca_key = server_ca.replace(".pem", ".key.pem");
        self.site.does(
            "configure",
            json!({
                "client_cert": client_cert, "server_ca": server_ca, "ca_key": ca_key,
                "ca_key_passphrase": "passphrase",
            }),
        );
    }

    /// A certificate of Octavia's generator by one of the set's authorities, with its key.
    fn issue(&mut self, ca: &str, name: &str) -> String {
        self.configure(&format!("{}/client.pem", self.set), &format!("{}/{ca}.pem", self.set));
        self.site.does("issue", json!({ "name": name })).as_str().unwrap().to_owned()
    }

    /// The agent starts with this certificate, and trusts the set's controllers.
    fn start_agent(&self, server: &str) {
        let agent = &self.site.fabric.amphorae[0];
        agent.stop_agent().unwrap();
        let client_ca = self.file("client_ca.pem");
        agent.node().write_file(&format!("{AGENTS}/client_ca.pem"), client_ca, 0o644).unwrap();
        agent.node().write_file(&format!("{AGENTS}/server.pem"), server, 0o600).unwrap();
        agent.start_agent(&[]).unwrap();
    }

    fn file(&self, name: &str) -> String {
        self.site.fabric.controller.read_file(&format!("{FOLDER}/{}/{name}", self.set)).unwrap()
    }

    fn info(&mut self) -> Outcome {
        let call = json!({
            "who": "driver", "amphora": self.amphora, "method": "get_info",
            "arguments": { "raise_retry_exception": true },
        });
        self.site.controller.ask("call", call).unwrap()
    }

    /// Both sides take each other's certificate, with the controller showing this one.
    #[track_caller]
    fn accepted(&mut self, client: &str) {
        self.configure(client, &format!("{}/server_ca.pem", self.set));
        let look = || match self.info() {
            Outcome::Returned(info) => Ok(info),
            Outcome::Raised(class, text) => Err(format!("{class}: {text}")),
        };
        let info = wait_for("both sides agree", PATIENCE, look).unwrap().0;
        assert_eq!(info["api_version"], "1.0", "{info}");
    }

    /// One of them refuses, and says this.
    #[track_caller]
    fn refused(&mut self, client: &str, server_ca: &str, why: &str) {
        self.configure(client, server_ca);
        let (class, text) = self.info().raised();
        assert_eq!(class, "AmpConnectionRetry");
        assert!(text.contains(why), "{client} {server_ca}: {text}");
    }
}

#[test]
fn certificates_of_octavias_generator_and_of_its_guide_are_taken_and_those_of_others_are_not() {
    let Some(mut octavia) = Octavia::new() else { return };
    let id = octavia.site.fabric.amphorae[0].id().to_owned();
    for set in ["with", "without"] {
        octavia.set = set;
        let clients = ["client.pem", "client-chain.pem", "generated.pem"].map(|name| format!("{set}/{name}"));
        let generated = octavia.issue("client_ca", "controller.example.org");
        octavia.site.fabric.controller.write_file(&format!("{FOLDER}/{}", clients[2]), generated, 0o600).unwrap();

        // By Octavia's generator, then without Octavia, then from an authority below, the chain coming along.
        let servers = [octavia.issue("server_ca", &id), octavia.file("server.pem"), octavia.file("server-chain.pem")];
        for server in &servers {
            octavia.start_agent(server);
            for client in &clients {
                octavia.accepted(client);
            }
        }
        let right = (clients[0].as_str(), format!("{set}/server_ca.pem"));
        // Named the same, but of another key: refused by the agent, and by the controller.
        octavia.refused("other/client.pem", &right.1, "alert");
        octavia.refused("other/client-chain.pem", &right.1, "alert");
        octavia.refused(right.0, "other/server_ca.pem", "CERTIFICATE_VERIFY_FAILED");
        // An amphora is no controller, where the authorities are two as the guide has it.
        octavia.refused(&format!("{set}/server.pem"), &right.1, "alert");
        octavia.accepted(right.0);

        // Each kind of certificate takes the place of the last.
        for new in &servers {
            octavia.accepted(right.0);
            let call = json!({
                "who": "driver", "amphora": octavia.amphora, "method": "upload_cert_amp",
                "arguments": { "pem": { "bytes": new } },
            });
            octavia.site.does("call", call);
            octavia.accepted(right.0);
            let kept = octavia.site.fabric.amphorae[0].node().read_file(&format!("{AGENTS}/server.pem")).unwrap();
            assert_eq!(&kept, new);
        }
        // One of another authority: the agent cannot know, so the controller does.
        octavia.set = "other";
        let foreign = octavia.issue("server_ca", &id);
        octavia.set = set;
        octavia.start_agent(&foreign);
        octavia.configure(right.0, &right.1);
        let look = || match octavia.info() {
            Outcome::Raised(_, text) if text.contains("CERTIFICATE_VERIFY_FAILED") => Ok(()),
            other => Err(format!("{other:?}")),
        };
        wait_for("the controller refuses the amphora", PATIENCE, look).unwrap();
    }
}
