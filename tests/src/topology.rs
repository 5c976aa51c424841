//! The world of a test: a host with netd, a client outside, and containers.
//!
//! ```text
//!    client namespace                    host namespace, netd            containers
//!    lo: remote address
//!    eth0: client address  ------------  up0: host address  -- bridges -- plain namespaces
//! ```
//! The host's default route leads to the client. Nothing of it can be seen from another world.

use std::{
    env,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use serde_json::Value;

use crate::{
    condition::{eventually, eventually_some},
    daemon::Daemon,
    family::Family,
    netns::{Namespace, unique_name},
    process::Outcome,
};

/// The host's uplink.
pub const UPLINK: &str = "up0";

/// A host with a running daemon, and a client.
#[derive(Debug)]
pub struct World {
    // The daemon comes first, so that it is ended before its namespaces are taken away.
    /// The daemon on the host.
    pub daemon: Daemon,
    /// The host.
    pub host: Namespace,
    /// A machine on the host's link, and all that lies behind it.
    pub client: Namespace,
    name: String,
}

/// A container: a network namespace that is connected to nothing until netd does it.
#[derive(Debug)]
pub struct Container {
    /// Its namespace, the sandbox.
    pub namespace: Namespace,
    /// The name of its endpoint.
    pub name: String,
}

impl World {
    /// Makes a world in which netd runs.
    ///
    /// # Panics
    /// Where it cannot be made.
    #[track_caller]
    pub fn new() -> Self {
        Self::with_config("")
    }

    /// Makes a world in which netd runs with a configuration.
    ///
    /// # Panics
    /// Where it cannot be made.
    #[track_caller]
    pub fn with_config(config: &str) -> Self {
        let mut world = Self::without_daemon(config);
        world.daemon.start();
        world
    }

    /// Makes a world in which netd does not run yet.
    ///
    /// # Panics
    /// Where it cannot be made.
    #[track_caller]
    pub fn without_daemon(config: &str) -> Self {
        let name = unique_name();
        let host = Namespace::new(&format!("{name}-host"));
        let client = Namespace::new(&format!("{name}-client"));
        let daemon = Daemon::new(&host, &name, config);
        let world = Self { daemon, host, client, name };
        world.connect_client();
        world
    }

    #[track_caller]
    fn connect_client(&self) {
        self.add_link(UPLINK, "eth0");
        for family in Family::BOTH {
            self.add_uplink_address(UPLINK, family.host());
            self.client.add_address("eth0", family.client(), prefix_len(family));
            self.client.add_address("lo", family.remote(), family.host_prefix());
        }
        self.host.ip(&default_routes(UPLINK).each_ref().map(String::as_str));
    }

    /// Adds a link between host and client that is up, without addresses.
    ///
    /// # Panics
    /// Where that fails.
    #[track_caller]
    pub fn add_link(&self, host_ifname: &str, client_ifname: &str) {
        let (client, host) = (&self.client, &self.host);
        let peer = host.name();
        client
            .ip(&[&format!("link add {client_ifname} type veth peer {host_ifname} netns {peer}")]);
        let ends = [(host, host_ifname), (client, client_ifname)];
        for (end, ifname) in ends {
            // Its link-local address is needed at once: neighbours are looked for from it.
            end.set_sysctl(&format!("ipv6/conf/{ifname}/accept_dad"), "0");
            end.ip(&[&format!("link set {ifname} up")]);
        }
        for (end, ifname) in ends {
            eventually(&format!("{ifname} has its link-local address"), || {
                let line = format!("ip -6 address show dev {ifname} scope link -tentative");
                end.run(&line).stdout.contains("fe80")
            });
        }
    }

    /// Gives a device of the host an address in the prefix that is usual outside.
    ///
    /// # Panics
    /// Where that fails.
    #[track_caller]
    pub fn add_uplink_address(&self, ifname: &str, address: IpAddr) {
        self.host.add_address(ifname, address, prefix_len(Family::of(address)));
    }

    /// A folder of its own, which goes with it.
    pub fn directory(&self) -> PathBuf {
        env::temp_dir().join(&self.name)
    }

    /// Runs `netd LINE` on the host.
    ///
    /// # Panics
    /// Where it cannot be started.
    #[track_caller]
    pub fn netd(&self, line: &str) -> Outcome {
        self.daemon.netd(line)
    }

    /// Runs `netd LINE` on the host, which is to be refused, and returns the line of the error.
    ///
    /// # Panics
    /// Where it is granted, or refused in another form than the contract's.
    #[track_caller]
    pub fn refused(&self, line: &str) -> String {
        let outcome = self.netd(line);
        assert_eq!(outcome.status, Some(1), "{outcome}");
        assert_eq!(outcome.stdout, "", "{outcome}");
        let error = outcome.stderr.strip_prefix("error: ").and_then(|text| text.strip_suffix('\n'));
        match error {
            Some(error) if !error.contains('\n') => error.to_owned(),
            _ => panic!("not one line that begins with `error: `: {outcome}"),
        }
    }

    /// Creates a network with the subnets that belong to `number`, and further options.
    ///
    /// # Panics
    /// Where that fails.
    #[track_caller]
    pub fn network(&self, name: &str, number: u8, options: &str) {
        let [v4, v6] = Family::BOTH.map(|family| subnet(family, number));
        self.netd(&format!("network create {name} --subnet {v4} --subnet {v6} {options}")).ok();
    }

    /// Makes a container that is on no network.
    ///
    /// # Panics
    /// Where that fails.
    #[track_caller]
    pub fn sandbox(&self, name: &str) -> Container {
        let namespace = Namespace::new(&self.name_of(name));
        Container { namespace, name: name.to_owned() }
    }

    /// The name of a container's namespace, which no other world has.
    pub fn name_of(&self, container: &str) -> String {
        format!("{}-{container}", self.name)
    }

    /// Makes a container and connects it to a network, with further options.
    ///
    /// # Panics
    /// Where that fails.
    #[track_caller]
    pub fn container(&self, name: &str, network: &str, options: &str) -> Container {
        let container = self.sandbox(name);
        self.connect(&container, network, options).ok();
        container
    }

    /// Connects a container to a network, with further options.
    ///
    /// # Panics
    /// Where netd cannot be started.
    #[track_caller]
    pub fn connect(&self, container: &Container, network: &str, options: &str) -> Outcome {
        let (sandbox, name) = (container.namespace.name(), &container.name);
        let name =
            if options.contains("--name") { String::new() } else { format!("--name {name}") };
        self.netd(&format!("network connect {network} {sandbox} {name} {options}"))
    }

    /// The endpoint of a container, as `endpoint inspect --json` shows it.
    ///
    /// # Panics
    /// Where there is none.
    #[track_caller]
    pub fn endpoint(&self, name: &str) -> Value {
        self.netd(&format!("endpoint inspect {name} --json")).json()[0].take()
    }

    /// The address of an endpoint.
    ///
    /// # Panics
    /// Where it has none.
    #[track_caller]
    pub fn address(&self, endpoint: &str, family: Family) -> IpAddr {
        let endpoint = self.endpoint(endpoint);
        let text = endpoint[family.pick("ipv4", "ipv6")].as_str().unwrap_or_default();
        let address = text.split('/').next().and_then(|address| address.parse().ok());
        address.unwrap_or_else(|| panic!("no {family} address: {endpoint}"))
    }

    /// The host's end of a container's link, found without netd.
    ///
    /// # Panics
    /// Where the host's devices cannot be listed.
    #[track_caller]
    pub fn host_ifname(&self, container: &Container) -> Option<String> {
        let links = self.host.run("ip -oneline link show type veth").ok();
        let peer = format!("link-netns {}", container.namespace.name());
        let line = links.lines().find(|line| line.trim_end().ends_with(&peer))?;
        Some(line.split(": ").nth(1)?.split('@').next()?.to_owned())
    }

    /// How many packets a reason has been counted for, as `stats --json` shows it.
    ///
    /// # Panics
    /// Where there is no such reason.
    #[track_caller]
    pub fn packets(&self, reason: &str) -> u64 {
        let stats = self.netd("stats --json").json();
        let mut rows = stats.as_array().into_iter().flatten();
        let row = rows.find(|row| row["reason"] == reason);
        let packets = row.and_then(|row| row["packets"].as_u64());
        packets.unwrap_or_else(|| panic!("no reason {reason}: {stats}"))
    }

    /// How many flows there are.
    ///
    /// # Panics
    /// Where netd does not say.
    #[track_caller]
    pub fn flows(&self) -> u64 {
        let count = self.netd("conntrack count").ok();
        count.trim().parse().unwrap_or_else(|_| panic!("no number: {count}"))
    }

    /// Everything that an operation which fails is to leave as it was: devices, addresses, routes and
    /// qdiscs of the host and of these containers, and what netd knows of networks, endpoints and ports.
    ///
    /// # Panics
    /// Where it cannot be read.
    #[track_caller]
    pub fn traces(&self, containers: &[&Container]) -> String {
        let own = containers.iter().map(|container| &container.namespace);
        let mut text = String::new();
        for namespace in [&self.host].into_iter().chain(own) {
            for line in ["ip -oneline link", "ip -oneline address", "tc qdisc"] {
                text += &namespace.run(line).ok();
            }
            for flag in ["-4", "-6"] {
                text += &namespace.run(&format!("ip {flag} route show table all")).ok();
            }
        }
        for what in ["network", "endpoint", "port"] {
            text += &self.netd(&format!("{what} ls --json")).ok();
        }
        text
    }

    /// [`Self::traces`], once they have stopped to change by themselves, as they do while the kernel
    /// probes for duplicates of an IPv6 address.
    ///
    /// # Panics
    /// Where they cannot be read or go on changing.
    #[track_caller]
    pub fn settled_traces(&self, containers: &[&Container]) -> String {
        eventually_some("no address is tentative", || {
            let traces = self.traces(containers);
            (!traces.contains("tentative")).then_some(traces)
        })
    }

    /// Gives the client routes to the containers of `number` by way of the host, as somebody has who
    /// wants to get round the published ports.
    ///
    /// # Panics
    /// Where that fails.
    #[track_caller]
    pub fn route_client_to_containers(&self, number: u8) {
        for family in Family::BOTH {
            let (subnet, host) = (subnet(family, number), family.host());
            self.client.ip(&[&format!("route add {subnet} via {host}")]);
        }
    }
}

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}

/// The subnet of a family that belongs to a network's number.
pub fn subnet(family: Family, number: u8) -> String {
    family.pick(format!("10.77.{number}.0/24"), format!("fd77:{number}::/64"))
}

/// The gateway of such a subnet.
pub fn gateway(family: Family, number: u8) -> String {
    family.pick(format!("10.77.{number}.1"), format!("fd77:{number}::1"))
}

/// The default routes of the host, by a device.
pub fn default_routes(ifname: &str) -> [String; 2] {
    Family::BOTH.map(|family| format!("route replace default via {} dev {ifname}", family.client()))
}

/// The address and port of a published port on an address of the host.
pub fn at(address: IpAddr, port: u16) -> SocketAddr {
    SocketAddr::new(address, port)
}

fn prefix_len(family: Family) -> u8 {
    family.pick(24, 64)
}
