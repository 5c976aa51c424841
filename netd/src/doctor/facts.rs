//! What is known of the host. Each part may be unknown, for a reason.

use std::{error::Error, path::PathBuf};

use ipnet::IpNet;

use crate::{
    api::Conflict,
    config::Config,
    data_path,
    datapath::probe::{Direction, Foreign, Loaded},
    firewall::Chain,
    model::{self, PublishedPort},
    netlink::{addr::Address, classifier::Classifier, link::Link, route::Route},
    uplinks::Uplink,
};

/// A fact, or why it is none.
pub(super) type Known<T> = Result<T, Unknown>;

/// Why something is not known, in one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unknown(pub String);

/// Everything that the checks judge.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    /// What is wrong with the configuration.
    pub config_error: Option<String>,
    /// The daemon's configuration, or the default where that cannot be read.
    pub config: Config,
    /// The names of the capabilities that are needed and not held.
    pub missing_capabilities: Known<Vec<String>>,
    /// As `uname -r` says it.
    pub release: Known<String>,
    pub missing_features: Known<Vec<&'static str>>,
    pub programs: Known<Programs>,
    pub cgroup2: Known<Cgroup2>,
    pub bpffs: Known<Bpffs>,
    /// What keeps the state directory from being written.
    pub state_error: Known<Option<String>>,
    pub daemon: Known<Daemon>,
    pub wanted: Wanted,
    pub host: Known<Host>,
    /// What of XDP, classifiers and TCX is on uplinks.
    pub hooks: Known<Hooks>,
    pub chains: Known<Vec<Chain>>,
    pub sysctls: Sysctls,
    pub listeners: Known<Vec<Listener>>,
    pub docker: Known<Docker>,
    pub managed: Vec<Managed>,
}

/// Whether the kernel takes the programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Programs {
    Loaded(Loaded),
    Refused(String),
}

/// Where the socket hooks can be attached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Cgroup2 {
    At(PathBuf),
    /// The daemon mounts it.
    NotMounted,
    /// The kernel has none.
    Absent,
}

/// Where programs and maps are pinned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bpffs {
    pub is_supported: bool,
    pub is_mounted: bool,
    /// It is that of the daemon which runs, as that one sees it.
    pub is_daemons: bool,
    /// Pins are there still when the daemon has ended.
    pub outlives: Known<bool>,
    /// The name of this network namespace, if it has one.
    pub namespace: Option<String>,
    /// Who else has pins there.
    pub owner_error: Option<String>,
}

/// Who runs already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Daemon {
    /// Nobody.
    None,
    /// The one that was asked.
    Here,
    /// One of this network namespace, which does not answer at the socket.
    Silent,
    /// One of another network namespace answers at the socket.
    Elsewhere,
    /// Something else than a socket lies there.
    NotASocket,
    /// One of another network namespace has its pins in the folder.
    OnOurPins,
}

/// The networks and ports that there are, or are to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    /// Why they are not known.
    pub error: Option<String>,
    /// There is a store, or a daemon that said what it has.
    pub exists: bool,
    pub networks: Vec<WantedNetwork>,
    pub ports: Vec<WantedPort>,
    /// The host's ends of endpoints.
    pub host_ifnames: Vec<String>,
    pub trusted_interfaces: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct WantedNetwork {
    pub name: String,
    pub bridge: String,
    pub mtu: u32,
    pub subnets: Vec<IpNet>,
    /// Its TCP connections agree on smaller segments.
    pub has_mss_clamp: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct WantedPort {
    pub endpoint: String,
    pub port: PublishedPort,
    /// Docker publishes it, and holds it.
    pub is_dockers: bool,
}

/// Devices, addresses and routes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Host {
    pub links: Vec<Link>,
    pub addresses: Vec<Address>,
    pub routes: Vec<Route>,
    pub uplinks: Vec<Uplink>,
}

/// What hangs on the uplinks, by their names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Hooks {
    /// Programs of others.
    pub xdp: Vec<(String, XdpProgram)>,
    pub tcx: Vec<(String, Direction, Foreign)>,
    pub classifiers: Vec<(String, Classifier)>,
    /// Uplinks with a queueing discipline in the place of the one that netd needs.
    pub ingress_qdiscs: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct XdpProgram {
    pub program: Foreign,
    pub is_generic: bool,
}

/// Kernel settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sysctls {
    /// Those that the daemon needs and cannot set, each with the reason.
    pub refused: Known<Vec<String>>,
    /// The kernel has IPv6, and it is not switched off.
    pub has_ipv6: bool,
    /// Uplinks whose `rp_filter` is strict.
    pub strict_uplinks: Vec<String>,
    /// Uplinks and bridges that do not forward IPv4, though the host does.
    pub not_forwarding: Vec<String>,
    /// Uplinks that forward IPv6 and are to lose the route that a router advertised.
    pub losing_routes: Vec<String>,
    /// The settings of `net.bridge` by which frames that a bridge switches meet the host's rules.
    pub bridge_filters: Vec<&'static str>,
}

/// What is known of Docker on this host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Docker {
    /// There is a dockerd, or a netd that follows one.
    pub is_here: bool,
    /// What it does that netd would do again.
    pub conflicts: Vec<Conflict>,
    /// What the daemon could not take up.
    pub faults: Vec<String>,
}

/// A socket of the host's that waits for clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Listener {
    pub socket: model::Listener,
    /// Whose it is: a name and a number.
    pub process: Option<(String, u32)>,
}

/// A device of netd's that somebody else configures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Managed {
    pub manager: Manager,
    pub ifname: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manager {
    NetworkManager,
    Networkd,
}

impl Unknown {
    /// An error with its causes.
    pub(super) fn because(error: &dyn Error) -> Self {
        let mut text = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            let words = error.to_string();
            if !text.contains(&words) {
                text = format!("{text}: {words}");
            }
            cause = error.source();
        }
        Self(text.replace('\n', "; "))
    }
}

impl Wanted {
    /// Whether the device is netd's own.
    pub(super) fn has_device(&self, name: &str) -> bool {
        let is_bridge = self.networks.iter().any(|network| network.bridge == name);
        is_bridge || self.host_ifnames.iter().any(|ifname| ifname == name)
    }

    pub(super) fn has_ipv6(&self) -> bool {
        let mut subnets = self.networks.iter().flat_map(|network| &network.subnets);
        subnets.any(|subnet| subnet.addr().is_ipv6())
    }
}

impl Host {
    /// What speaks for a way of packets, or against it.
    pub(super) fn path_facts(&self, chains: &[Chain]) -> data_path::Facts {
        data_path::Facts {
            forwarding: crate::firewall::Forwarding::of(chains),
            uplinks: self.uplinks.iter().map(|uplink| uplink.ethernet).collect(),
            shaped: None,
        }
    }

    /// The name of a device.
    pub(super) fn name_of(&self, ifindex: u32) -> Option<&str> {
        self.links.iter().find(|link| link.ifindex == ifindex).map(|link| link.name.as_str())
    }
}
