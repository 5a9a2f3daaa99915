//! What nobody reads: refused where it is ours by name, or written by hand.

use super::{distributor::ours, options, problem::Problem, reader::Reader};

const NAMES: &str = "ours are [distributor], [bgp], [bgp_peer:NAME] and [bgp_vip:PREFIX]";

/// Every section and option that is ours by name and unknown is a problem, and in a file of a directory every section that
/// is not Octavia's either.
pub(super) fn refuse(reader: &mut Reader<'_>) {
    let document = reader.document;
    for (section, content) in document.sections.iter().filter(|(section, _)| ours(section)) {
        let table = options::table_section(section);
        if !options::KNOWN.iter().any(|option| option.section == table)
            || [options::PEER, options::VIP].contains(&section.as_str())
        {
            reader.section_problem(section, format!("no such section; {NAMES}"));
            continue;
        }
        for key in content.options.keys() {
            if options::find(section, key).is_none() {
                let known = options::KNOWN.iter().filter(|option| option.section == table).map(|option| option.key);
                let known: Vec<_> = known.collect();
                let text = format!("no such option; this section has {}", known.join(", "));
                reader.problem(section, key, text);
            }
        }
    }
    let known = |section: &str| options::KNOWN.iter().any(|option| option.section == section);
    for (section, place) in document.by_hand.iter().filter(|(section, _)| !ours(section) && !known(section)) {
        let text = match nearest(section) {
            Some(meant) => format!("no such section; did you mean [{meant}]?"),
            None => format!("no such section; {NAMES}, and Octavia's others belong into amphora-agent.conf"),
        };
        let (place, section) = (Some(place.clone()), Some(section.clone()));
        reader.problems.push(Problem { place, section, key: None, text });
    }
}

/// The section that a name is a slip of: one that at most a third of its letters tell apart.
fn nearest(section: &str) -> Option<&'static str> {
    let (kind, _) = section.split_once(':').unwrap_or((section, ""));
    let known = options::KNOWN.iter().map(|option| (distance(kind, option.section), option.section));
    let (apart, name) = known.min_by_key(|(apart, _)| *apart)?;
    (apart * 3 <= name.len()).then_some(match name {
        options::PEER => "bgp_peer:NAME",
        options::VIP => "bgp_vip:PREFIX",
        other => other,
    })
}

/// How many letters have to be added, removed or changed (Levenshtein), whatever their case.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<_> = b.bytes().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.iter().enumerate() {
            let changed = diagonal + usize::from(!x.eq_ignore_ascii_case(y));
            diagonal = row[j + 1];
            row[j + 1] = changed.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Flag, Sources};

    #[test]
    fn a_slip_names_the_section_that_was_meant() {
        for (slip, meant) in [
            ("distribtuor", Some("distributor")),
            ("bpg", None),
            ("bg_peer:tor-a", Some("bgp_peer:NAME")),
            ("amphora-agent", Some("amphora_agent")),
            ("house_keeping", None),
            ("default", Some("DEFAULT")),
        ] {
            assert_eq!(nearest(slip), meant, "{slip}");
        }
        assert_eq!((distance("", "abc"), distance("abc", "abc"), distance("kitten", "sitting")), (3, 0, 3));
    }

    #[test]
    fn in_a_directory_every_section_is_known_and_in_the_main_file_octavias_are_not_judged() {
        let root = tempfile::tempdir().unwrap();
        let (main, directory) = (root.path().join("main.conf"), root.path().join("conf.d"));
        std::fs::create_dir(&directory).unwrap();
        std::fs::write(&main, "[house_keeping]\n[distribtuor]\nvip_mode = x\n").unwrap();
        let load = |text: &str| {
            std::fs::write(directory.join("50-own.conf"), text).unwrap();
            let flags = vec![Flag::Directory(directory.clone()), Flag::File(main.clone())];
            let problems = Config::load(&Sources::new(flags, root.path())).err().unwrap_or_default();
            problems.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(load("[DEFAULT]\n[amphora_agent]\namphora_id = a\n[distributor]\n"), [""; 0]);
        let found = load("# ours\n[distribtuor]\nvip_mode = anycast\n[nova]\n");
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(
            found[0].ends_with("50-own.conf:2: [distribtuor] no such section; did you mean [distributor]?"),
            "{found:?}"
        );
        assert!(found[1].contains("50-own.conf:4: [nova] no such section; ours are "), "{found:?}");
    }
}
