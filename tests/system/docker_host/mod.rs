//! A Docker host whose packets are netd's: a real dockerd, an old, a middle and a new one, with iptables and the userland
//! proxy off.

mod lifecycle;
mod matrix;
mod measure;
mod moby;
mod names;
mod nonsense;
mod ports;
mod restarts;
mod settings;

use netd_tests::{docker::DockerHost, family::Family, topology::subnet};

/// Creates a network of Docker's with the subnets that belong to `number`.
#[track_caller]
fn create_network(host: &DockerHost, name: &str, number: u8, options: &str) {
    let [v4, v6] = Family::BOTH.map(|family| subnet(family, number));
    host.docker(&format!("network create --ipv6 --subnet {v4} --subnet {v6} {options} {name}"))
        .ok();
}
