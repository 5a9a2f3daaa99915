use std::{fs, os::unix::fs::symlink, path::PathBuf, thread};

use super::*;

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

fn names(path: &Path) -> Vec<PathBuf> {
    let mut names: Vec<_> = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name().into()).collect();
    names.sort();
    names
}

#[test]
fn a_name_is_one_plain_component() {
    for good in ["a", "a.pem", "6f4b-1.2_3.pem", &"x".repeat(250)] {
        assert!(Name::new(good).is_some(), "{good}");
    }
    for bad in ["", ".", "..", "../a", "a/b", "/a", ".hidden", "a\0", "a b", "ä", "a\n", "%2e", "\\", &"x".repeat(251)]
    {
        assert!(Name::new(bad).is_none(), "{bad:?}");
    }
}

#[test]
fn a_file_is_replaced_whole_with_its_mode_and_nothing_beside_it() {
    let root = tempfile::tempdir().unwrap();
    let directory = Directory::open_or_make(&root.path().join("new/certs")).unwrap();
    let inner = directory.inner_or_make(&name("lb")).unwrap();
    let path = root.path().join("new/certs/lb");
    assert_eq!(inner.read(&name("a.pem")).unwrap(), None);
    inner.replace(&name("a.pem"), b"a long first content").unwrap();
    fs::set_permissions(path.join("a.pem"), Permissions::from_mode(0o644)).unwrap();
    fs::write(path.join(".a.pem.new"), "what a crash left, longer than what comes").unwrap();
    inner.replace(&name("a.pem"), b"short").unwrap();
    assert_eq!(inner.read(&name("a.pem")).unwrap().unwrap(), b"short");
    assert_eq!((mode(&path.join("a.pem")), mode(&path)), (0o600, 0o700));
    assert_eq!(names(&path), [Path::new("a.pem")]);
    inner.remove(&name("a.pem")).unwrap();
    inner.remove(&name("a.pem")).unwrap();
    assert!(names(&path).is_empty());
}

#[test]
fn symbolic_links_are_replaced_and_never_followed() {
    let root = tempfile::tempdir().unwrap();
    let outside = root.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("secret"), "theirs").unwrap();
    let certs = root.path().join("certs");
    let directory = Directory::open_or_make(&certs).unwrap();
    symlink(&outside, certs.join("lb")).unwrap();
    assert!(directory.inner(&name("lb")).unwrap().is_none());
    directory.inner_or_make(&name("lb")).unwrap_err();

    let inner = directory.inner_or_make(&name("other")).unwrap();
    symlink(outside.join("secret"), certs.join("other/a.pem")).unwrap();
    symlink(outside.join("made"), certs.join("other/.a.pem.new")).unwrap();
    assert_eq!(inner.read(&name("a.pem")).unwrap(), None);
    inner.replace(&name("a.pem"), b"ours").unwrap();
    assert_eq!(inner.read(&name("a.pem")).unwrap().unwrap(), b"ours");
    assert_eq!(fs::read_to_string(outside.join("secret")).unwrap(), "theirs");
    assert_eq!(names(&outside), [Path::new("secret")]);
}

#[test]
fn a_replacement_that_fails_leaves_the_old_file() {
    let root = tempfile::tempdir().unwrap();
    let directory = Directory::open_or_make(root.path()).unwrap();
    fs::create_dir(root.path().join("a.pem")).unwrap();
    fs::write(root.path().join("a.pem/old"), "old").unwrap();
    directory.replace(&name("a.pem"), b"new").unwrap_err();
    assert_eq!(names(root.path()), [Path::new("a.pem")]);
    assert_eq!(fs::read_to_string(root.path().join("a.pem/old")).unwrap(), "old");
    assert_eq!(directory.read(&name("a.pem")).unwrap(), None, "a directory is no file");
}

#[test]
fn of_two_writers_at_once_one_wins_wholly() {
    let root = tempfile::tempdir().unwrap();
    let directory = Directory::open_or_make(root.path()).unwrap();
    let contents: Vec<Vec<u8>> = (b'a'..b'e').map(|byte| vec![byte; 300_000 + usize::from(byte)]).collect();
    for _ in 0..5 {
        thread::scope(|scope| {
            for content in &contents {
                scope.spawn(|| directory.replace(&name("a.pem"), content).unwrap());
            }
        });
        let there = directory.read(&name("a.pem")).unwrap().unwrap();
        assert!(contents.contains(&there), "{} bytes, starting with {:?}", there.len(), &there[..4]);
    }
}
