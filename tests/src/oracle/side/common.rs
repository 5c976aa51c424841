//! What is equal on both hosts and not netd's.

use std::{fs, path::Path};

use super::{OWN_PORTS, Places, mac, text};
use crate::{
    family::Family,
    netns::Namespace,
    oracle::arrival::Edge,
    process::run_in,
    topology::{UPLINK, World},
};

/// A host that routes, answers whatever asks for an answer, and leaves judging to the engine.
const SYSCTLS: [(&str, &str); 8] = [
    ("ipv4/icmp_ratelimit", "0"),
    ("ipv4/icmp_msgs_per_sec", "1000000"),
    ("ipv4/icmp_msgs_burst", "1000000"),
    ("ipv6/icmp/ratelimit", "0"),
    ("ipv4/ip_forward", "1"),
    ("ipv6/conf/all/forwarding", "1"),
    ("ipv4/conf/all/rp_filter", "0"),
    ("ipv4/conf/default/rp_filter", "0"),
];

/// Addresses, routes and neighbours of the host and the client.
#[track_caller]
pub(super) fn prepare(world: &World) {
    let (host, client) = (&world.host, &world.client);
    client.ip(&[&format!("link set eth0 address {}", text(mac(Edge::Client)))]);
    silence(client);
    take_own_ports(host);
    for family in Family::BOTH {
        let (snat, prefix) = (Places::of(family).snat, family.host_prefix());
        host.add_address(UPLINK, snat, prefix);
        let via = format!("route add {snat} via {}", family.host());
        let neighbour = format!(
            "neigh replace {} lladdr {} dev {UPLINK} nud permanent",
            family.client(),
            text(mac(Edge::Client))
        );
        client.ip(&[&via]);
        host.ip(&[&neighbour]);
    }
    for (path, value) in SYSCTLS {
        // Some are of the root namespace alone in older kernels.
        if host.inside(|| fs::exists(Path::new("/proc/sys/net").join(path)).unwrap_or(false)) {
            host.set_sysctl(path, value);
        }
    }
}

/// Lets a namespace answer nothing but neighbour solicitations and sockets with ports of their own.
/// Sniffers see packets before that.
#[track_caller]
pub(super) fn silence(namespace: &Namespace) {
    let (first, last) = (OWN_PORTS.start(), OWN_PORTS.end());
    let rules = format!(
        "table inet silence {{ chain received {{ type filter hook prerouting priority -500 ; policy drop ;\n\
         icmpv6 type {{ nd-neighbor-solicit, nd-neighbor-advert }} accept\n\
         iifname lo accept\n\
         th sport {first}-{last} accept\nth dport {first}-{last} accept\n}}\n}}\n"
    );
    run_in(namespace.path(), "nft", &["-f", "-"], &rules).ok();
    take_own_ports(namespace);
}

/// Lets a namespace answer whatever comes.
#[track_caller]
pub(super) fn unsilence(namespace: &Namespace) {
    namespace.run("nft delete table inet silence").ok();
}

/// Has the sockets of a namespace take those ports by themselves.
fn take_own_ports(namespace: &Namespace) {
    let range = format!("{} {}", OWN_PORTS.start(), OWN_PORTS.end());
    namespace.set_sysctl("ipv4/ip_local_port_range", &range);
}
