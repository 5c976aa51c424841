//! The host's own ports, by its sysctls and its sockets.

use std::path::Path;

use tracing::warn;

use crate::{listeners, model::Listener, sysctl};

/// Linux's own default (`net/ipv4/af_inet.c`), where the sysctl cannot be read.
const DEFAULT_PORT_RANGE: (u16, u16) = (32_768, 60_999);

/// The host's sockets that wait for clients, but for our own, which are in nobody's way. Where they cannot be read, a
/// port may be published that has one.
pub(super) fn listeners() -> Vec<Listener> {
    let others = listeners::listeners().and_then(|mut listeners| {
        let own = listeners::own_sockets()?;
        listeners.retain(|listener| !own.contains(&listener.inode));
        Ok(listeners)
    });
    others.unwrap_or_else(|error| {
        warn!(%error, "the host's sockets cannot be listed");
        Vec::new()
    })
}

/// Where ports are picked from that nobody names.
pub(super) fn local_port_range() -> (u16, u16) {
    let path = Path::new("/proc/sys/net/ipv4/ip_local_port_range");
    let text = sysctl::read(path).unwrap_or_default();
    let mut numbers = text.split_whitespace().map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(first)), Some(Ok(last))) => (first, last),
        _ => DEFAULT_PORT_RANGE,
    }
}

/// The ports that nobody may be given: `1-3,7` in the kernel's notation.
pub(super) fn reserved_ports() -> Vec<(u16, u16)> {
    let path = Path::new("/proc/sys/net/ipv4/ip_local_reserved_ports");
    let text = sysctl::read(path).unwrap_or_default();
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some((first.parse().ok()?, last.parse().ok()?))
    };
    text.trim().split(',').filter_map(range).collect()
}
