//! The man page, made from the command line's own definition so that it cannot be wrong about it (man(7)).

use std::fmt::Write as _;

use clap::{Arg, Command, builder::PossibleValue};

use super::arguments::EXIT_CODES;
use crate::server::local;

/// The page.
pub(super) fn page(command: &Command) -> String {
    let mut page = Page(String::new());
    page.line(r#".TH AMPHORACTL 8 "" "amphora-agent" "Amphora agent""#);
    page.line(".SH NAME");
    page.text("amphoractl - shows and steers the amphora agent of this machine");
    page.line(".SH SYNOPSIS");
    page.line(r"\fBamphoractl\fR [\fIoptions\fR] \fIcommand\fR [\fIarguments\fR]");
    page.line(".SH DESCRIPTION");
    page.about(command);
    page.line(".SH OPTIONS");
    command.get_arguments().for_each(|argument| page.argument(argument));
    page.line(".SH COMMANDS");
    for sub in command.get_subcommands() {
        page.line(".SS");
        page.line(&synopsis(sub));
        page.about(sub);
        sub.get_arguments().filter(|argument| !argument.is_global_set()).for_each(|argument| page.argument(argument));
    }
    page.line(".SH EXIT STATUS");
    for line in EXIT_CODES.lines() {
        let (code, what) = line.trim().split_once("  ").unwrap_or((line, ""));
        page.line(".TP");
        page.line(&format!(r"\fB{code}\fR"));
        page.text(what);
    }
    page.line(".SH FILES");
    page.line(".TP");
    page.line(&format!(r"\fI{}\fR", escaped(local::SOCKET)));
    page.text("Where the agent listens, for root alone.");
    page.line(".SH SEE ALSO");
    page.line(r"\fBsystemctl\fR(1), \fBjournalctl\fR(1); docs/operating.md of the amphora agent");
    page.0
}

fn synopsis(command: &Command) -> String {
    let mut line = format!(r"\fB{}\fR", escaped(command.get_name()));
    for argument in command.get_arguments().filter(|argument| argument.is_positional()) {
        let name = escaped(&argument.get_id().as_str().to_uppercase());
        let (open, close) = if argument.is_required_set() { ("", "") } else { ("[", "]") };
        let _ = write!(line, r" {open}\fI{name}\fR{close}"); // to a String, which takes everything
    }
    line
}

struct Page(String);

impl Page {
    fn line(&mut self, line: &str) {
        self.0.push_str(line);
        self.0.push('\n');
    }

    /// A paragraph's text: one that begins as a request would is kept from being one.
    fn text(&mut self, text: &str) {
        let guard = if text.starts_with(['.', '\'']) { r"\&" } else { "" };
        self.line(&format!("{guard}{}", escaped(text)));
    }

    /// Sentences, of which clap has taken the last full stop.
    fn sentences(&mut self, text: &str) {
        self.text(&format!("{}.", text.trim_end_matches('.')));
    }

    fn about(&mut self, command: &Command) {
        let about = command.get_long_about().or(command.get_about()).map(ToString::to_string).unwrap_or_default();
        for (at, paragraph) in about.split("\n\n").enumerate() {
            if at > 0 {
                self.line(".PP");
            }
            self.sentences(paragraph);
        }
    }

    fn argument(&mut self, argument: &Arg) {
        if argument.get_id() == "help" || argument.get_id() == "version" {
            return;
        }
        let mut names: Vec<_> = argument.get_short().map(|short| format!(r"\fB\-{short}\fR")).into_iter().collect();
        names.extend(argument.get_long().map(|long| format!(r"\fB\-\-{}\fR", escaped(long))));
        let values = argument.get_value_names().unwrap_or_default();
        let mut value = values.iter().map(|name| format!(r" \fI{}\fR", escaped(name))).collect::<Vec<_>>().concat();
        if argument.is_positional() {
            names.push(format!(r"\fI{}\fR", escaped(&argument.get_id().as_str().to_uppercase())));
            value.clear();
        }
        if !argument.get_action().takes_values() {
            value.clear();
        } else if argument.get_num_args().is_some_and(|number| number.min_values() == 0) {
            value = format!(" [{}]", value.trim());
        }
        self.line(".TP");
        self.line(&format!("{}{value}", names.join(", ")));
        self.sentences(&argument.get_help().map(ToString::to_string).unwrap_or_default());
        let values = argument.get_possible_values();
        let possible: Vec<_> = values.iter().map(PossibleValue::get_name).collect();
        if !possible.is_empty() && argument.get_action().takes_values() {
            self.text(&format!("One of {}.", possible.join(", ")));
        }
        let defaults = argument.get_default_values();
        if let Some(default) = defaults.first().filter(|_| argument.get_action().takes_values()) {
            self.text(&format!("Default: {}.", default.to_string_lossy()));
        }
    }
}

/// Without what roff would read as its own; a hyphen stays one that can be copied into a shell.
fn escaped(text: &str) -> String {
    text.replace('\\', r"\e").replace('-', r"\-")
}
