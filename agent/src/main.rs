//! The `amphora-agent` program: reads its command line and configuration, then leaves the work to the library.

mod cli;
mod logging;

use std::{error::Error, io::Write as _, process::ExitCode};

use amphora_agent::{
    config::{Config, Problem, Sources},
    programs,
    server::check,
};

/// `EX_CONFIG` of sysexits.h: restarting will not help (`RestartPreventExitStatus=78`).
const EX_CONFIG: u8 = 78;
/// `EX_USAGE`
const EX_USAGE: u8 = 64;

fn main() -> ExitCode {
    let line: Vec<_> = std::env::args_os().collect();
    if let Some((program, arguments)) = programs::called(&line) {
        return program(arguments);
    }
    let (task, sources) = match cli::parse(line) {
        Ok(parsed) => parsed,
        Err(error) => {
            let _ = error.print(); // nobody is left to be told
            return if error.use_stderr() { ExitCode::from(EX_USAGE) } else { ExitCode::SUCCESS };
        }
    };
    let loaded = Config::load(&sources);
    if task == cli::Task::CheckConfig {
        return check_config(&sources, loaded);
    }
    let config = match loaded {
        Ok(config) => config,
        Err(problems) => {
            report(&problems);
            return ExitCode::from(EX_CONFIG);
        }
    };
    if task == cli::Task::PrintEffectiveConfig {
        return print(&config.to_string());
    }
    let set_debug = match logging::init(config.logging.debug) {
        Ok(set_debug) => set_debug,
        Err(error) => {
            complain(&error);
            return ExitCode::from(EX_CONFIG);
        }
    };
    match amphora_agent::run(config, sources, set_debug) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

/// All that is wrong with the options, and with the certificates they name.
fn check_config(sources: &Sources, loaded: Result<Config, Vec<Problem>>) -> ExitCode {
    let found = check::certificates(sources);
    let (mut warnings, mut problems) = match loaded {
        Ok(config) => (config.warnings, Vec::new()),
        Err(problems) => (Vec::new(), problems),
    };
    warnings.extend(found.warnings);
    problems.extend(found.problems);
    for warning in &warnings {
        eprintln!("amphora-agent: warning: {warning}");
    }
    problems.sort_by(|a, b| a.place.cmp(&b.place)); // as an editor goes through the files
    report(&problems);
    if problems.is_empty() { print("OK\n") } else { ExitCode::from(EX_CONFIG) }
}

fn report(problems: &[Problem]) {
    for problem in problems {
        eprintln!("amphora-agent: {problem}");
    }
}

/// A closed pipe is no reason to panic.
fn print(text: &str) -> ExitCode {
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn complain(error: &dyn Error) {
    eprintln!("amphora-agent: {error}");
    let mut cause = error.source();
    while let Some(source) = cause {
        eprintln!("  because: {source}");
        cause = source.source();
    }
}
