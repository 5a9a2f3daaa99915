//! Every test that docs/failures.md names exists.

use std::path::Path;

#[test]
fn every_test_that_the_table_of_failures_names_exists() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let page = std::fs::read_to_string(tests.join("../../docs/failures.md")).unwrap();
    let mut named = 0_usize;
    for row in page.lines().filter(|line| line.starts_with('|')).skip(2) {
        // The last cell: `file.rs` `test` `test`, `other.rs` `test`.
        let cell = row.trim_end_matches('|').rsplit('|').next().unwrap();
        let (mut file, mut text, mut found) = ("", String::new(), 0);
        for word in cell.split('`').skip(1).step_by(2) {
            if word.contains('/') || word.contains('.') {
                file = word;
                text =
                    std::fs::read_to_string(tests.join(file)).unwrap_or_else(|error| panic!("{file}: {error}: {row}"));
            } else {
                assert!(text.contains(&format!("#[test]\nfn {word}()")), "{file} has no test {word}");
                found += 1;
            }
        }
        assert!(found > 0, "a row without a test: {row}");
        named += found;
    }
    assert!(named > 20, "{named} tests found: is the table still read as it is written?");
}
