//! `amphora-interface up|down INTERFACE|all`: puts on a link what its file says (`octavia/cmd/interface.py`,
//! `octavia/amphorae/backends/utils/interface.py`), in the namespace it is called in.
//!
//! The agent needs it for nothing. Units and scripts of a stock image call it, at boot and by hand. Unlike Octavia's, it
//! takes away only what is ours: an address, a route or a rule of another owner stays, whether the file names it or not.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    net::IpAddr,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    time::Duration,
};

use ipnet::IpNet;
use netns::{Error, Kind, Link, Namespace, Network, NewAddress, NewRoute, NewRule};

use crate::{
    child,
    config::{Config, Flag, Sources},
    interfaces::{
        self,
        file::{Interface, Kind as For, Route, Script},
    },
    kernel::RULE_PRIORITY,
    resolve::MAIN_TABLE,
};

/// How long duplicate address detection may take (`TENTATIVE_WAIT_TIMEOUT`).
const SETTLE: Duration = Duration::from_secs(30);
/// How long a script may take.
const SCRIPT: Duration = Duration::from_secs(30);
const USAGE: &str = "usage: amphora-interface [up|down] <interface>";

/// The program.
pub(super) fn main(arguments: &[OsString]) -> ExitCode {
    let words: Vec<_> = arguments.iter().map(|a| a.to_string_lossy().into_owned()).collect();
    // The last two; before them may stand oslo.config's flags.
    let [flags @ .., action, interface] = &words[..] else {
        println!("{USAGE}");
        return ExitCode::from(1);
    };
    match run(flags, action, interface) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("Error: {error}");
            ExitCode::from(2)
        }
    }
}

type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

fn run(flags: &[String], action: &str, interface: &str) -> Result<()> {
    let up = match action {
        "up" => true,
        "down" => false,
        _ => return Err(format!("Could not configure interface: Unknown action '{action}'").into()),
    };
    let (directory, base) = directories(flags);
    let mut found = files(&directory)?;
    found.retain(|file| interface == "all" || file.name == interface);
    if found.is_empty() && interface != "all" {
        return Err(format!("Could not configure interface: Could not find interface '{interface}'.").into());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let errors: Vec<_> = runtime.block_on(async {
        let network = Namespace::current()?.network()?;
        let mut errors = Vec::new();
        for file in &found {
            let done = if up { bring_up(&network, file, &base).await } else { take_down(&network, file).await };
            let error = |e| format!("Error on action '{action}' for interface {}: {e}.", file.name);
            errors.extend(done.err().map(error));
        }
        Ok::<_, Error>(errors)
    })?;
    if errors.is_empty() { Ok(()) } else { Err(format!("Could not configure interface: {}", errors.join(", ")).into()) }
}

/// Where the files are: as the agent's configuration says, or where it says nothing usable, in Octavia's places.
fn directories(flags: &[String]) -> (PathBuf, PathBuf) {
    let words: Vec<&str> = flags.iter().flat_map(|flag| flag.split('=')).collect();
    let flags = words.chunks_exact(2).filter_map(|pair| match pair[0] {
        "--config-file" => Some(Flag::File(pair[1].into())),
        "--config-dir" => Some(Flag::Directory(pair[1].into())),
        _ => None,
    });
    match Config::load(&Sources::new(flags.collect(), Path::new("/etc/octavia"))) {
        Ok(config) => (interfaces::directory(&config.paths), config.paths.base),
        Err(_) => (interfaces::DIRECTORY.into(), "/var/lib/octavia".into()),
    }
}

fn files(directory: &Path) -> Result<Vec<Interface>> {
    let mut names: Vec<_> = directory.read_dir()?.collect::<std::io::Result<Vec<_>>>()?;
    names.sort_by_key(std::fs::DirEntry::file_name);
    let json = names.into_iter().map(|e| e.path()).filter(|p| p.extension().is_some_and(|e| e == "json"));
    json.map(|path| {
        let file = Interface::from_json(&std::fs::read(&path)?);
        file.map_err(|e| format!("{}: {e}", path.display()).into())
    })
    .collect()
}

async fn link(network: &Network, file: &Interface) -> Result<Link> {
    let found = network.links().await?.into_iter().find(|l| l.name == file.name);
    found.ok_or_else(|| format!("there is no link {}", file.name).into())
}

async fn bring_up(network: &Network, file: &Interface, base: &Path) -> Result<()> {
    if file.is_sriov {
        let rules = base.join(interfaces::RULES);
        let mut nft = Command::new("nft");
        script(nft.arg("-f").arg(&rules)).map_err(|e| format!("the rules of {}: {e}", rules.display()))?;
    }
    let link = link(network, file).await?;
    if !link.up {
        if let Some(mtu) = file.mtu {
            network.set_mtu(link.index, mtu).await?;
        }
        if file.addresses.iter().any(|a| a.ipv6auto == Some(true)) {
            for key in ["accept_ra", "autoconf"] {
                let value = if key == "accept_ra" { "2" } else { "1" };
                network.namespace().set_sysctl(&format!("net.ipv6.conf.{}.{key}", link.name), value)?;
            }
        }
        network.set_up(link.index).await?;
    }
    addresses(network, file, link.index).await?;
    routes(network, file, link.index).await?;
    if file.if_type == For::Vip {
        rules(network, file).await?;
    }
    scripts(&file.scripts.up)
}

async fn addresses(network: &Network, file: &Interface, index: u32) -> Result<()> {
    let mut named = BTreeSet::new();
    for address in &file.addresses {
        let (Some(text), Some(prefix_len)) = (&address.address, address.prefixlen) else { continue };
        let ip: IpAddr = text.parse()?;
        named.insert((ip, prefix_len));
        // What another program looks after is neither added nor taken away.
        if address.octavia_owned != Some(false) {
            network.add_address(&NewAddress { index, ip, prefix_len, nodad: false, deprecated: false }).await?;
        }
    }
    for (ip, _) in named.iter().filter(|(ip, _)| ip.is_ipv6()) {
        match network.wait_not_tentative(index, *ip, SETTLE).await {
            Err(error) if error.kind != Kind::Missing => println!("{error}"),
            _ => {}
        }
    }
    let ours = |a: &&netns::Address| a.index == index && a.ours && !named.contains(&(a.ip, a.prefix_len));
    for a in network.addresses().await?.iter().filter(ours) {
        network.delete_address(index, a.ip, a.prefix_len).await?;
    }
    Ok(())
}

async fn routes(network: &Network, file: &Interface, index: u32) -> Result<()> {
    let wanted = file.routes.iter().map(|r| route(r, index)).collect::<Result<Vec<_>>>()?;
    for route in &wanted {
        // A tenant's host route may be nonsense, and another's route may be there; neither fails the interface.
        match network.add_route(route).await {
            Err(error) if !matches!(error.kind, Kind::Conflict { .. }) => println!("{error}"),
            _ => {}
        }
    }
    let named = |r: &netns::Route| wanted.iter().any(|w| r.table == w.table && r.destination == w.destination);
    for route in network.routes().await?.iter().filter(|r| r.device == Some(index) && r.ours && !named(r)) {
        network.delete_route(&route.to_new()).await?;
    }
    Ok(())
}

fn route(route: &Route, device: u32) -> Result<NewRoute> {
    let gateway = route.gateway.as_deref().map(str::parse::<IpAddr>).transpose()?;
    Ok(NewRoute {
        table: route.table.unwrap_or(MAIN_TABLE),
        destination: route.dst.parse::<IpNet>()?.trunc(),
        metric: 0,
        gateway,
        device: Some(device),
        source: route.prefsrc.as_deref().map(str::parse).transpose()?,
        onlink: gateway.is_some(),
    })
}

fn wanted_rules(file: &Interface) -> Result<Vec<NewRule>> {
    let rule = |r: &interfaces::file::Rule| {
        Ok(NewRule { from: IpNet::new(r.src.parse()?, r.src_len)?, table: r.table, priority: RULE_PRIORITY })
    };
    file.rules.iter().map(rule).collect()
}

async fn rules(network: &Network, file: &Interface) -> Result<()> {
    let wanted = wanted_rules(file)?;
    for rule in &wanted {
        network.add_rule(rule).await?;
    }
    // Those of other interfaces look into other tables.
    let tables: BTreeSet<_> = wanted.iter().map(|r| r.table).collect();
    let there = network.rules().await?.into_iter().filter(|r| r.ours && tables.contains(&r.table));
    for rule in there.filter_map(|r| r.to_new()).filter(|r| !wanted.contains(r)) {
        network.delete_rule(&rule).await?;
    }
    Ok(())
}

/// Takes away what is ours of what the file names, and takes the link down.
async fn take_down(network: &Network, file: &Interface) -> Result<()> {
    let link = link(network, file).await?;
    if !link.up {
        return Ok(());
    }
    let tolerate = |done: Result<bool, Error>| match done {
        Err(error) if error.kind != Kind::NotOurs => println!("{error}"),
        _ => {}
    };
    if file.if_type == For::Vip {
        for rule in wanted_rules(file)? {
            tolerate(network.delete_rule(&rule).await);
        }
    }
    for r in &file.routes {
        tolerate(network.delete_route(&route(r, link.index)?).await);
    }
    for a in network.addresses().await?.iter().filter(|a| a.index == link.index && a.ours) {
        tolerate(network.delete_address(a.index, a.ip, a.prefix_len).await);
    }
    network.set_down(link.index).await?;
    scripts(&file.scripts.down)
}

fn scripts(scripts: &[Script]) -> Result<()> {
    for Script { command } in scripts {
        let mut words = command.split_whitespace();
        let Some(program) = words.next() else { continue };
        // That one is a part of this very program.
        let mut run = match Path::new(program).file_name() {
            Some(name) if name == "lvs-masquerade.sh" => {
                let mut own = Command::new(super::own_path());
                own.arg("lvs-masquerade");
                own
            }
            _ => Command::new(program),
        };
        script(run.args(words)).map_err(|e| format!("{command}: {e}"))?;
    }
    Ok(())
}

fn script(command: &mut Command) -> Result<()> {
    let ended = child::run(command, None, b"", SCRIPT)?;
    if ended.status.success() { Ok(()) } else { Err(format!("{}: {}", ended.status, ended.text.trim()).into()) }
}
