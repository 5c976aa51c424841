//! `/etc/netd/netd.toml` and what the command line puts over it.
//!
//! Every key is optional. A key that netd does not know is refused with its line, since a misspelt
//! `snat` is worse than none.

mod timeouts;

use std::{
    fs, io,
    num::NonZeroU32,
    path::{Path, PathBuf},
};

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, de::Error as _};
use thiserror::Error;

use crate::{
    ipam::{Pool, PoolError},
    model::{DatapathMode, FirewallMark, NatMode},
};

pub use timeouts::Timeouts;

/// Where the configuration is looked for when nobody names a file.
pub const DEFAULT_PATH: &str = "/etc/netd/netd.toml";

/// Where the daemon answers.
pub const DEFAULT_SOCKET: &str = "/run/netd/netd.sock";

/// What the daemon goes by.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    pub daemon: DaemonConfig,
    pub uplinks: UplinksConfig,
    pub datapath: DatapathConfig,
    pub timeouts: Timeouts,
    pub pools: PoolsConfig,
    pub docker: DockerConfig,
}

/// `[daemon]`: where things are.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DaemonConfig {
    pub socket: PathBuf,
    pub state_dir: PathBuf,
    pub bpffs: PathBuf,
}

/// `[uplinks]`: which devices lead out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UplinksConfig {
    /// Where empty, every device that can be one is.
    pub names: Vec<String>,
}

/// `[datapath]`: how packets are handled.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DatapathConfig {
    /// For networks that do not say it themselves.
    pub mode: DatapathMode,
    pub xdp: XdpMode,
    /// Published ports are reached at the containers' own addresses too, from every uplink.
    pub allow_direct_routing: bool,
    /// Whether packets and bytes are counted by flow.
    pub flow_accounting: bool,
    /// The size of the connection table.
    #[serde(deserialize_with = "table_size")]
    pub max_flows: NonZeroU32,
    /// The most flows of an endpoint that does not say it itself.
    pub max_flows_per_endpoint: Option<NonZeroU32>,
    /// The most flows of a network that does not say it itself.
    pub max_flows_per_network: Option<NonZeroU32>,
    /// Whether connections are picked up in the middle.
    pub tcp_loose: bool,
    /// How source ports are given on networks that do not say it themselves.
    pub nat: NatMode,
}

/// Whether hostile frames end in the drivers of uplinks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum XdpMode {
    /// Where a driver has native XDP that costs nothing else.
    #[default]
    Auto,
    /// Wherever there is native XDP; where there is none it is a fault.
    Drop,
    /// Nowhere.
    Off,
}

/// `[pools]`: where subnets are taken from that nobody chose.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PoolsConfig {
    /// Docker's `default-address-pools`. A family without one keeps its default pools.
    #[serde(alias = "default-address-pools")]
    pub default_address_pools: Vec<Pool>,
}

/// `[docker]`: whether a Docker host's networks are netd's work.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DockerConfig {
    pub enabled: DockerMode,
    /// The address of Docker's API, `unix://` and a path.
    #[serde(deserialize_with = "unix_address")]
    pub host: PathBuf,
    /// Whether containers on docker0 reach each other: dockerd takes `icc` with iptables only.
    pub icc: Option<bool>,
    /// The mark with which packets from trusted devices enter, in place of dockerd's `bridge-accept-fwmark`.
    pub accept_mark: Option<FirewallMark>,
}

/// Whether Docker's networks are adopted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DockerMode {
    /// Where there is a dockerd that leaves its networks' packets to others.
    #[default]
    Auto,
    On,
    Off,
}

impl<'de> Deserialize<'de> for DockerMode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "true, false or \"auto\"")]
        enum Text {
            Switch(bool),
            Word(String),
        }
        match Text::deserialize(deserializer)? {
            Text::Switch(true) => Ok(Self::On),
            Text::Switch(false) => Ok(Self::Off),
            Text::Word(word) if word == "auto" => Ok(Self::Auto),
            Text::Word(word) => {
                Err(D::Error::custom(format!("{word:?} is neither true, false nor \"auto\"")))
            }
        }
    }
}

fn unix_address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
    let text = String::deserialize(deserializer)?;
    let path = text.strip_prefix("unix://").filter(|path| path.starts_with('/'));
    path.map(PathBuf::from).ok_or_else(|| {
        D::Error::custom(format!("{text:?} is no socket of this host: write unix:///path"))
    })
}

impl Default for DockerConfig {
    fn default() -> Self {
        Self {
            enabled: DockerMode::default(),
            host: "/var/run/docker.sock".into(),
            icc: None,
            accept_mark: None,
        }
    }
}

/// What the command line of `netd run` says; it wins over the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunOptions {
    pub config: Option<PathBuf>,
    pub socket: Option<PathBuf>,
    pub state_dir: Option<PathBuf>,
    pub bpffs: Option<PathBuf>,
    pub datapath: Option<DatapathMode>,
    pub xdp: Option<XdpMode>,
    pub uplinks: Vec<String>,
}

/// Why the configuration cannot be used.
#[derive(Debug, Error)]
pub enum ConfigError {
    #[error(
        "the configuration {path} cannot be read: {source}; check the path given with --config"
    )]
    Read { path: PathBuf, source: io::Error },
    #[error("{path}, line {line}: {message}; correct the line or remove it")]
    Parse { path: PathBuf, line: usize, message: Box<str> },
    #[error(
        "{bpffs} for the pins and {state_dir} for the state are not apart, and a bpffs holds no files: give \
         --bpffs and --state-dir directories of which neither is in the other"
    )]
    Nested { bpffs: PathBuf, state_dir: PathBuf },
}

impl Config {
    /// Reads the configuration: the file at `path`, or the one at the default path, if there is one.
    ///
    /// # Errors
    /// Where the named file is missing or a file has an error.
    pub fn load(path: Option<&Path>) -> Result<Self, ConfigError> {
        let (path, is_named) = (path.unwrap_or(Path::new(DEFAULT_PATH)), path.is_some());
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(&text, path),
            Err(error) if error.kind() == io::ErrorKind::NotFound && !is_named => {
                Ok(Self::default())
            }
            Err(source) => Err(ConfigError::Read { path: path.to_owned(), source }),
        }
    }

    /// Reads the text of the file at `path`.
    ///
    /// # Errors
    /// Where the text has an error: in which line, and what.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        toml::from_str(text).map_err(|error| {
            let offset = error.span().map_or(0, |span| span.start.min(text.len()));
            let line = text.as_bytes()[..offset].iter().filter(|&&byte| byte == b'\n').count() + 1;
            let message = error.message().replace('\n', " ").into();
            ConfigError::Parse { path: path.to_owned(), line, message }
        })
    }
}

impl RunOptions {
    /// The configuration with these options put over it; reads the file afresh each time.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn resolve(&self) -> Result<Config, ConfigError> {
        let config = self.over(Config::load(self.config.as_deref())?);
        config.daemon.check()?;
        Ok(config)
    }

    /// A configuration with these options put over it.
    pub fn over(&self, mut config: Config) -> Config {
        let replace = |place: &mut PathBuf, option: &Option<PathBuf>| {
            if let Some(path) = option {
                place.clone_from(path);
            }
        };
        replace(&mut config.daemon.socket, &self.socket);
        replace(&mut config.daemon.state_dir, &self.state_dir);
        replace(&mut config.daemon.bpffs, &self.bpffs);
        config.datapath.mode = self.datapath.unwrap_or(config.datapath.mode);
        config.datapath.xdp = self.xdp.unwrap_or(config.datapath.xdp);
        if !self.uplinks.is_empty() {
            config.uplinks.names.clone_from(&self.uplinks);
        }
        config
    }
}

impl DaemonConfig {
    /// Checks that pins and state do not get in each other's way, whatever they are called by.
    fn check(&self) -> Result<(), ConfigError> {
        let (bpffs, state_dir) = (real_path(&self.bpffs), real_path(&self.state_dir));
        if bpffs.starts_with(&state_dir) || state_dir.starts_with(&bpffs) {
            return Err(ConfigError::Nested { bpffs, state_dir });
        }
        Ok(())
    }
}

/// How many symbolic links the kernel follows in a path.
const MOST_LINKS: u32 = 40;

/// A path without symbolic links and `..`, whatever of it is missing.
fn real_path(path: &Path) -> PathBuf {
    let reversed = |path: &Path| path.components().rev().map(|it| it.as_os_str().into()).collect();
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut rest: Vec<PathBuf> = reversed(&path);
    let (mut real, mut links) = (PathBuf::new(), 0);
    while let Some(part) = rest.pop() {
        match fs::read_link(real.join(&part)) {
            _ if part.as_os_str() == ".." => drop(real.pop()),
            Ok(target) if links < MOST_LINKS => {
                links += 1;
                rest.extend::<Vec<PathBuf>>(reversed(&target));
            }
            _ => real.push(part),
        }
    }
    real
}

impl Default for DaemonConfig {
    fn default() -> Self {
        Self {
            socket: DEFAULT_SOCKET.into(),
            state_dir: "/var/lib/netd".into(),
            bpffs: "/sys/fs/bpf/netd".into(),
        }
    }
}

/// The most flows that a table may be asked to take: beyond, the kernel refuses it, or takes memory by gigabytes.
const LARGEST_TABLE: u32 = 1 << 24;

fn table_size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<NonZeroU32, D::Error> {
    let flows = NonZeroU32::deserialize(deserializer)?;
    if flows.get() > LARGEST_TABLE {
        return Err(D::Error::custom(format!("a table takes at most {LARGEST_TABLE} flows")));
    }
    Ok(flows)
}

impl Default for DatapathConfig {
    fn default() -> Self {
        // The kernel's own `nf_conntrack_max` on a host of 4 GB and more.
        const MAX_FLOWS: NonZeroU32 = NonZeroU32::new(262_144).expect("not zero");
        Self {
            mode: DatapathMode::default(),
            xdp: XdpMode::default(),
            allow_direct_routing: false,
            flow_accounting: false,
            max_flows: MAX_FLOWS,
            max_flows_per_endpoint: None,
            max_flows_per_network: None,
            tcp_loose: true,
            nat: NatMode::default(),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PoolSection {
    base: IpNet,
    size: u8,
}

impl TryFrom<PoolSection> for Pool {
    type Error = PoolError;

    fn try_from(section: PoolSection) -> Result<Self, PoolError> {
        Self::new(section.base, section.size)
    }
}

impl<'de> Deserialize<'de> for Pool {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let section = PoolSection::deserialize(deserializer)?;
        section.try_into().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests;
