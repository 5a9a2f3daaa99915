//! Where log events go: the journal when systemd started us, else standard error.

use std::{env, io::IsTerminal as _, os::unix::fs::MetadataExt as _};

use amphora_agent::reload::SetDebug;
use tracing_subscriber::{
    EnvFilter, Layer as _, Registry, layer::SubscriberExt as _, reload, util::SubscriberInitExt as _,
};

/// Why logging cannot start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoggingError {
    #[error("RUST_LOG is not a log filter; write e.g. `info` or `amphora_agent=debug`, or unset it")]
    Filter(#[source] tracing_subscriber::filter::ParseError),
    #[error("RUST_LOG is not UTF-8; unset it")]
    NotText,
    #[error("logging was set up twice")]
    Twice(#[source] tracing_subscriber::util::TryInitError),
}

/// Sends events of this process where they belong. `RUST_LOG` wins over `debug`, also over a later one.
pub(crate) fn init(debug: bool) -> Result<SetDebug, LoggingError> {
    let fixed = match env::var("RUST_LOG") {
        Ok(filter) if !filter.is_empty() => Some(EnvFilter::try_new(filter).map_err(LoggingError::Filter)?),
        Err(env::VarError::NotUnicode(_)) => return Err(LoggingError::NotText),
        _ => None,
    };
    let is_fixed = fixed.is_some();
    let (filter, handle) = reload::Layer::new(fixed.unwrap_or_else(|| level(debug)));
    let journal = is_journal().then(tracing_journald::layer);
    let (layer, failed) = match journal {
        Some(Ok(journal)) => (journal.with_field_prefix(None).boxed(), None),
        Some(Err(error)) => (plain(), Some(error)),
        None => (plain(), None),
    };
    tracing_subscriber::registry().with(filter).with(layer).try_init().map_err(LoggingError::Twice)?;
    if let Some(error) = failed {
        tracing::warn!(%error, "no journal; logging to standard error");
    }
    Ok(Box::new(move |debug| {
        if !is_fixed && let Err(error) = handle.reload(level(debug)) {
            tracing::error!(%error, "the log level stays as it is");
        }
    }))
}

fn level(debug: bool) -> EnvFilter {
    // What our libraries tell about every frame is of no use to an operator.
    EnvFilter::new(if debug { "debug,h2=info,hyper=info,hyper_util=info,tower=info,rustls=info" } else { "info" })
}

fn plain() -> Box<dyn tracing_subscriber::Layer<FilteredRegistry> + Send + Sync> {
    let colours = std::io::stderr().is_terminal() && env::var_os("NO_COLOR").is_none_or(|set| set.is_empty());
    tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(colours).boxed()
}

type FilteredRegistry = tracing_subscriber::layer::Layered<reload::Layer<EnvFilter, Registry>, Registry>;

/// systemd.exec(5), `$JOURNAL_STREAM`: the journal's only while it names standard error's device and inode.
fn is_journal() -> bool {
    let stream = env::var("JOURNAL_STREAM").ok();
    let named =
        stream.as_deref().and_then(|s| s.split_once(':')).and_then(|(d, i)| Some((d.parse().ok()?, i.parse().ok()?)));
    let stderr = std::fs::metadata("/proc/self/fd/2").ok();
    matches!((named, stderr), (Some(named), Some(stderr)) if named == (stderr.dev(), stderr.ino()))
}
