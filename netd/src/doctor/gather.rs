//! Finds out what the checks judge. Everything here only reads; what it opens it closes.

mod docker;
mod host;
mod machine;
mod sockets;
mod wanted;

use std::{fs, io, path::Path};

use super::facts::{Facts, Known, Unknown};
use crate::{
    config::{Config, RunOptions},
    netlink::{Netlink, netfilter},
};

/// Looks at everything. A part that cannot be looked at is unknown.
pub(super) async fn gather(options: &RunOptions) -> Facts {
    let (config, config_error) = match options.resolve() {
        Ok(config) => (config, None),
        Err(error) => (options.over(Config::default()), Some(error.to_string())),
    };
    let daemon = machine::daemon(&config);
    let wanted = wanted::wanted(&config, daemon.as_ref().ok());
    let netlink = Netlink::open().map_err(because);
    let host = host::host(netlink.as_ref(), &config, &wanted).await;
    let hooks = host::hooks(netlink.as_ref(), host.as_ref(), &config.daemon.bpffs).await;
    let missing_capabilities = machine::missing_capabilities();
    let is_privileged = missing_capabilities.as_ref().is_ok_and(Vec::is_empty);
    Facts {
        config_error,
        missing_capabilities,
        release: machine::release(),
        missing_features: machine::missing_features(is_privileged),
        programs: machine::programs(is_privileged),
        cgroup2: machine::cgroup2(),
        bpffs: machine::bpffs(&config.daemon, daemon.as_ref().ok()),
        state_error: machine::state_error(&config.daemon.state_dir, is_privileged),
        sysctls: host::sysctls(host.as_ref(), &wanted, is_privileged),
        managed: host::managed(host.as_ref(), &wanted),
        listeners: sockets::listeners(&wanted),
        docker: docker::docker(&config, daemon.as_ref().ok()).await,
        chains: netfilter::chains().await.map_err(because),
        daemon,
        wanted,
        host,
        hooks,
        config,
    }
}

fn because(error: impl std::error::Error) -> Unknown {
    Unknown::because(&error)
}

/// The text of a small file, trimmed; none where there is no such file.
fn text_of(path: impl AsRef<Path>) -> Known<Option<String>> {
    let path = path.as_ref();
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text.trim().to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Unknown(format!("{}: {error}", path.display()))),
    }
}
