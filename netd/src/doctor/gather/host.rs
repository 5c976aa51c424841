//! Devices, addresses, routes, what hangs on the uplinks, and the settings of all that.

use std::path::Path;

use super::{because, machine::needs_root, text_of};
use crate::{
    config::Config,
    datapath::{
        Pins,
        probe::{self, Direction},
    },
    doctor::facts::{Hooks, Host, Known, Managed, Manager, Sysctls, Unknown, Wanted, XdpProgram},
    netlink::{Netlink, link::Xdp},
    sysctl,
    uplinks::{self, Uplink},
};

pub(super) async fn host(
    netlink: Result<&Netlink, &Unknown>,
    config: &Config,
    wanted: &Wanted,
) -> Known<Host> {
    let netlink = netlink.map_err(Clone::clone)?;
    let links = netlink.links().await.map_err(because)?;
    let ours = links.iter().filter(|link| wanted.has_device(&link.name)).map(|link| link.ifindex);
    let trusted = wanted.trusted_interfaces.iter().map(String::as_str).collect();
    let uplinks = uplinks::uplinks(&links, &ours.collect(), &config.uplinks.names, &trusted);
    let addresses = netlink.addresses().await.map_err(because)?;
    let routes = netlink.routes().await.map_err(because)?;
    Ok(Host { links, addresses, routes, uplinks })
}

pub(super) async fn hooks(
    netlink: Result<&Netlink, &Unknown>,
    host: Result<&Host, &Unknown>,
    bpffs: &Path,
) -> Known<Hooks> {
    let (netlink, host) = (netlink.map_err(Clone::clone)?, host.map_err(Clone::clone)?);
    let qdiscs = netlink.qdiscs().await.map_err(because)?;
    let ours = probe::our_xdp_programs(&Pins::new(bpffs)).map_err(because)?;
    let mut hooks = Hooks::default();
    for Uplink { ifindex, name, .. } in &host.uplinks {
        let has = |kind: &str| qdiscs.iter().any(|q| q.ifindex == *ifindex && q.kind == kind);
        if has("ingress") {
            hooks.ingress_qdiscs.push(name.clone());
        }
        if has("clsact") || has("ingress") {
            let classifiers = netlink.classifiers(*ifindex).await.map_err(because)?;
            hooks.classifiers.extend(classifiers.into_iter().map(|c| (name.clone(), c)));
        }
        let link = host.links.iter().find(|link| link.ifindex == *ifindex);
        let xdp = link.and_then(|link| link.xdp).filter(|xdp| !ours.contains(&xdp.program));
        hooks.xdp.extend(xdp.map(|xdp| (name.clone(), xdp_program(xdp))));
        for direction in [Direction::Ingress, Direction::Egress] {
            let programs = probe::tcx_programs(name, direction).map_err(because)?;
            hooks.tcx.extend(programs.into_iter().map(|p| (name.clone(), direction, p)));
        }
    }
    Ok(hooks)
}

fn xdp_program(Xdp { program, is_generic }: Xdp) -> XdpProgram {
    XdpProgram { program: probe::foreign(program), is_generic }
}

pub(super) fn sysctls(
    host: Result<&Host, &Unknown>,
    wanted: &Wanted,
    is_privileged: bool,
) -> Sysctls {
    let (uplinks, advertised) = host.map_or_else(
        |_| (Vec::new(), Vec::new()),
        |host| (host.uplinks.clone(), uplinks::router_advertised(&host.uplinks, &host.routes)),
    );
    let has_ipv6 = of("ipv6/conf/all/disable_ipv6").is_some_and(|off| off == "0")
        && of("ipv6/conf/default/disable_ipv6").is_some_and(|off| off == "0");
    let required = sysctl::required(wanted.has_ipv6() && has_ipv6, &advertised);
    let refused = sysctl::refused(&required);
    let bridges = host
        .iter()
        .flat_map(|host| &host.links)
        .filter(|link| link.kind.as_deref() == Some("bridge") && wanted.has_device(&link.name));
    let bridges = bridges.map(|link| link.name.clone());
    let names: Vec<String> = uplinks.into_iter().map(|uplink| uplink.name).collect();
    Sysctls {
        refused: needs_root(is_privileged)
            .map(|()| refused.iter().map(|error| Unknown::because(error).0).collect()),
        has_ipv6,
        not_forwarding: names.iter().cloned().chain(bridges).filter(|it| is_closed(it)).collect(),
        strict_uplinks: names.into_iter().filter(|name| is_strict(name)).collect(),
        losing_routes: advertised.into_iter().filter(|name| is_losing_its_route(name)).collect(),
        bridge_filters: BRIDGE_FILTERS
            .into_iter()
            .filter(|name| of(&format!("bridge/{name}")).is_some_and(|value| value == "1"))
            .collect(),
    }
}

const BRIDGE_FILTERS: [&str; 2] = ["bridge-nf-call-iptables", "bridge-nf-call-ip6tables"];

/// A setting below /proc/sys/net, where there is one that can be read.
fn of(path: &str) -> Option<String> {
    text_of(Path::new("/proc/sys/net").join(path)).ok().flatten()
}

/// The larger of a device's setting and everybody's counts (`IN_DEV_RPFILTER`); 2 is loose.
fn is_strict(ifname: &str) -> bool {
    let value = |name: &str| {
        of(&format!("ipv4/conf/{name}/rp_filter")).and_then(|value| value.parse().ok()).unwrap_or(0)
    };
    value("all").max(value(ifname)) == 1_u8
}

/// What comes by a device is forwarded if that device forwards (`IN_DEV_FORWARD`). IPv6 asks for the host's setting alone.
fn is_closed(ifname: &str) -> bool {
    let has = |key: &str, wanted: &str| of(&format!("ipv4/{key}")).is_some_and(|it| it == wanted);
    has("ip_forward", "1") && has(&format!("conf/{ifname}/forwarding"), "0")
}

/// A device that forwards heeds a router's advertisements only with `accept_ra` 2.
fn is_losing_its_route(ifname: &str) -> bool {
    let is_one =
        |key: &str| of(&format!("ipv6/conf/{ifname}/{key}")).is_some_and(|value| value == "1");
    is_one("forwarding") && is_one("accept_ra")
}

/// The devices of netd's that somebody else manages.
pub(super) fn managed(host: Result<&Host, &Unknown>, wanted: &Wanted) -> Vec<Managed> {
    let Ok(host) = host else { return Vec::new() };
    // The managers' files are called by the indices of the first process's network namespace.
    if !is_first_network_namespace() {
        return Vec::new();
    }
    let ours = host.links.iter().filter(|link| wanted.has_device(&link.name));
    let managed = ours.filter_map(|link| {
        Some(Managed { manager: manager(link.ifindex)?, ifname: link.name.clone() })
    });
    managed.collect()
}

fn manager(ifindex: u32) -> Option<Manager> {
    let says = |dir: &str, is_managed: fn(&str) -> bool| {
        let text = text_of(Path::new(dir).join(ifindex.to_string())).ok().flatten();
        text.unwrap_or_default().lines().any(is_managed)
    };
    if says("/run/NetworkManager/devices", |line| line == "managed=true") {
        Some(Manager::NetworkManager)
    } else if says("/run/systemd/netif/links", |line| {
        line.starts_with("ADMIN_STATE=") && line != "ADMIN_STATE=unmanaged"
    }) {
        Some(Manager::Networkd)
    } else {
        None
    }
}

fn is_first_network_namespace() -> bool {
    let of = |process: &str| std::fs::read_link(format!("/proc/{process}/ns/net")).ok();
    let own = of("self");
    own.is_some() && own == of("1")
}
