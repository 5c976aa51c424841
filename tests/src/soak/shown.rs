//! What host and sandboxes show, in the words of [`super::seen::Answers::of_host`].

use std::{
    fs,
    net::{Ipv4Addr, Ipv6Addr},
};

use anyhow::{Result, ensure};
use nix::ifaddrs::getifaddrs;
use serde_json::Value;

use super::seen::{Lines, text};
use crate::{netns::Namespace, topology::UPLINK};

/// The host's devices.
///
/// # Errors
/// Where they cannot be listed.
pub fn of_host(host: &Namespace) -> Result<Lines> {
    let outcome = host.run("ip -json -details address");
    ensure!(outcome.is_ok(), "{outcome}");
    let links: Vec<Value> = serde_json::from_str(&outcome.stdout)?;
    let mut lines = Lines::new();
    for link in &links {
        let ifname = text(link, "ifname");
        if ifname == "lo" || ifname == UPLINK {
            continue;
        }
        let kind = text(&link["linkinfo"], "info_kind");
        let is_up = link["flags"].as_array().is_some_and(|it| it.iter().any(|flag| flag == "UP"));
        let up = if is_up { "up" } else { "down" };
        let within = link["master"].as_str().map(|it| format!(" in {it}")).unwrap_or_default();
        lines.insert(format!("{ifname} {kind} {up}{within}"));
        let addresses = link["addr_info"].as_array().into_iter().flatten();
        let addresses = addresses.filter(|address| address["scope"] != "link");
        lines.extend(addresses.map(|address| {
            format!("{ifname} has {}/{}", text(address, "local"), address["prefixlen"])
        }));
    }
    Ok(lines)
}

/// What a sandbox has: devices, addresses and default routes.
///
/// # Errors
/// Where the kernel does not say.
pub fn of_sandbox(sandbox: &Namespace) -> Result<Lines> {
    let name = sandbox.name();
    sandbox.inside(|| {
        let mut lines = Lines::new();
        for device in getifaddrs()?.filter(|device| device.interface_name != "lo") {
            let ifname = &device.interface_name;
            let Some(address) = device.address else { continue };
            if let Some(mac) = address.as_link_addr().and_then(|link| link.addr()) {
                let mac = mac.map(|byte| format!("{byte:02x}")).join(":");
                lines.insert(format!("{name} {ifname} is {mac}"));
            } else if let Some(v4) = address.as_sockaddr_in() {
                let mask = device.netmask.as_ref().and_then(|mask| mask.as_sockaddr_in());
                let len = mask.map(|mask| mask.ip().to_bits().count_ones()).unwrap_or_default();
                lines.insert(format!("{name} {ifname} has {}/{len}", v4.ip()));
            } else if let Some(v6) = address.as_sockaddr_in6()
                && !v6.ip().is_unicast_link_local()
            {
                let mask = device.netmask.as_ref().and_then(|mask| mask.as_sockaddr_in6());
                let len = mask.map(|mask| mask.ip().to_bits().count_ones()).unwrap_or_default();
                lines.insert(format!("{name} {ifname} has {}/{len}", v6.ip()));
            }
        }
        lines.extend(default_routes()?.iter().map(|route| format!("{name} {route}")));
        Ok(lines)
    })
}

/// The default routes of the calling thread's namespace.
fn default_routes() -> Result<Vec<String>> {
    let mut routes = Vec::new();
    let table = fs::read_to_string("/proc/thread-self/net/route")?;
    for row in table.lines().skip(1) {
        let columns: Vec<&str> = row.split_whitespace().collect();
        if let [ifname, "00000000", gateway, _, _, _, _, "00000000", ..] = columns[..] {
            // The number is what a big-endian machine would read.
            let gateway = Ipv4Addr::from(u32::from_be(u32::from_str_radix(gateway, 16)?));
            routes.push(format!("{ifname} leads to {gateway}"));
        }
    }
    let table = fs::read_to_string("/proc/thread-self/net/ipv6_route").unwrap_or_default();
    for row in table.lines() {
        let columns: Vec<&str> = row.split_whitespace().collect();
        if let [destination, "00", _, _, gateway, _, _, _, _, ifname] = columns[..]
            && destination.bytes().all(|digit| digit == b'0')
            && ifname != "lo"
        {
            let gateway = Ipv6Addr::from(u128::from_str_radix(gateway, 16)?);
            routes.push(format!("{ifname} leads to {gateway}"));
        }
    }
    Ok(routes)
}
