//! Network namespaces, and programs inside of them.

use std::{
    fs::{self, File},
    net::IpAddr,
    panic::resume_unwind,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};
use nix::sched::{CloneFlags, setns};

use super::wait;
use crate::process;

/// Where `ip netns` keeps its names.
pub(super) const NAMES: &str = "/run/netns";

/// A network namespace; its name, and with it the namespace, goes when it is dropped.
pub(super) struct Namespace {
    name: String,
    path: PathBuf,
}

impl Namespace {
    /// Makes a namespace whose loopback device is up and whose IPv6 addresses are usable at once.
    ///
    /// # Errors
    /// Fails if it cannot be made.
    pub(super) fn new(name: &str) -> Result<Self> {
        process::output(Command::new("ip").args(["netns", "add", name]))?;
        let this = Self { name: name.to_owned(), path: Path::new(NAMES).join(name) };
        this.ip("link set lo up")?;
        this.set_sysctl("ipv6/conf/default/accept_dad", "0")?;
        Ok(this)
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// A command that runs inside, as its own process, and dies with us.
    ///
    /// `ip netns exec` would hide `/sys/fs/bpf` from it.
    pub(super) fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig=KILL", "nsenter"]);
        command.arg(format!("--net={}", self.path.display())).arg("--").arg(program.as_ref());
        command
    }

    /// As [`Self::command`], on one CPU.
    pub(super) fn command_on(&self, cpu: usize, program: &str) -> Command {
        let mut command = self.command("taskset");
        command.args(["--cpu-list", &cpu.to_string(), program]);
        command
    }

    /// Runs `ip` on the namespace; the line is split at white space.
    ///
    /// # Errors
    /// Fails as `ip` does.
    pub(super) fn ip(&self, line: &str) -> Result<String> {
        let words = line.split_whitespace();
        process::output(Command::new("ip").args(["-netns", &self.name]).args(words))
    }

    /// Brings a device up that has these addresses with their prefix lengths.
    ///
    /// # Errors
    /// Fails as `ip` does.
    pub(super) fn bring_up(&self, ifname: &str, addresses: &[(IpAddr, u8)]) -> Result<()> {
        for (address, prefix_len) in addresses {
            self.ip(&format!("address add {address}/{prefix_len} dev {ifname}"))?;
        }
        self.ip(&format!("link set {ifname} up")).map(|_output| ())
    }

    /// The ends of veth pairs that are inside.
    ///
    /// # Errors
    /// Fails as `ip` does.
    pub(super) fn veths(&self) -> Result<Vec<String>> {
        let links = self.ip("-oneline link show type veth")?;
        let name = |line: &str| Some(line.split(": ").nth(1)?.split('@').next()?.to_owned());
        Ok(links.lines().filter_map(name).collect())
    }

    /// The number of a device.
    ///
    /// # Errors
    /// Fails if there is none of that name.
    pub(super) fn ifindex(&self, ifname: &str) -> Result<u32> {
        let link = self.ip(&format!("-oneline link show dev {ifname}"))?;
        let number = link.split(':').next().and_then(|number| number.parse().ok());
        number.with_context(|| format!("cannot read what ip says of {ifname}"))
    }

    /// Writes a file below `/proc/sys/net` of the namespace.
    ///
    /// # Errors
    /// Fails if it cannot be written.
    pub(super) fn set_sysctl(&self, path: &str, value: &str) -> Result<()> {
        let path = Path::new("/proc/sys/net").join(path);
        self.inside(|| fs::write(&path, value))?
            .with_context(|| format!("cannot write {value} to {}", path.display()))
    }

    /// Runs a closure on a thread of its own inside; sockets made there belong to the namespace.
    ///
    /// # Errors
    /// Fails if the namespace cannot be entered.
    pub(super) fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        let enter = || {
            let file = File::open(&self.path)?;
            setns(file, CloneFlags::CLONE_NEWNET)?;
            Ok::<_, anyhow::Error>(work())
        };
        thread::scope(|scope| scope.spawn(enter).join())
            .unwrap_or_else(|panic| resume_unwind(panic))
            .with_context(|| format!("cannot enter network namespace {}", self.name))
    }

    /// Waits until a TCP socket listens on a port.
    ///
    /// # Errors
    /// Fails if none does in time.
    pub(super) fn wait_for_listener(&self, port: u16) -> Result<()> {
        let what = format!("something listens on TCP port {port} in {}", self.name);
        wait::until(&what, Duration::from_secs(10), || {
            Ok(self.inside(|| has_listener(port))?.then_some(()))
        })
    }
}

/// Looks through the tables of the calling thread's namespace, where 0A is a listening socket.
fn has_listener(port: u16) -> bool {
    let local = format!(":{port:04X}");
    ["tcp", "tcp6"].iter().any(|table| {
        let text = fs::read_to_string(format!("/proc/thread-self/net/{table}")).unwrap_or_default();
        text.lines().skip(1).any(|line| {
            let mut columns = line.split_whitespace().skip(1);
            columns.next().is_some_and(|address| address.ends_with(&local))
                && columns.nth(1) == Some("0A")
        })
    })
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if let Err(error) = process::output(Command::new("ip").args(["netns", "del", &self.name])) {
            eprintln!("xtask: {error:#}");
        }
    }
}
