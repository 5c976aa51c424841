//! The demo's machines: the host, which is this process's own network namespace, a client outside,
//! and two containers on two networks of netd's.

use std::{
    fs::{self, File},
    net::IpAddr,
    os::fd::AsRawFd as _,
    path::Path,
};

use anyhow::{Context as _, Result, bail};
use nix::{
    mount::{MsFlags, mount},
    unistd::sethostname,
};
use serde_json::Value;

use super::{
    report::Report,
    scenario::{Addresses, Both, MACHINES, NETWORKS},
    server::{self, Server},
    shell,
};
use crate::mounts;

/// Where everything of the demo's is, in a file system of its own.
pub(super) const DIR: &str = "/run/netd-demo";

/// Network namespaces have their names below this, and netd its socket.
const RUN: &str = "/run";

/// The namespaces beside the host's, each with a web server.
const NAMESPACES: [&str; 3] = ["client", "web", "app"];

pub(super) struct World {
    pub(super) addresses: Addresses,
    servers: Vec<Server>,
}

impl World {
    /// Makes the machines and starts netd, with containers on its networks and their servers.
    ///
    /// # Errors
    /// Fails if any of that does.
    pub(super) fn set_up(netd: &Path, datapath: Option<&str>, report: &mut Report) -> Result<Self> {
        make_private(netd)?;
        report
            .title("A host, a client on its link and two containers: plain network namespaces")?;
        for line in MACHINES {
            report.step(line)?;
            shell::run(line)?;
        }
        report.title("netd on the host")?;
        start_daemon(datapath, report)?;
        for line in NETWORKS {
            report.step(line)?;
            shell::run(line)?;
        }
        report.title("A web server on the client and in each container")?;
        let mut servers = Vec::new();
        for name in NAMESPACES {
            report.step(&format!("{} &", server::line(name)))?;
            servers.push(Server::start(name)?);
        }
        for server in &mut servers {
            server.wait_until_it_listens()?;
        }
        wait_until_addresses_are_usable()?;
        Ok(Self { addresses: addresses()?, servers })
    }

    /// The server of a namespace.
    ///
    /// # Errors
    /// Fails if there is none.
    pub(super) fn server(&self, name: &str) -> Result<&Server> {
        let mut servers = self.servers.iter();
        servers.find(|server| server.name == name).with_context(|| format!("no server on {name}"))
    }
}

/// Puts file systems of our own where things would otherwise be seen by others: names of namespaces,
/// netd's socket, state, pins and logs.
fn make_private(netd: &Path) -> Result<()> {
    mounts::make_private()?;
    // It may itself be below /run.
    let netd = File::open(netd).with_context(|| format!("cannot open {}", netd.display()))?;
    mounts::mount_over(RUN, "tmpfs")?;
    fs::create_dir(DIR).with_context(|| format!("cannot make {DIR}"))?;
    let place = Path::new(DIR).join("netd");
    File::create(&place).with_context(|| format!("cannot make {}", place.display()))?;
    let source = format!("/proc/self/fd/{}", netd.as_raw_fd());
    let (source, nothing) = (Some(source.as_str()), None::<&str>);
    mount(source, &place, nothing, MsFlags::MS_BIND, nothing).context("cannot mount netd")?;
    // Web servers look up the name of the machine that they run on; this one needs no DNS.
    sethostname("localhost").context("cannot set the demo's host name")
}

fn start_daemon(datapath: Option<&str>, report: &mut Report) -> Result<()> {
    let config = Path::new(DIR).join("netd.toml");
    // Empty, so that the one of the machine, /etc/netd/netd.toml, is not read.
    File::create(&config).with_context(|| format!("cannot make {}", config.display()))?;
    let datapath = datapath.map(|mode| format!(" --datapath {mode}")).unwrap_or_default();
    let line = format!(
        "netd run --config {DIR}/netd.toml --state-dir {DIR}/state --bpffs {DIR}/bpf{datapath}"
    );
    report.step(&format!("{line} &"))?;
    let log = Path::new(DIR).join("netd.log");
    let mut daemon = shell::start_with_log(&line, &log)?;
    shell::eventually("netd answers", || {
        if let Some(status) = daemon.try_wait().context("cannot wait for netd")? {
            let log = fs::read_to_string(&log).unwrap_or_default();
            bail!("netd ended: {status}\n{}", log.trim());
        }
        Ok(shell::run("netd network ls").is_ok())
    })
}

/// IPv6 first makes sure that nobody else has an address.
fn wait_until_addresses_are_usable() -> Result<()> {
    shell::eventually("no address is tentative", || {
        let mut text = shell::run("ip -6 address show tentative")?;
        for name in NAMESPACES {
            text += &shell::run(&format!("ip -n {name} -6 address show tentative"))?;
        }
        Ok(text.is_empty())
    })
}

/// Asks netd for the addresses that it has given out.
fn addresses() -> Result<Addresses> {
    let inspected = shell::run("netd endpoint inspect web app --json")?;
    let endpoints: Value =
        serde_json::from_str(&inspected).context("netd wrote something that is not JSON")?;
    let both = |at: usize, keys: [&str; 2]| -> Result<Both> {
        let [v4, v6] = keys.map(|key| address(&endpoints[at][key]));
        Ok(Both { v4: v4?, v6: v6? })
    };
    let own = ["ipv4", "ipv6"];
    let gateways = ["gateway", "gateway6"];
    Ok(Addresses { web: both(0, own)?, app: both(1, own)?, web_gateway: both(0, gateways)? })
}

/// An address with or without its prefix length.
fn address(value: &Value) -> Result<IpAddr> {
    let text = value.as_str().and_then(|text| text.split('/').next()).unwrap_or_default();
    text.parse().with_context(|| format!("netd gave {value} for an address"))
}
