use proptest::prelude::*;

use super::*;

/// A change that came with the newest format.
const NEW: u32 = u32::MAX;

impl Entry for u32 {
    fn format(&self) -> u32 {
        if *self == NEW { VERSION } else { OLDEST }
    }
}

fn commit(log: &mut Log, held: &mut Vec<u32>, new: &[u32]) {
    log.commit(new, || held.clone()).unwrap();
    held.extend(new);
}

fn reopened(path: &Path) -> Vec<u32> {
    Log::open(path).unwrap().1
}

#[test]
fn what_was_committed_is_there_after_opening_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state");
    let (mut log, mut held) = Log::open(&path).unwrap();
    assert!(held.is_empty());
    for n in 0..2_000 {
        commit(&mut log, &mut held, &[n; 20]);
    }
    assert_eq!(reopened(&path), held);
    assert_eq!(held.len(), 40_000, "more than one file's worth");
}

#[test]
fn what_a_killed_predecessor_left_half_written_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state");
    std::fs::write(dir.path().join(".state-x1y2z3"), "half").unwrap();
    let (mut log, mut held) = Log::open(&path).unwrap();
    commit(&mut log, &mut held, &[1]);
    let names: Vec<_> = dir.path().read_dir().unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names, ["state"]);
}

#[test]
fn one_more_commit_costs_the_same_however_many_are_held() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state");
    let (mut log, mut held) = Log::open::<u32>(&path).unwrap();
    let everything: Vec<u32> = (0..100_000).collect();
    commit(&mut log, &mut held, &everything);
    let before = std::fs::metadata(&path).unwrap().len();
    let used = log.open.as_ref().unwrap().used;
    commit(&mut log, &mut held, &[7]);
    assert_eq!(std::fs::metadata(&path).unwrap().len(), before);
    assert_eq!(log.open.as_ref().unwrap().used - used, "00000000 [7]\n".len());
}

#[test]
fn the_formats_before_this_one_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state");
    for version in 1..=VERSION {
        let mut bytes = with_checksum(format!(r#"{{"amphora_agent_state":{version}}}"#).as_bytes());
        bytes.extend(line(&[1_u32, 2]));
        bytes.resize(SMALLEST - END.len(), b'\n');
        bytes.extend(END);
        std::fs::write(&path, bytes).unwrap();
        assert_eq!(reopened(&path), [1, 2]);
    }
}

/// What an older release judges the file by.
fn format(path: &Path) -> u32 {
    lines(path, &std::fs::read(path).unwrap()).unwrap().0
}

#[test]
fn a_file_has_the_oldest_format_that_its_content_allows() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state");
    let (mut log, mut held) = Log::open(&path).unwrap();
    commit(&mut log, &mut held, &[1]);
    assert_eq!(format(&path), OLDEST);
    assert!(!log.is_newer_than(OLDEST));
    commit(&mut log, &mut held, &[2, NEW]);
    commit(&mut log, &mut held, &[3]);
    assert_eq!((format(&path), reopened(&path)), (VERSION, vec![1, 2, NEW, 3]));
    assert!(log.is_newer_than(OLDEST) && !log.is_newer_than(VERSION));
    // It is gone. The next agent sees as well that the file is newer than what it holds.
    held.retain(|change| *change != NEW);
    let (mut log, _) = Log::open::<u32>(&path).unwrap();
    assert!(log.is_newer_than(OLDEST));
    log.renew(&held).unwrap();
    assert_eq!((format(&path), reopened(&path)), (OLDEST, held.clone()));
    commit(&mut log, &mut held, &[4]);
    assert_eq!((format(&path), reopened(&path)), (OLDEST, vec![1, 2, 3, 4]));
}

#[test]
fn a_file_that_cannot_be_renewed_takes_commits_on() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state");
    let (mut log, mut held) = Log::open(&path).unwrap();
    commit(&mut log, &mut held, &[NEW]);
    let (elsewhere, place) = (dir.path().join("gone/state"), log.path.clone());
    log.path = elsewhere; // no directory stands in for no room
    log.renew(&[1_u32]).unwrap_err();
    log.path = place;
    log.commit(&[2], || -> Vec<u32> { panic!("no fresh file is needed") }).unwrap();
    assert_eq!(reopened(&path), [NEW, 2]);
}

#[test]
fn a_torn_last_line_is_dropped_and_a_bad_one_in_the_middle_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state");
    let (mut log, mut held) = Log::open(&path).unwrap();
    for n in 0..3 {
        commit(&mut log, &mut held, &[n]);
    }
    let mut bytes = std::fs::read(&path).unwrap();
    let last = log.open.as_ref().unwrap().used;
    bytes[last - 3] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    assert_eq!(reopened(&path), [0, 1]);

    let first = bytes.iter().position(|b| *b == b'[').unwrap();
    bytes[first + 1] ^= 1;
    bytes[last - 3] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let error = Log::open::<u32>(&path).unwrap_err();
    assert!(matches!(error, LogError::Damaged { .. }), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), bytes, "the old file is kept");
}

#[test]
fn a_file_of_a_newer_release_is_refused_and_kept() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state");
    let bytes = with_checksum(br#"{"amphora_agent_state":1000,"anything":"else"}"#);
    std::fs::write(&path, &bytes).unwrap();
    let error = Log::open::<u32>(&path).unwrap_err();
    assert!(matches!(error, LogError::Newer { found: 1000, .. }), "{error}");
    assert!(error.to_string().contains("move the file away"));
    assert_eq!(std::fs::read(&path).unwrap(), bytes);
}

#[test]
fn a_failed_write_leaves_the_old_state_and_the_next_commit_recovers() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state");
    let (mut log, mut held) = Log::open(&path).unwrap();
    commit(&mut log, &mut held, &[1]);
    // A descriptor that cannot be written to stands in for a disk that went bad under us.
    log.open.as_mut().unwrap().file = File::open(&path).unwrap();
    log.commit(&[2], || held.clone()).unwrap_err();
    assert_eq!(reopened(&path), [1]);
    commit(&mut log, &mut held, &[3]);
    assert_eq!(reopened(&path), [1, 3]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// However short the file is cut, it is either refused or was not cut at all.
    #[test]
    fn a_file_cut_short_is_refused(commits in 1usize..50, cut in any::<prop::sample::Index>()) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        let (mut log, mut held) = Log::open(&path).unwrap();
        for n in 0..commits {
            commit(&mut log, &mut held, &[u32::try_from(n).unwrap()]);
        }
        let bytes = std::fs::read(&path).unwrap();
        let short = &bytes[..cut.index(bytes.len())];
        std::fs::write(&path, short).unwrap();
        let error = Log::open::<u32>(&path).unwrap_err();
        prop_assert!(matches!(error, LogError::Damaged { .. }), "{error}");
        prop_assert_eq!(std::fs::read(&path).unwrap(), short);
    }
}
