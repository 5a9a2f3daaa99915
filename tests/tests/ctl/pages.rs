//! Completion scripts and the man page: they are what their readers take.

use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use crate::said::program;

fn amphoractl(arguments: &[&str]) -> String {
    let output = Command::new(program()).arg("amphoractl").args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Runs a reader on a text; `None` where this machine has none.
fn read_by(reader: &[&str], text: &str) -> Option<Output> {
    let (program, arguments) = reader.split_first().unwrap();
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = match command.spawn() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
        child => child.unwrap(),
    };
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    Some(child.wait_with_output().unwrap())
}

#[test]
fn completion_scripts_are_what_their_shells_take() {
    for shell in ["bash", "zsh", "fish"] {
        let script = amphoractl(&["completion", shell]);
        for word in ["support-bundle", "check-config", "undrain"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
    let script = amphoractl(&["completion", "bash"]);
    let read = read_by(&["bash", "-n"], &script).unwrap();
    assert!(read.status.success() && read.stderr.is_empty(), "{read:?}");
    // It completes: the words that begin so.
    let ask =
        "COMP_WORDS=(amphoractl su); COMP_CWORD=1; _amphoractl amphoractl su amphoractl; echo \"${COMPREPLY[*]}\"";
    let read = read_by(&["bash", "-s"], &format!("{script}\n{ask}\n")).unwrap();
    assert_eq!(String::from_utf8_lossy(&read.stdout), "support-bundle\n", "{read:?}");
}

#[test]
fn outputs_that_take_nothing_do_not_change_the_exit_code() {
    let code = |script: &str| {
        let script = format!("{script}; echo $?").replace("amphoractl", &format!("{} amphoractl", program()));
        let output = Command::new("bash").args(["-c", &script]).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(code("amphoractl --socket /no/such status 2>/dev/full"), "2\n");
    assert_eq!(code("amphoractl --socket /no/such status -o json 2> >(true)"), "2\n");
    assert_eq!(code("amphoractl man >/dev/full 2>/dev/full"), "2\n");
    assert_eq!(code("{ sleep 0.2; amphoractl man >&3; echo $?; } 3> >(true)"), "0\n0\n");
}

#[test]
fn the_man_page_renders_without_a_complaint() {
    let page = amphoractl(&["man"]);
    let reader = ["groff", "-man", "-Tutf8", "-ww", "-z"];
    let Some(read) = read_by(&reader, &page) else {
        return lab::skipped("the_man_page_renders_without_a_complaint", "there is no groff here");
    };
    assert!(read.status.success() && read.stderr.is_empty(), "{}", String::from_utf8_lossy(&read.stderr));
    let read = read_by(&["groff", "-man", "-Tascii", "-P-cbou"], &page).unwrap();
    let text = String::from_utf8_lossy(&read.stdout);
    for words in ["status", "why VIP", "--max-connections NUMBER", "EXIT STATUS", "/run/amphora-agent/api.sock"] {
        assert!(text.contains(words), "{words}: {text}");
    }
}
