//! The image test: boots the amphora image under QEMU, next to a real ToR, and drives it from outside as Octavia does.
//!
//!     image-test [--image FILE] [SCENARIO...]
//!
//! As root. It says what it waits for, ends with a table of figures, and shows the ends of the machines' consoles when it
//! fails. Never more than two machines run at a time, and none of them needs KVM (`IMAGE_TEST_ACCEL` names another
//! accelerator than `tcg,thread=multi`). It gives up after half an hour, or `IMAGE_TEST_MINUTES`; what is under way then has
//! a minute to end. Times are those of an emulated machine: none is a promise.
#![allow(clippy::doc_markdown, reason = "ToR is a word here, not code")]

mod boot;
mod distributors;
mod evidence;
mod gone;
mod pair;
mod ports;
mod reboots;
mod remembers;
mod report;
mod secrets;
mod serve;
mod site;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use lab::error::chain;
use lab::{Error, Result};

use report::Report;

const USAGE: &str = "usage: image-test [--image FILE] [SCENARIO...]";

/// It takes half of that on two cores that have nothing else to do.
const MINUTES: u64 = 30;

/// A scenario makes a fabric and its machines, and ends them.
type Scenario = fn(&mut Report, &std::path::Path) -> Result<()>;

/// The last is run only when it is named: the others boot as well.
const SCENARIOS: [(&str, Scenario); 4] =
    [("single", serve::run), ("pair", pair::run), ("distributors", distributors::run), ("boot", boot::run)];

fn main() -> ExitCode {
    let asked = limit().and_then(|limit| Ok((limit, arguments(std::env::args().skip(1))?)));
    let (limit, (image, scenarios)) = match asked {
        Ok(asked) => asked,
        Err(problem) => {
            eprintln!("{problem}\n{USAGE}");
            return ExitCode::from(64);
        }
    };
    let mut report = Report::new(limit);
    let mut failed: Vec<String> = Vec::new();
    for (name, scenario) in scenarios {
        if report.left(limit).is_err() {
            failed.push(format!("{name}, not begun"));
            continue;
        }
        report.scenario(name);
        if let Err(error) = scenario(&mut report, &image) {
            let reason = format!("{name}: {}", chain(&error));
            eprintln!("FAILED: {reason}");
            failed.push(reason);
        }
    }
    report.show();
    failed.extend(report.faults().iter().cloned());
    if failed.is_empty() {
        println!("image-test: passed in {:.0} s", report.elapsed().as_secs_f64());
        return ExitCode::SUCCESS;
    }
    println!("image-test: FAILED; the logs' folders are named above\n  {}", failed.join("\n  "));
    ExitCode::FAILURE
}

/// How long all of it may take.
fn limit() -> Result<Duration> {
    let minutes = match std::env::var("IMAGE_TEST_MINUTES") {
        Err(std::env::VarError::NotPresent) => MINUTES,
        Err(error) => return Err(Error::Missing(format!("IMAGE_TEST_MINUTES: {error}"))),
        Ok(text) => text
            .parse()
            .ok()
            .filter(|minutes| (1..=24 * 60).contains(minutes))
            .ok_or_else(|| Error::Missing(format!("IMAGE_TEST_MINUTES={text}: a number of minutes, 1 to 1440")))?,
    };
    Ok(Duration::from_mins(minutes))
}

fn arguments(mut words: impl Iterator<Item = String>) -> Result<(PathBuf, Vec<(&'static str, Scenario)>)> {
    let (mut image, mut scenarios) = (PathBuf::from("build/image/amphora-x64-haproxy.qcow2"), Vec::new());
    while let Some(word) = words.next() {
        if word == "--image" {
            image = words.next().ok_or_else(|| Error::Missing("--image takes a file".into()))?.into();
        } else if let Some(scenario) = SCENARIOS.iter().find(|(name, _)| *name == word) {
            scenarios.push(*scenario);
        } else {
            let names = SCENARIOS.map(|(name, _)| name).join(", ");
            return Err(Error::Missing(format!("there is no scenario {word:?}; there are {names}")));
        }
    }
    if !image.is_file() {
        return Err(Error::Missing(format!("{} is not there: run `make image`", image.display())));
    }
    if scenarios.is_empty() {
        scenarios = SCENARIOS[..SCENARIOS.len() - 1].to_vec();
    }
    Ok((image, scenarios))
}
