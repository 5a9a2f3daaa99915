//! The units that come with the agent's package or image (`systemd/` of the repository), beside those it writes itself.

use std::path::Path;

/// Where systemd looks for units, the first place first (systemd.unit(5), "Unit File Load Path").
const PLACES: [&str; 5] = [
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];

/// A unit's file as systemd would load it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shipped {
    /// It runs this program.
    Ours,
    /// Nobody may start it (`systemctl mask`).
    Masked,
    /// There is none, or it is somebody else's of the same name.
    Not,
}

/// Whose the service `name` (without `.service`) is. One of ours runs the program of the same name in this binary.
#[must_use]
pub fn shipped(name: &str) -> Shipped {
    look(&PLACES.map(Path::new), name)
}

fn look(places: &[&Path], name: &str) -> Shipped {
    let found = places.iter().map(|place| place.join(format!("{name}.service"))).find(|path| path.exists());
    let Some(path) = found else { return Shipped::Not };
    if path.canonicalize().is_ok_and(|target| target == Path::new("/dev/null")) {
        return Shipped::Masked;
    }
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let runs = |line: &str| line.starts_with("ExecStart=") && line.contains(&format!("/amphora-agent {name}"));
    if text.lines().any(runs) { Shipped::Ours } else { Shipped::Not }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_file_decides_and_a_packages_own_is_not_ours() {
        let (over, under) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let ask = || look(&[over.path(), under.path()], "gobgpd");
        let file = |folder: &tempfile::TempDir| folder.path().join("gobgpd.service");
        assert_eq!(ask(), Shipped::Not);
        std::fs::write(file(&under), include_str!("../../../../systemd/gobgpd.service")).unwrap();
        assert_eq!(ask(), Shipped::Ours);
        // As Debian's.
        std::fs::write(file(&over), "[Service]\nExecStart=/usr/bin/gobgpd -f /etc/gobgpd.conf\n").unwrap();
        assert_eq!(ask(), Shipped::Not);
        std::fs::remove_file(file(&over)).unwrap();
        std::os::unix::fs::symlink("/dev/null", file(&over)).unwrap();
        assert_eq!(ask(), Shipped::Masked);
    }

    #[test]
    fn the_proxys_unit_is_known() {
        let folder = tempfile::tempdir().unwrap();
        let text = include_str!("../../../../systemd/prometheus-proxy.service");
        std::fs::write(folder.path().join("prometheus-proxy.service"), text).unwrap();
        assert_eq!(look(&[folder.path()], "prometheus-proxy"), Shipped::Ours);
    }
}
