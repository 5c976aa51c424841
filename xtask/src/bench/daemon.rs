//! A netd of our own on the host of a testbed.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

use super::{address::Family, child::Child, netns::Namespace, scratch::Scratch, wait};
use crate::process;

/// The one network and the one endpoint that there are.
const NETWORK: &str = "bench";
const ENDPOINT: &str = "server";

/// A running daemon; it ends when it is dropped, and its pins go with the scratch folders.
pub(super) struct Daemon {
    child: Child,
    netd: PathBuf,
    socket: PathBuf,
    pins: PathBuf,
}

impl Daemon {
    /// Starts `netd run --datapath MODE` on `host` and waits until it is ready.
    ///
    /// # Errors
    /// Fails with what the daemon says if it does not want to run.
    pub(super) fn start(
        netd: &Path,
        mode: &str,
        host: &Namespace,
        uplink: &str,
        scratch: &Scratch,
    ) -> Result<Self> {
        let file = |kind: &str| scratch.file(&format!("{}.{kind}", host.name()));
        let (config, socket, pins) = (file("toml"), file("sock"), scratch.pins(host.name()));
        // An empty one, so that it does not read the machine's own.
        fs::write(&config, "").context("cannot write the daemon's configuration")?;
        let mut command = host.command(netd);
        command.args(["run", "--datapath", mode, "--uplink", uplink, "--config"]).arg(config);
        command.arg("--state-dir").arg(file("state")).arg("--bpffs").arg(&pins);
        command.arg("--socket").arg(&socket);
        let child = Child::start(&mut command, &file("log"))?;
        let mut this = Self { child, netd: netd.to_owned(), socket, pins };
        this.wait_until_ready(mode)?;
        Ok(this)
    }

    fn wait_until_ready(&mut self, mode: &str) -> Result<()> {
        wait::until("netd is ready", Duration::from_secs(30), || {
            let status = self.child.status()?;
            let log = self.child.output();
            if let Some(status) = status {
                bail!("`netd run --datapath {mode}` ended with {status}:\n{}", log.trim());
            }
            Ok(log.split_whitespace().any(|word| word == "ready").then_some(()))
        })
    }

    /// Connects the container to a new network.
    ///
    /// # Errors
    /// Fails as netd does.
    pub(super) fn connect(&self, container: &Namespace, family: Family) -> Result<()> {
        self.ask(["network", "create", NETWORK, "--subnet", family.container_subnet()])?;
        self.ask(["network", "connect", NETWORK, container.name(), "--name", ENDPOINT])
    }

    /// Publishes ports of the container.
    ///
    /// # Errors
    /// Fails as netd does.
    pub(super) fn publish(&self, specs: &[String]) -> Result<()> {
        self.ask(["port", "add", ENDPOINT].into_iter().chain(specs.iter().map(String::as_str)))
    }

    fn ask<'a>(&self, words: impl IntoIterator<Item = &'a str>) -> Result<()> {
        let mut command = std::process::Command::new(&self.netd);
        command.arg("--socket").arg(&self.socket).args(words);
        process::output(&mut command).map(|_answer| ())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Its socket hooks live as long as their pins; the rest goes with the host's devices.
        let _ = fs::remove_dir_all(&self.pins);
    }
}
