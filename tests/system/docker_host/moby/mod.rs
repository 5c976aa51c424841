//! Docker's own integration tests of networks and of what packets do (`integration/networking` and
//! `integration/network/bridge` of moby 29), each by its name, with netd in the place of iptables and of the proxy. They
//! are written anew: what is asked is theirs. Where it is asked of dockerd alone, netd's account and packets have to
//! agree.

mod account;
mod bridge;
mod etchosts;
mod firewalld;
mod links;
mod mac_addr;
mod network_addresses;
mod network_bridge;
mod network_ports;
mod port_mapping;
mod resolvconf;

use std::net::{IpAddr, SocketAddr};

use netd_tests::{
    clients::{Page, fetch_url, try_fetch},
    condition::eventually_some,
    docker::{DockerContainer, DockerHost, Release},
    netns::Namespace,
};

fn host() -> DockerHost {
    DockerHost::new(Release::New)
}

/// Waits until a page comes from there: what Docker has made is netd's a moment later.
#[track_caller]
fn reached(from: &Namespace, to: SocketAddr) -> Page {
    eventually_some(&format!("{to} is reached"), || try_fetch(from, to).ok())
}

/// Asserts that nobody answers there.
#[track_caller]
fn closed(from: &Namespace, to: SocketAddr) {
    let answer = try_fetch(from, to);
    assert!(answer.is_err(), "{to}: {answer:?}");
}

/// The page at a host's address, which may need a zone.
#[track_caller]
fn fetched(from: &Namespace, address: &str, port: u16) -> Page {
    fetch_url(from, &format!("http://{address}:{port}/"))
}

/// A container's address on a network, by Docker's account.
#[track_caller]
fn address(host: &DockerHost, container: &DockerContainer, network: &str, is_ipv6: bool) -> IpAddr {
    let key = if is_ipv6 { "GlobalIPv6Address" } else { "IPAddress" };
    let all = host.inspect(&container.name);
    let text = all["NetworkSettings"]["Networks"][network][key].as_str().unwrap_or_default();
    text.parse().unwrap_or_else(|_| panic!("no address of {} on {network}: {text}", container.name))
}

/// The host port of a container's port.
#[track_caller]
fn host_port(host: &DockerHost, container: &str, port: &str) -> u16 {
    let all = host.inspect(container);
    let text = all["NetworkSettings"]["Ports"][port][0]["HostPort"].as_str().unwrap_or_default();
    text.parse().unwrap_or_else(|_| panic!("no host port of {container}: {text:?}"))
}
