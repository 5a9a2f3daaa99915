//! The command line: oslo.config's two flags, and two questions an operator asks.

use std::path::{Path, PathBuf};

use amphora_agent::{
    config::{Flag, Sources},
    programs,
};
use clap::{CommandFactory as _, FromArgMatches as _, Parser};

/// Where the configuration is when no flag says otherwise.
const DEFAULTS: &str = "/etc/octavia";

/// The agent inside a load-balancer VM (an amphora): Octavia's API, and the VIP announced by BGP.
///
/// Without --config-file, /etc/octavia/amphora-agent.conf is read; without --config-dir, the *.conf files of
/// /etc/octavia/amphora-agent.conf.d. Defaults come first, then the flags in their order; later files win.
#[derive(Debug, Parser)]
#[command(name = "amphora-agent", version = env!("AMPHORA_VERSION"))]
struct Arguments {
    /// A configuration file; may be repeated.
    #[arg(long, value_name = "FILE")]
    config_file: Vec<PathBuf>,
    /// A directory whose *.conf files are read in the order of their names; may be repeated.
    #[arg(long, value_name = "DIR")]
    config_dir: Vec<PathBuf>,
    /// Check the configuration and its certificates, print OK or every problem, and exit (0 or 78).
    #[arg(long)]
    check_config: bool,
    /// Print the configuration in effect, defaults included and secrets as ***, and exit.
    #[arg(long)]
    print_effective_config: bool,
}

/// What is asked of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Task {
    Run,
    CheckConfig,
    PrintEffectiveConfig,
}

/// Reads the command line. An error of clap's also stands for `--help` and `--version`.
pub(crate) fn parse<I, T>(arguments: I) -> Result<(Task, Sources), clap::Error>
where
    I: IntoIterator<Item = T>,
    T: Into<std::ffi::OsString> + Clone,
{
    let matches = Arguments::command().after_help(programs::overview()).try_get_matches_from(arguments)?;
    let parsed = Arguments::from_arg_matches(&matches)?;
    let place = |name, count: usize| matches.indices_of(name).into_iter().flatten().take(count);
    let files = place("config_file", parsed.config_file.len()).zip(parsed.config_file.into_iter().map(Flag::File));
    let directories =
        place("config_dir", parsed.config_dir.len()).zip(parsed.config_dir.into_iter().map(Flag::Directory));
    let mut flags: Vec<_> = files.chain(directories).collect();
    flags.sort_by_key(|(index, _)| *index);
    let task = match (parsed.check_config, parsed.print_effective_config) {
        (_, true) => Task::PrintEffectiveConfig,
        (true, false) => Task::CheckConfig,
        (false, false) => Task::Run,
    };
    Ok((task, Sources::new(flags.into_iter().map(|(_, flag)| flag).collect(), Path::new(DEFAULTS))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_keep_their_order() {
        let (task, sources) =
            parse(["amphora-agent", "--config-dir", "d", "--config-file=f", "--config-dir", "e", "--check-config"])
                .unwrap();
        let flags = [Flag::Directory("d".into()), Flag::File("f".into()), Flag::Directory("e".into())];
        assert_eq!((task, sources), (Task::CheckConfig, Sources::new(flags.to_vec(), Path::new("/etc/octavia"))));
        assert!(parse(["amphora-agent", "--no-such"]).unwrap_err().use_stderr());
        assert!(!parse(["amphora-agent", "--help"]).unwrap_err().use_stderr());
    }
}
