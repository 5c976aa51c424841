//! The network of the other host: a bridge, and rules.

use super::{Places, mac, text};
use crate::{
    family::Family,
    netns::Namespace,
    oracle::{
        arrival::Edge,
        conntrack,
        golden::{BRIDGE, Options},
    },
    process::run_in,
    topology::{Container, World},
};

/// The ports of the bridge.
const PORTS: [&str; 2] = ["port-web", "port-app"];

/// Makes the bridge, without addresses, and plugs the containers in.
#[track_caller]
pub(super) fn make_bridge(world: &World, containers: &[Container; 2]) {
    let host = &world.host;
    host.ip(&[&format!("link add {BRIDGE} address 02:77:00:00:00:01 type bridge")]);
    host.set_sysctl(&format!("ipv6/conf/{BRIDGE}/accept_dad"), "0");
    for ((container, edge), port) in containers.iter().zip([Edge::Web, Edge::App]).zip(PORTS) {
        let (namespace, name) = (&container.namespace, container.namespace.name());
        host.ip(&[
            &format!("link add {port} type veth peer eth0 netns {name}"),
            &format!("link set {port} master {BRIDGE} up"),
        ]);
        namespace.set_sysctl("ipv6/conf/eth0/accept_dad", "0");
        let own = Family::BOTH.map(|family| {
            let (places, prefix) = (Places::of(family), family.pick(24, 64));
            let (own, gateway, nodad) =
                (places.of_edge(edge), places.gateway, family.pick("", "nodad"));
            format!("address add {own}/{prefix} dev eth0 {nodad}\nroute add default via {gateway}")
        });
        let up = format!("link set eth0 address {} up", text(mac(edge)));
        namespace.ip(&[&up, &own[0], &own[1]]);
    }
    host.ip(&[&format!("link set {BRIDGE} up")]);
}

/// Loads rules, and does what Docker does beside them.
#[track_caller]
pub(super) fn configure(
    host: &Namespace,
    options: &Options,
    rules: &[String; 2],
    had_network: bool,
) {
    let programs = ["iptables-legacy-restore", "ip6tables-legacy-restore"];
    for (program, rules) in programs.into_iter().zip(rules) {
        run_in(host.path(), program, &[], rules).ok();
    }
    let route_localnet = if options.hairpin { "1" } else { "0" };
    host.set_sysctl(&format!("ipv4/conf/{BRIDGE}/route_localnet"), route_localnet);
    let mode = if options.hairpin { "on" } else { "off" };
    let lines = PORTS.map(|port| format!("link set dev {port} type bridge_slave hairpin {mode}"));
    host.ip(&lines.each_ref().map(String::as_str));
    if !options.has_network {
        host.ip(&[&format!("address flush dev {BRIDGE} scope global")]);
    } else if !had_network {
        add_gateways(host);
    }
    conntrack::flush(host);
}

/// Gives the bridge its addresses, and neighbours that are not looked for.
fn add_gateways(host: &Namespace) {
    let lines = Family::BOTH.map(|family| {
        let places = Places::of(family);
        let (gateway, prefix, nodad) =
            (places.gateway, family.pick(24, 64), family.pick("", "nodad"));
        let neighbour = |edge| {
            let (address, mac) = (places.of_edge(edge), text(mac(edge)));
            format!("neigh replace {address} lladdr {mac} dev {BRIDGE} nud permanent")
        };
        let own = format!("address replace {gateway}/{prefix} dev {BRIDGE} {nodad}");
        [own, neighbour(Edge::Web), neighbour(Edge::App)].join("\n")
    });
    host.ip(&lines.each_ref().map(String::as_str));
}
