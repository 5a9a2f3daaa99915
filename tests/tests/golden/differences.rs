//! The list of differences: docs/differences.md, written from what was answered and the reasons kept by hand.

use std::fmt::Write as _;
use std::path::Path;

use crate::case::Case;
use crate::reasons::{NOT_COMPARED, REASONS, Reason};

/// How much of an answer is shown, in characters. All of it is compared.
const LONGEST: usize = 250;

/// Compares the answers (ours, the Python agent's) with the list, or writes the list with `UPDATE_GENERATED=1`.
///
/// # Panics
/// When a difference has no reason or more than one, when a reason or a case it names has no difference, when the list
/// is another.
pub(crate) fn check(cases: &[Case], answers: &[[String; 2]]) {
    let different: Vec<(&Case, &[String; 2])> =
        cases.iter().zip(answers).filter(|(_, [ours, theirs])| ours != theirs).collect();
    let mut wrong = Vec::new();
    for (case, [ours, theirs]) in &different {
        let reasons: Vec<_> = REASONS.iter().filter(|reason| reason.covers(&case.name)).collect();
        if reasons.len() != 1 {
            let titles: Vec<_> = reasons.iter().map(|reason| reason.title).collect();
            wrong.push(format!(
                "{:?}, {}: {} reasons {titles:?}\n  theirs {theirs}\n  ours   {ours}",
                case.name,
                case.shown,
                reasons.len()
            ));
        }
    }
    for reason in REASONS {
        for name in reason.cases {
            let of = |case: &&Case| Reason::matches(name, &case.name);
            if !different.iter().any(|(case, _)| of(case)) {
                wrong.push(format!("{:?} names {name:?}, which is answered alike", reason.title));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {} answers differ:\n{}", different.len(), cases.len(), wrong.join("\n"));

    let text = render(cases.len(), &different);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("in the workspace").join("docs/differences.md");
    if std::env::var_os("UPDATE_GENERATED").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let listed = std::fs::read_to_string(&path).unwrap_or_default();
    let same = listed.lines().zip(text.lines()).take_while(|(listed, now)| listed == now).count();
    assert!(
        listed == text,
        "docs/differences.md is not what was answered; UPDATE_GENERATED=1 writes it. Line {}:\n  listed {:?}\n  now    {:?}",
        same + 1,
        listed.lines().nth(same),
        text.lines().nth(same)
    );
}

fn render(number: usize, different: &[(&Case, &[String; 2])]) -> String {
    let mut text = format!(
        "# Where this agent answers differently from Octavia's\n\n\
         The same {number} requests go to this agent and to the Python agent of octavia 19.0.0, each in an amphora of its \
         own of topology SINGLE. Compared are status, content type, ETag, Location and body; of figures that change from \
         moment to moment only the shape. {} are answered alike. This is the whole rest, written by \
         `UPDATE_GENERATED=1 cargo test -p lab --test golden` and checked by every run without it; the reasons are kept \
         in `tests/tests/golden/reasons.rs`. `{{vip4}}` and the like stand for what is each amphora's own. Where no \
         content type is shown it is `application/json`.\n",
        number - different.len()
    );
    for reason in REASONS {
        let _ =
            write!(text, "\n## {}\n\n{}\n\n| request | Octavia's | ours |\n|---|---|---|\n", reason.title, reason.why);
        // Requests that are answered alike by each share a row.
        let mut rows: Vec<(&[String; 2], Vec<String>)> = Vec::new();
        for (case, answers) in different.iter().filter(|(case, _)| reason.covers(&case.name)) {
            match rows.iter_mut().find(|(of, _)| of == answers) {
                Some((_, requests)) => requests.push(named(case)),
                None => rows.push((answers, vec![named(case)])),
            }
        }
        for ([ours, theirs], requests) in rows {
            let _ = writeln!(text, "| {} | {} | {} |", requests.join("<br>"), code(theirs), code(ours));
        }
    }
    text += "\n## Not compared\n\n| what | why |\n|---|---|\n";
    for (what, why) in NOT_COMPARED {
        let _ = writeln!(text, "| {what} | {why} |");
    }
    text
}

/// The request, and what is special about it where the request does not say so.
fn named(case: &Case) -> String {
    let shown = format!("`{}`", cell(&case.shown));
    if case.name.ends_with(case.shown.split(' ').next_back().unwrap_or_default()) {
        shown
    } else {
        format!("{}: {shown}", cell(&case.name))
    }
}

/// An answer, cut where it only goes on.
fn code(answer: &str) -> String {
    let short: String = answer.chars().take(LONGEST).collect();
    let more = if short.len() < answer.len() { "..." } else { "" };
    format!("`{}{more}`", cell(&short).replace('`', "'"))
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}
