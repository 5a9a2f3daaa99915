//! Running `amphoractl` in a node.

use lab::{Amphora, Fabric, Family, Neighbours, Options, Place, TorKind, addresses, workdir};
use serde_json::Value;

use crate::site::{PATIENCE, Site, act};

/// What the ToR demands; no file of a bundle may hold it.
pub(crate) const PASSWORD: &str = "canary-md5-password";

/// What a run of it came to.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Said {
    /// Its output, which is JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// The program, as this machine sees it and every node.
pub(crate) fn program() -> String {
    workdir::built_program("amphora-agent").unwrap().to_str().unwrap().to_owned()
}

/// `amphoractl LINE` in `place`, by whatever `before` puts before it.
#[track_caller]
pub(crate) fn run_by(place: &Place, before: &str, line: &str) -> Said {
    let script = format!(
        "errors=$(mktemp /run/ctl.XXXXXX); {before} {} amphoractl {line} 2>$errors; code=$?; \
         printf '\\036'; cat $errors; printf '\\036%s' $code; rm $errors",
        program()
    );
    let all = place.run(["sh", "-c", &script]).unwrap();
    let mut parts = all.split('\u{1e}').map(str::to_owned);
    let mut next = || parts.next().unwrap();
    let (out, err) = (next(), next());
    Said { out, err, code: next().parse().unwrap() }
}

/// `amphoractl LINE` on an amphora, as root; the code is what it must end with.
#[track_caller]
pub(crate) fn ctl(amphora: &Amphora, line: &str, code: i32) -> Said {
    let said = run_by(amphora.node(), "", line);
    assert_eq!(said.code, code, "amphoractl {line}: {}{}", said.out, said.err);
    said
}

/// An amphora of AS 64512 with a dual-stack VIP that is served and announced to a ToR of this AS that demands a password.
pub(crate) fn announced(test: &str, asn: u32) -> (Site, lab::Api) {
    let mut options = Options::new(TorKind::Bird);
    options.amphorae = 1;
    options.tors[0].neighbours = Neighbours::Each(Family::V4);
    options.tors[0].asn = asn;
    options.tors[0].password = Some(PASSWORD.to_owned());
    let fabric = Fabric::new(test, &options).unwrap();
    let amphora = &fabric.amphorae[0];
    let sections = amphora.distributor_sections() + &fabric.tors[0].peer_section(Family::V4);
    amphora.write_config(&sections.replace("announce = api", "announce = listener")).unwrap();
    let site = Site { fabric, vip: addresses::vip(7) };
    let mut api = site.start_agent();
    api.plug_vip(site.vip.v4.into(), &site.amphora().plug_body(site.vip)).unwrap().success().unwrap();
    site.upload(&mut api, "");
    act(&mut api, "start");
    site.tor().wait_established(site.amphora().management(Family::V4), PATIENCE).unwrap();
    site.wait_announced();
    (site, api)
}
