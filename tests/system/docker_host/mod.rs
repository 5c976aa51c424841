//! A Docker host whose packets are netd's: a real dockerd, an old, a middle and a new one, with iptables and the userland
//! proxy off.

mod inside;
mod lifecycle;
mod matrix;
mod measure;
mod moby;
mod names;
mod nonsense;
mod ports;
mod restarts;
mod settings;

use std::net::IpAddr;

use netd_tests::{docker::DockerHost, family::Family, netns::Namespace, topology::subnet};

/// Creates a network of Docker's with the subnets that belong to `number`.
#[track_caller]
fn create_network(host: &DockerHost, name: &str, number: u8, options: &str) {
    let [v4, v6] = Family::BOTH.map(|family| subnet(family, number));
    host.docker(&format!("network create --ipv6 --subnet {v4} --subnet {v6} {options} {name}"))
        .ok();
}

/// A container's address on its first network, by its own account.
#[track_caller]
fn own_address(container: &Namespace, family: Family) -> IpAddr {
    let line = format!("ip {} -json address show dev eth0 scope global", family.pick("-4", "-6"));
    let addresses = container.run(&line).json();
    let text = addresses[0]["addr_info"][0]["local"].as_str().unwrap_or_default();
    text.parse().unwrap_or_else(|_| panic!("no {family} address: {addresses}"))
}
