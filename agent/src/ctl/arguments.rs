//! The command line of `amphoractl`.

use std::{net::IpAddr, path::PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::server::local;

/// What the exit codes mean, for help and man page.
pub(super) const EXIT_CODES: &str = "0  all that was asked for is shown or done, and is as it should be\n\
                                     1  it is shown or done, and something is degraded: it is named, with the fix\n\
                                     2  it could not be: the agent is down or refused, or the command line is wrong";

/// Shows and steers the amphora agent of this machine.
///
/// It talks to the agent's UNIX socket, which is for root alone.
#[derive(Debug, Parser)]
#[command(name = "amphoractl", version, after_help = format!("Exit codes:\n{EXIT_CODES}"))]
pub(super) struct Arguments {
    /// The agent's socket.
    #[arg(long, global = true, value_name = "PATH", default_value = local::SOCKET)]
    pub(super) socket: PathBuf,
    /// How to show what the agent says.
    #[arg(short, long, global = true, value_name = "FORMAT", value_enum, default_value_t)]
    pub(super) output: Output,
    #[command(subcommand)]
    pub(super) command: Command,
}

/// How an answer is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Output {
    /// Aligned columns, for people.
    #[default]
    Table,
    /// The API's own JSON.
    Json,
}

/// What is asked for.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Tell how this amphora is, and what to do about each thing that is not well.
    Status(Watch),
    /// Show the BGP sessions.
    Peers(Watch),
    /// Show each VIP: where it is, and whether it is announced.
    Vips(Watch),
    /// Show the routes of each amphora, as they are advertised right now.
    Amphorae {
        /// Of this VIP only.
        #[arg(long, value_name = "IP")]
        vip_ip: Option<IpAddr>,
        #[command(flatten)]
        watch: Watch,
    },
    /// Show why a VIP is announced, or is not: each gate with its evidence, and since when.
    Why {
        /// The VIP.
        vip: IpAddr,
        #[command(flatten)]
        watch: Watch,
    },
    /// Announce a VIP with a next hop.
    Register(Register),
    /// Withdraw what was registered. Without a filter that is everything of the amphora's.
    Unregister(Unregister),
    /// Have clients leave before an amphora is taken out of service; goes on in the background.
    Drain(Drain),
    /// End a drain: announce as before.
    Undrain {
        /// The amphora; this one when left out.
        amphora_id: Option<String>,
        /// This VIP only.
        #[arg(long, value_name = "IP")]
        vip: Option<IpAddr>,
    },
    /// Check the agent's configuration and its certificates, as `amphora-agent --check-config` does.
    CheckConfig {
        /// A configuration file; may be repeated. /etc/octavia/amphora-agent.conf when left out.
        #[arg(long, value_name = "FILE")]
        config_file: Vec<PathBuf>,
        /// A directory of *.conf files; may be repeated. /etc/octavia/amphora-agent.conf.d when left out.
        #[arg(long, value_name = "DIR")]
        config_dir: Vec<PathBuf>,
    },
    /// Put all that helps to find a fault into one file, without a secret in it. Works also while the agent is down.
    SupportBundle {
        /// Where to; a file that is there already stays. In this directory, named by host and time, when left out.
        #[arg(short, long, value_name = "PATH")]
        file: Option<PathBuf>,
    },
    /// Print a completion script for a shell.
    Completion {
        /// Which.
        shell: Shell,
    },
    /// Print the man page.
    Man,
}

/// Whether to show it again and again.
#[derive(Args, Clone, Copy, Debug)]
pub(super) struct Watch {
    /// Show it anew every so many seconds, two when no number is given, until interrupted.
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "2")]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=3600))]
    pub(super) watch: Option<u16>,
}

/// The fields of `POST /1.0/distributor/amphorae`, or of `/1.0/distributor/vips`.
#[derive(Args, Debug)]
pub(super) struct Register {
    /// The VIP.
    #[arg(long, value_name = "IP")]
    pub(super) vip_ip: IpAddr,
    /// Where the fabric shall send its packets: the front-end IP of the amphora.
    #[arg(long, value_name = "IP")]
    pub(super) nexthop_ip: IpAddr,
    /// The amphora that serves it; this one when left out.
    #[arg(long, value_name = "ID", conflicts_with = "end_point")]
    pub(super) amphora_id: Option<String>,
    /// The only peer to announce it to; all of them when left out.
    #[arg(long, value_name = "NAME")]
    pub(super) peer_id: Option<String>,
    /// What serves it is no amphora.
    #[arg(long)]
    pub(super) end_point: bool,
}

/// The parameters of `DELETE /1.0/distributor/amphorae/{amphora_id}`, or of `/1.0/distributor/vips/{vip}`.
#[derive(Args, Debug)]
pub(super) struct Unregister {
    /// The amphora; this one when left out.
    #[arg(long, value_name = "ID", conflicts_with = "end_point")]
    pub(super) amphora_id: Option<String>,
    /// This VIP only.
    #[arg(long, value_name = "IP")]
    pub(super) vip_ip: Option<IpAddr>,
    /// With this next hop only.
    #[arg(long, value_name = "IP")]
    pub(super) nexthop_ip: Option<IpAddr>,
    /// Registered for this peer only.
    #[arg(long, value_name = "NAME")]
    pub(super) peer_id: Option<String>,
    /// What serves it is no amphora.
    #[arg(long, requires = "vip_ip")]
    pub(super) end_point: bool,
}

/// The fields of `PUT /1.0/distributor/amphorae/{amphora_id}/drain`.
#[derive(Args, Debug)]
pub(super) struct Drain {
    /// The amphora; this one when left out.
    pub(super) amphora_id: Option<String>,
    /// How long to wait for connections to end, in seconds; a week at most.
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    pub(super) timeout: u32,
    /// So many connections need not be waited for.
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    pub(super) max_connections: u32,
    /// This VIP only.
    #[arg(long, value_name = "IP")]
    pub(super) vip: Option<IpAddr>,
}
