//! The rules that Docker keeps for one bridge network, as text for `iptables-restore`.
//!
//! Source: moby 29, `daemon/libnetwork/drivers/bridge/internal/iptabler/testdata/TestIptabler`
//! (Apache-2.0), the set for a NAT network with the userland proxy off:
//! `hairpin=true,internal=false,icc=true,masq=true,snat=false,gwm=nat,bindlh=false`. What dockerd sets
//! outside of that test is added: the jump to DOCKER-USER and FORWARD's policy.

use std::{fmt::Write as _, net::IpAddr};

use super::address::Family;

/// A network with one container.
pub(super) struct Network<'a> {
    pub(super) bridge: &'a str,
    pub(super) family: Family,
}

/// A published port that is the same number outside and in the container.
pub(super) struct PublishedPort {
    pub(super) protocol: &'static str,
    pub(super) number: u16,
}

/// The tables raw, filter and nat.
pub(super) fn tables(network: &Network<'_>, ports: &[PublishedPort]) -> String {
    let container = host_prefix(network.family.container());
    let bridge = network.bridge;
    let raw = format!("-A PREROUTING -d {container} ! -i {bridge} -j DROP\n");
    format!(
        "*raw\n:PREROUTING ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n{raw}COMMIT\n{}{}",
        filter(network, ports),
        nat(network, ports)
    )
}

fn filter(network: &Network<'_>, ports: &[PublishedPort]) -> String {
    let (bridge, container) = (network.bridge, host_prefix(network.family.container()));
    let mut accepts = String::new();
    for PublishedPort { protocol, number } in ports {
        let _ = writeln!(
            accepts,
            "-A DOCKER -d {container} ! -i {bridge} -o {bridge} -p {protocol} -m {protocol} \
             --dport {number} -j ACCEPT"
        );
    }
    format!(
        "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD DROP [0:0]\n:OUTPUT ACCEPT [0:0]\n:DOCKER - [0:0]\n\
         :DOCKER-BRIDGE - [0:0]\n:DOCKER-CT - [0:0]\n:DOCKER-FORWARD - [0:0]\n\
         :DOCKER-INTERNAL - [0:0]\n:DOCKER-USER - [0:0]\n-A FORWARD -j DOCKER-USER\n\
         -A FORWARD -j DOCKER-FORWARD\n{accepts}-A DOCKER ! -i {bridge} -o {bridge} -j DROP\n\
         -A DOCKER-BRIDGE -o {bridge} -j DOCKER\n\
         -A DOCKER-CT -o {bridge} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n\
         -A DOCKER-FORWARD -j DOCKER-CT\n-A DOCKER-FORWARD -j DOCKER-INTERNAL\n\
         -A DOCKER-FORWARD -j DOCKER-BRIDGE\n-A DOCKER-FORWARD -i {bridge} -j ACCEPT\nCOMMIT\n"
    )
}

fn nat(network: &Network<'_>, ports: &[PublishedPort]) -> String {
    let Network { bridge, family } = *network;
    let (address, subnet) = (family.container(), family.container_subnet());
    let container = host_prefix(address);
    let source = family.pick("", "! -s fe80::/10 ");
    let target = family.pick(address.to_string(), format!("[{address}]"));
    let (mut hairpins, mut dnats) = (String::new(), String::new());
    for PublishedPort { protocol, number } in ports {
        let matched = format!("-p {protocol} -m {protocol} --dport {number}");
        let _ = writeln!(
            hairpins,
            "-A POSTROUTING -s {container} -d {container} {matched} -j MASQUERADE"
        );
        let _ = writeln!(
            dnats,
            "-A DOCKER {source}{matched} -j DNAT --to-destination {target}:{number}"
        );
    }
    format!(
        "*nat\n:PREROUTING ACCEPT [0:0]\n:INPUT ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n\
         :POSTROUTING ACCEPT [0:0]\n:DOCKER - [0:0]\n\
         -A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER\n\
         -A OUTPUT -m addrtype --dst-type LOCAL -j DOCKER\n\
         -A POSTROUTING -o {bridge} -m addrtype --src-type LOCAL -j MASQUERADE\n\
         -A POSTROUTING -s {subnet} ! -o {bridge} -j MASQUERADE\n{hairpins}{dnats}COMMIT\n"
    )
}

fn host_prefix(address: IpAddr) -> String {
    let length = if address.is_ipv4() { 32 } else { 128 };
    format!("{address}/{length}")
}

#[cfg(test)]
mod tests;
