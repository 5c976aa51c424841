//! The single owner of the state: takes requests and the host's events, one at a time.
//!
//! ```text
//!   request -> plan (pure, desired) -> disk (store) -> host (netlink, sandboxes) -> maps (datapath)
//! ```
//! A plan that is refused has changed nothing. What has been done is undone when a later step fails, so a
//! request that fails leaves no trace. What exists on the host is always stored: the store is written
//! first on the way in and last on the way out. So a crash leaves nothing that nobody knows of, and the
//! next start brings everything stored about again.

mod answer;
mod attached;
mod changes;
mod devices;
mod docker;
mod endpoints;
mod exhaustion;
mod host;
mod join;
mod leave;
mod networks;
mod paths;
mod ports;
mod restore;
mod sandbox;
mod sources;
mod state;
mod teardown;
mod xdp;

use std::path::Path;

use ipnet::Ipv6Net;
use netd_common::config::{ConfigFlags, DatapathConfig};
use thiserror::Error;
use tokio::{sync::watch, task::JoinSet};
use tracing::{info, warn};

use crate::{
    api::{Item, Request},
    backup,
    config::Config,
    datapath::{AskedFor, Datapath, DatapathError, Pins},
    desired::{
        AllowError, ConnectError, Desired, DisconnectError, LookupError, NetworkError,
        PublishError, RemoveNetworkError, UnpublishError,
    },
    errors::in_one_line,
    ids::Urandom,
    ipam::{self, Pools},
    model::Family,
    mounts::MountError,
    moved,
    netlink::{Netlink, NetlinkError, monitor::Monitor},
    netns::{EnterError, SandboxError, link::SandboxLinkError},
    programmed::{HostFacts, Programmed, Targets},
    proxy::Sockets,
    server::{Command, ReplySender},
    store::{Change, Store, StoreError, Stored},
    sysctl,
};
use changes::Changes;
use devices::Devices;
use docker::Docker;
use exhaustion::Exhaustion;
use host::Host;
use paths::Paths;
use sources::Sources;
use state::ImportError;

pub(crate) use teardown::{TornDown, tear_down};

/// Why a request was refused or failed.
#[derive(Debug, Error)]
pub(crate) enum RequestError {
    #[error(transparent)]
    Lookup(#[from] LookupError),
    #[error(transparent)]
    Network(#[from] NetworkError),
    #[error(transparent)]
    RemoveNetwork(#[from] RemoveNetworkError),
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error(transparent)]
    Disconnect(#[from] DisconnectError),
    #[error(transparent)]
    Allow(#[from] AllowError),
    #[error(transparent)]
    Publish(#[from] PublishError),
    #[error(transparent)]
    Unpublish(#[from] UnpublishError),
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    #[error(transparent)]
    SandboxLink(#[from] SandboxLinkError),
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    #[error(transparent)]
    Enter(#[from] EnterError),
    #[error("sandbox {sandbox}")]
    InSandbox { sandbox: String, source: SandboxLinkError },
    #[error("network {network} is Docker's: use `docker network {command}`")]
    DockersNetwork { network: String, command: &'static str },
    #[error(
        "endpoint {endpoint} is a container of Docker's, which publishes its ports: use `docker run -p`"
    )]
    DockersEndpoint { endpoint: String },
    #[error("network {network} has lost its bridge {bridge}: remove what has its name, or wait")]
    NoBridge { network: String, bridge: String },
    #[error(transparent)]
    Read(#[from] backup::ReadError),
    #[error(transparent)]
    Import(#[from] ImportError),
    #[error("the state cannot be written: {0}")]
    Write(#[from] serde_json::Error),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Datapath(#[from] DatapathError),
    #[error(transparent)]
    Mount(#[from] MountError),
}

/// The state and everything that it is brought about with.
pub(crate) struct Controller {
    desired: Desired,
    store: Store,
    ids: Urandom,
    config: Config,
    secret: [u64; 2],
    netns_cookie: u64,
    ula: Ipv6Net,
    netlink: Netlink,
    monitor: Monitor,
    changes: Changes,
    /// Something of ours could not be mended.
    has_failed: bool,
    datapath: Datapath,
    pins: Pins,
    host: Host,
    devices: Devices,
    paths: Paths,
    sources: Sources,
    exhaustion: Exhaustion,
    docker: Docker,
    /// Where published ports lead, for the proxy.
    targets: watch::Sender<Targets>,
}

/// What the event loop does after a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    GoOn,
    /// End the daemon; the data path stays.
    Stop,
}

/// What a controller is made of.
pub(crate) struct Parts {
    pub(crate) store: Store,
    pub(crate) stored: Stored,
    pub(crate) ids: Urandom,
    pub(crate) config: Config,
    pub(crate) netns_cookie: u64,
    pub(crate) netlink: Netlink,
    pub(crate) monitor: Monitor,
}

impl Controller {
    /// Loads the data path and brings everything about that is stored.
    pub(crate) async fn start(parts: Parts, cgroup: &Path) -> Result<Self, RequestError> {
        let Parts { store, stored, ids, config, netns_cookie, netlink, monitor } = parts;
        let pins = Pins::new(&config.daemon.bpffs);
        let settings = datapath_config(&config, stored.datapath_secret, netns_cookie);
        let max_flows = config.datapath.max_flows.get();
        let datapath = Datapath::open(&pins, cgroup, settings, max_flows)?;
        let host = Host::read(&netlink).await?;
        let mut this = Self {
            desired: stored.desired,
            store,
            ids,
            config,
            secret: stored.datapath_secret,
            netns_cookie,
            ula: ipam::ula_prefix(stored.ula_global_id),
            netlink,
            monitor,
            changes: Changes::new(),
            has_failed: false,
            datapath,
            pins,
            host,
            devices: Devices::default(),
            paths: Paths::default(),
            sources: Sources::default(),
            exhaustion: Exhaustion::default(),
            docker: Docker::default(),
            targets: watch::Sender::default(),
        };
        this.read_firewall().await;
        this.restore().await?;
        Ok(this)
    }

    /// Where the data path is pinned.
    pub(crate) fn pins(&self) -> &Pins {
        &self.pins
    }

    /// What the daemon goes by.
    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    /// Answers a request.
    pub(crate) async fn handle(&mut self, command: Command) -> Next {
        let Command { request, reply } = command;
        let may_make_room = matches!(
            request,
            Request::NetworkRemove { .. }
                | Request::NetworkPrune
                | Request::NetworkDisconnect { .. }
                | Request::PortRemove { .. }
        );
        let result = match request {
            Request::NetworkCreate(create) => self.create_network(&create).await,
            Request::NetworkList => Ok(self.networks()),
            Request::NetworkInspect { names } => self.inspect_networks(&names),
            Request::NetworkRemove { name } => self.remove_network(&name).await,
            Request::NetworkPrune => self.prune_networks().await,
            Request::NetworkConnect(connect) => self.connect(&connect).await,
            Request::NetworkDisconnect { network, sandbox, force } => {
                self.disconnect(&network, &sandbox, force).await
            }
            Request::NetworkAllow { a, b } => self.allow(&a, &b),
            Request::NetworkDisallow { a, b } => self.disallow(&a, &b),
            Request::EndpointList => self.endpoints(),
            Request::EndpointInspect { names } => self.inspect_endpoints(&names),
            Request::PortAdd { endpoint, specs } => self.add_ports(&endpoint, &specs).await,
            Request::PortRemove { endpoint, specs, kill } => {
                self.remove_ports(&endpoint, &specs, kill)
            }
            Request::PortList { endpoint } => self.ports(endpoint.as_deref()),
            Request::Stats => self.stats(),
            Request::ConntrackList { filter } => match self.check_filter(&filter) {
                Ok(()) => {
                    self.list_flows(filter, reply);
                    return Next::GoOn;
                }
                Err(error) => Err(error.into()),
            },
            Request::ConntrackCount => {
                self.count_flows(reply);
                return Next::GoOn;
            }
            Request::ConntrackFlush { filter } => match self.check_filter(&filter) {
                Ok(()) => {
                    self.flush_flows(filter, reply);
                    return Next::GoOn;
                }
                Err(error) => Err(error.into()),
            },
            Request::DockerStatus => Ok(vec![Item::Docker(self.docker_info())]),
            Request::StateExport => self.export_state(),
            Request::StateImport { text } => self.import_state(&text).await,
            Request::Stop { detach } => return self.stop(detach, reply).await,
        };
        if may_make_room {
            self.adopt_faulty();
        }
        match result {
            Ok(items) => reply.finish(items),
            Err(error) => reply.refuse(&in_one_line(&error)),
        }
        Next::GoOn
    }

    /// Reads the configuration again; what cannot change at run time keeps its value.
    pub(crate) async fn reload(&mut self, config: Config) -> Result<(), RequestError> {
        if config.daemon != self.config.daemon
            || config.datapath.max_flows != self.config.datapath.max_flows
        {
            warn!(
                "socket and directories change with the next start, max_flows after `netd stop --detach`"
            );
        }
        let daemon = self.config.daemon.clone();
        self.config = Config { daemon, ..config };
        let settings = datapath_config(&self.config, self.secret, self.netns_cookie);
        self.datapath.configure(settings)?;
        info!("configuration read again");
        self.read_firewall().await;
        self.refresh().await?;
        self.adopt().await
    }

    /// Brings the maps in line with the desired state and the host.
    fn program(&mut self) -> Result<(), DatapathError> {
        let named = &self.config.uplinks.names;
        let facts = HostFacts {
            trusts_every_uplink: self.config.datapath.allow_direct_routing,
            default_flow_limits: [
                self.config.datapath.max_flows_per_endpoint,
                self.config.datapath.max_flows_per_network,
            ],
            default_nat: self.config.datapath.nat,
            fast_networks: self.paths.fast().cloned().collect(),
            ..self.host.facts(&self.desired, named, &self.devices.uplinks)
        };
        self.datapath.program(&Programmed::new(&self.desired, &facts))?;
        let targets = Targets::new(&self.desired, &facts);
        self.targets.send_if_modified(|known| {
            let is_new = *known != targets;
            *known = targets;
            is_new
        });
        Ok(())
    }

    /// Serves what comes to the proxy.
    pub(crate) fn serve_proxy(&self, sockets: Sockets) -> anyhow::Result<JoinSet<()>> {
        self.datapath.place_proxy(&self.pins, &sockets)?;
        Ok(sockets.serve(&self.targets)?)
    }

    /// Ends sockets that were led to containers which have moved.
    pub(crate) fn follow_moved(&self) -> Result<JoinSet<()>, DatapathError> {
        let asked = AskedFor::open(&self.pins)?;
        Ok(moved::follow(self.targets.subscribe(), asked))
    }

    /// Sets the sysctls that netd needs, and says which ones it had to.
    pub(crate) fn keep_sysctls(&self) {
        let ipv6 =
            self.desired.networks.values().any(|network| network.subnet(Family::Ipv6).is_some());
        let advertised = self.host.router_advertised(&self.desired, &self.config.uplinks.names);
        match sysctl::apply(&sysctl::required(ipv6, &advertised)) {
            Ok(changes) => changes.iter().for_each(host::say_changed),
            Err(error) => {
                error.changes.iter().for_each(host::say_changed);
                warn!(error = &error as &dyn std::error::Error, "a sysctl could not be set");
            }
        }
    }

    fn pools(&self) -> Pools {
        Pools::new(&self.config.pools.default_address_pools, self.ula)
    }

    fn save(&mut self, changes: &[Change<'_>]) -> Result<(), StoreError> {
        self.store.save(changes)
    }

    async fn stop(&mut self, detach: bool, reply: ReplySender) -> Next {
        if detach && let Err(error) = self.remove_everything().await {
            reply.refuse(&in_one_line(&error));
            return Next::GoOn;
        }
        if !detach {
            info!("the data path stays");
        }
        reply.finish([]);
        Next::Stop
    }
}

fn datapath_config(config: &Config, secret: [u64; 2], netns_cookie: u64) -> DatapathConfig {
    let accounting = config.datapath.flow_accounting;
    let loose = config.datapath.tcp_loose;
    DatapathConfig {
        netns_cookie,
        secret,
        timeout_secs: config.timeouts.secs,
        flags: if accounting { ConfigFlags::FLOW_ACCOUNTING } else { 0 }
            | if loose { ConfigFlags::TCP_LOOSE } else { 0 },
        ..DatapathConfig::DEFAULT
    }
}
