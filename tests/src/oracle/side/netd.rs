//! The network of the host with netd, by its command line.

use super::{Places, mac, text};
use crate::{
    family::Family,
    oracle::{
        arrival::Edge,
        golden::{Mode, Options},
        rules::Specs,
    },
    topology::{Container, World},
};

/// The name of the network.
const NETWORK: &str = "dummy";

/// What netd was told, in its words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Told {
    /// The options of the network.
    pub(super) network: String,
    /// The ports that web and app publish.
    pub(super) ports: Specs,
}

/// Makes a network another one, or none. One that is equal stays.
#[track_caller]
pub(super) fn configure(
    world: &World,
    containers: &[Container; 2],
    told: Option<Told>,
    wanted: Option<&Told>,
) {
    let none = Specs::default();
    if let (Some(old), Some(new)) = (&told, wanted)
        && old.network == new.network
    {
        return publish(world, &old.ports, &new.ports);
    }
    if told.is_some() {
        for container in containers {
            let name = container.namespace.name();
            world.netd(&format!("network disconnect {NETWORK} {name}")).ok();
        }
        world.netd(&format!("network rm {NETWORK}")).ok();
    }
    let Some(Told { network, ports }) = wanted else { return };
    world.netd(&format!("network create {NETWORK} {network}")).ok();
    for (container, edge) in containers.iter().zip([Edge::Web, Edge::App]) {
        let [ip, ip6] = Family::BOTH.map(|family| Places::of(family).of_edge(edge));
        let line = format!("--ip {ip} --ip6 {ip6} --mac {}", text(mac(edge)));
        world.connect(container, NETWORK, &line).ok();
    }
    publish(world, &none, ports);
}

/// Makes the ports of the containers others.
fn publish(world: &World, old: &Specs, new: &Specs) {
    for (name, (old, new)) in ["web", "app"].into_iter().zip(old.iter().zip(new)) {
        let steps = [("rm", old), ("add", new)];
        for (verb, ports) in steps.into_iter().filter(|(_, ports)| old != new && !ports.is_empty())
        {
            world.netd(&format!("port {verb} {name} {ports}")).ok();
        }
    }
}

/// The network's bridge.
pub(super) fn bridge(world: &World) -> String {
    let network = world.netd(&format!("network inspect {NETWORK} --json")).json();
    network[0]["bridge"].as_str().unwrap_or_default().to_owned()
}

/// The options of a network in netd's words.
pub(super) fn network_options(options: &Options) -> String {
    let mut line = String::new();
    for family in Family::BOTH {
        let places = Places::of(family);
        line += &format!("--subnet {} --gateway {} ", places.subnet(), places.gateway);
        if options.snat && options.masquerade && options.mode != Mode::Routed {
            line += &format!("--snat-address {} ", places.snat);
        }
    }
    let Options { icc, masquerade, mode, .. } = options;
    let internal = if options.internal { "--internal" } else { "" };
    // Where nothing is translated, it is not asked for.
    let masquerade =
        if *mode == Mode::Routed { String::new() } else { format!("--masquerade {masquerade}") };
    format!("{line} --icc {icc} {masquerade} --gateway-mode {} {internal}", mode.name())
}

/// What web publishes in the rule sets of moby's tests.
pub(super) fn port_options(options: &Options) -> &'static str {
    match options.mode {
        _ if options.internal || !options.has_network => "",
        Mode::Routed => "80",
        _ if options.bind_localhost => "127.0.0.1:8080:80 [::1]:8080:80",
        Mode::Nat | Mode::NatUnprotected => "8080:80",
    }
}
