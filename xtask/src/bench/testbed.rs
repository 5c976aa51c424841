//! The namespaces that packets travel through, one set for each peer.
//!
//! ```text
//!    client                     host                                container
//!    eth0 192.0.2.2 ----- up0 192.0.2.1   br0 10.88.0.1 = port0 ----- eth0 10.88.0.2
//! ```
//! netd makes bridge and ports itself. In `direct` the container is where the host would be.

use std::{
    fs,
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result};

use super::{
    address::Family,
    daemon::Daemon,
    docker_rules::{self, PublishedPort},
    netns::Namespace,
    peer::Peer,
    prototype::{self, Devices, Prototype},
    scratch::Scratch,
    wait,
};
use crate::process;

const CLIENT_LINK: &str = "eth0";
const CONTAINER_LINK: &str = "eth0";
const UPLINK: &str = "up0";
const BRIDGE: &str = "br0";
const BRIDGE_PORT: &str = "port0";

/// The lowest port that is published.
const FIRST_PORT: u16 = 10_000;

/// What a testbed is to be.
pub(super) struct Plan<'a> {
    pub(super) peer: Peer,
    pub(super) family: Family,
    /// How many TCP ports are published.
    pub(super) ports: u16,
    /// The netd to measure.
    pub(super) netd: &'a Path,
    /// The object of the prototype to measure.
    pub(super) prototype: &'a Path,
    pub(super) scratch: &'a Scratch,
}

/// Who publishes the ports, where somebody has to live for it.
enum Published {
    Daemon {
        _daemon: Daemon,
    },
    Prototype {
        _prototype: Prototype,
    },
    /// The kernel alone.
    Nobody,
}

/// Namespaces through which a client reaches a server.
pub(super) struct Testbed {
    // Before the namespaces, so that it is ended first.
    _published: Published,
    _host: Option<Namespace>,
    pub(super) client: Namespace,
    pub(super) container: Namespace,
    /// Where the client finds what listens on this port in the container.
    pub(super) target: SocketAddr,
    /// For what the programs write that run here.
    pub(super) log: PathBuf,
}

impl Plan<'_> {
    /// Builds the testbed and tries it.
    ///
    /// # Errors
    /// Fails if something cannot be made, or if the client does not reach the container.
    pub(super) fn build(&self) -> Result<Testbed> {
        let bed = if self.peer == Peer::Direct { self.direct()? } else { self.through_host()? };
        // Else the client's ports are used up by the connections of a second.
        bed.client.set_sysctl("ipv4/ip_local_port_range", "1024 65535")?;
        bed.try_out()?;
        Ok(bed)
    }

    fn direct(&self) -> Result<Testbed> {
        let (client, container) = (self.namespace("client")?, self.namespace("container")?);
        self.link(&client, &container, CONTAINER_LINK)?;
        let target = SocketAddr::new(self.family.host(), self.measured_port());
        let log = self.log(&client);
        set_offloads(&[&client, &container])?;
        Ok(Testbed { _published: Published::Nobody, _host: None, client, container, target, log })
    }

    fn through_host(&self) -> Result<Testbed> {
        let (client, container) = (self.namespace("client")?, self.namespace("container")?);
        let host = self.namespace("host")?;
        self.link(&client, &host, UPLINK)?;
        host.set_sysctl("ipv4/ip_forward", "1")?;
        host.set_sysctl("ipv6/conf/all/forwarding", "1")?;
        let (mut published, mut address) = (Published::Nobody, self.family.host());
        // Docker loads br_netfilter and switches it on; without Docker hosts do not have it.
        set_bridge_netfilter(&host, false)?;
        match self.peer {
            Peer::NetdFast | Peer::BeforeFast => {
                published = self.netd(&host, &container, "fast")?;
            }
            Peer::NetdStack | Peer::BeforeStack => {
                published = self.netd(&host, &container, "stack")?;
            }
            Peer::Prototype => {
                self.bridge(&host, &container)?;
                published = self.prototype(&host)?;
            }
            Peer::Iptables | Peer::IptablesLegacy => {
                self.bridge(&host, &container)?;
                set_bridge_netfilter(&host, true)?;
                self.load_docker_rules(&host)?;
            }
            Peer::Direct => unreachable!("it has no host"),
            Peer::Routing => {
                self.bridge(&host, &container)?;
                let (subnet, via) = (self.family.container_subnet(), address);
                client.ip(&format!("route add {subnet} via {via}"))?;
                address = self.family.container();
            }
        }
        set_offloads(&[&client, &host, &container])?;
        let target = SocketAddr::new(address, self.measured_port());
        let log = self.log(&client);
        Ok(Testbed { _published: published, _host: Some(host), client, container, target, log })
    }

    fn namespace(&self, role: &str) -> Result<Namespace> {
        Namespace::new(&self.scratch.name(&format!("{}-{}-{role}", self.peer, self.ports)))
    }

    fn log(&self, client: &Namespace) -> PathBuf {
        self.scratch.file(&format!("{}.log", client.name()))
    }

    /// In the middle of all: rules are walked in order, so that is what a port costs on average.
    fn measured_port(&self) -> u16 {
        FIRST_PORT + self.ports / 2
    }

    /// Every TCP port, and for the packet rate one for UDP.
    fn published(&self) -> Vec<PublishedPort> {
        let udp = PublishedPort { protocol: "udp", number: self.measured_port() };
        let tcp = (FIRST_PORT..FIRST_PORT + self.ports)
            .map(|number| PublishedPort { protocol: "tcp", number });
        tcp.chain([udp]).collect()
    }

    /// The link between the client and what it is connected to.
    fn link(&self, client: &Namespace, other: &Namespace, ifname: &str) -> Result<()> {
        let (family, peer) = (self.family, other.name());
        client.ip(&format!("link add {CLIENT_LINK} type veth peer {ifname} netns {peer}"))?;
        other.bring_up(ifname, &[(family.host(), family.link_prefix_len())])?;
        client.bring_up(CLIENT_LINK, &[(family.client(), family.link_prefix_len())])?;
        Ok(())
    }

    /// What Docker makes for a network with one container.
    fn bridge(&self, host: &Namespace, container: &Namespace) -> Result<()> {
        let family = self.family;
        let prefix_len = family.subnet_prefix_len();
        let peer = container.name();
        host.ip(&format!("link add {BRIDGE} type bridge"))?;
        host.bring_up(BRIDGE, &[(family.gateway(), prefix_len)])?;
        host.ip(&format!("link add {BRIDGE_PORT} type veth peer {CONTAINER_LINK} netns {peer}"))?;
        host.ip(&format!("link set {BRIDGE_PORT} master {BRIDGE} up"))?;
        host.ip(&format!("link set {BRIDGE_PORT} type bridge_slave hairpin on"))?;
        container.bring_up(CONTAINER_LINK, &[(family.container(), prefix_len)])?;
        container.ip(&format!("route add default via {}", family.gateway())).map(|_output| ())
    }

    fn netd(&self, host: &Namespace, container: &Namespace, mode: &str) -> Result<Published> {
        let daemon = Daemon::start(self.netd, mode, host, UPLINK, self.scratch)?;
        daemon.connect(container, self.family)?;
        let spec = |port: &PublishedPort| format!("{0}:{0}/{1}", port.number, port.protocol);
        daemon.publish(&self.published().iter().map(spec).collect::<Vec<_>>())?;
        Ok(Published::Daemon { _daemon: daemon })
    }

    fn prototype(&self, host: &Namespace) -> Result<Published> {
        let devices = Devices { uplink: UPLINK, bridge_port: BRIDGE_PORT };
        let (object, port) = (self.prototype, self.measured_port());
        let prototype = prototype::publish(object, host, &devices, self.family, port)?;
        Ok(Published::Prototype { _prototype: prototype })
    }

    fn load_docker_rules(&self, host: &Namespace) -> Result<()> {
        let network = docker_rules::Network { bridge: BRIDGE, family: self.family };
        let file = self.scratch.file(&format!("{}.rules", host.name()));
        fs::write(&file, docker_rules::tables(&network, &self.published()))
            .with_context(|| format!("cannot write {}", file.display()))?;
        let backend = if self.peer == Peer::Iptables { "nft" } else { "legacy" };
        let program = format!("{}-{backend}-restore", self.family.pick("iptables", "ip6tables"));
        process::output(host.command(program).arg(file)).map(|_output| ())
    }
}

impl Testbed {
    /// Waits until the client reaches the container; neighbours and IPv6 addresses take a moment.
    fn try_out(&self) -> Result<()> {
        let listen = || TcpListener::bind(SocketAddr::new(unspecified(self.target), self.port()));
        let _listener = self.container.inside(listen)?.context("cannot listen")?;
        let what = format!("the client reaches {}", self.target);
        wait::until(&what, Duration::from_secs(10), || {
            let connect = || TcpStream::connect_timeout(&self.target, Duration::from_secs(1));
            Ok(self.client.inside(connect)?.ok().map(|_stream| ()))
        })
    }

    /// The port that is measured, which is the same number outside and in the container.
    pub(super) fn port(&self) -> u16 {
        self.target.port()
    }
}

/// What one binds to for every address of the family.
pub(super) fn unspecified(like: SocketAddr) -> std::net::IpAddr {
    if like.is_ipv4() { Family::V4.unspecified() } else { Family::V6.unspecified() }
}

/// Gives all ends of veth pairs the same features, whoever made them: Linux' own defaults.
fn set_offloads(namespaces: &[&Namespace]) -> Result<()> {
    for namespace in namespaces {
        for ifname in namespace.veths()? {
            let mut ethtool: Command = namespace.command("ethtool");
            ethtool.args(["-K", &ifname, "tx", "on", "tso", "on", "gso", "on", "gro", "off"]);
            process::output(&mut ethtool)?;
        }
    }
    Ok(())
}

/// Switches br_netfilter in a namespace, where the kernel has it.
fn set_bridge_netfilter(host: &Namespace, on: bool) -> Result<()> {
    if !host.inside(|| Path::new("/proc/sys/net/bridge").exists())? {
        return Ok(());
    }
    for table in ["iptables", "ip6tables"] {
        let value = if on { "1" } else { "0" };
        host.set_sysctl(&format!("bridge/bridge-nf-call-{table}"), value)?;
    }
    Ok(())
}
