//! That netd's account of networks and containers is Docker's.

use std::net::IpAddr;

use netd_tests::{condition::eventually_some, docker::DockerHost};
use serde_json::{Value, json};

/// Waits until netd's endpoint of a container on a network is as Docker says, and returns it.
#[track_caller]
pub(super) fn agreed(host: &DockerHost, container: &str, network: &str) -> Value {
    let docker = host.inspect(container)["NetworkSettings"]["Networks"][network].take();
    assert_ne!(docker, Value::Null, "{container} is not on {network}");
    let expected = json!([
        &docker["EndpointID"],
        docker["MacAddress"].as_str().map(str::to_lowercase),
        net(&docker["IPAddress"], &docker["IPPrefixLen"]),
        net(&docker["GlobalIPv6Address"], &docker["GlobalIPv6PrefixLen"]),
    ]);
    eventually_some(&format!("netd says {expected} of {container} on {network}"), || {
        let all = host.world.netd("endpoint ls --json").json();
        let is_it = |it: &&Value| json!([it["id"], it["mac"], it["ipv4"], it["ipv6"]]) == expected;
        all.as_array()?.iter().find(is_it).cloned()
    })
}

/// An address with its prefix, null where there is none.
fn net(address: &Value, len: &Value) -> Value {
    let text = address.as_str().unwrap_or_default();
    if text.is_empty() { Value::Null } else { json!(format!("{text}/{len}")) }
}

/// Waits until netd's network has the subnets that Docker's has, and returns it.
#[track_caller]
pub(super) fn agreed_network(host: &DockerHost, name: &str) -> Value {
    let docker = host.docker(&format!("network inspect {name}")).json()[0].take();
    let expected: Vec<_> = rows(&docker["IPAM"]["Config"]).collect();
    eventually_some(&format!("netd says {expected:?} of {name}"), || {
        let network = host.world.netd(&format!("network inspect {name} --json"));
        let network = network.is_ok().then(|| network.json()[0].take())?;
        let has = |docker: &&Value| rows(&network["subnets"]).any(|own| is_same(own, docker));
        let is_it = network["id"] == docker["Id"]
            && rows(&network["subnets"]).count() == expected.len()
            && expected.iter().all(has);
        is_it.then_some(network)
    })
}

fn rows(array: &Value) -> impl Iterator<Item = &Value> {
    array.as_array().into_iter().flatten()
}

/// Docker does not say which gateway it has chosen itself.
fn is_same(own: &Value, docker: &Value) -> bool {
    let more = docker["AuxiliaryAddresses"].as_object().cloned().unwrap_or_default();
    json!([own["subnet"], own["ip_range"], own["aux_addresses"]])
        == json!([docker["Subnet"], docker["IPRange"], more])
        && (docker["Gateway"].is_null() || own["gateway"] == docker["Gateway"])
}

/// The subnets that netd says a network has, as texts.
pub(super) fn subnets(network: &Value) -> Vec<String> {
    let texts = rows(&network["subnets"]).filter_map(|it| Some(it["subnet"].as_str()?.to_owned()));
    texts.collect()
}

/// The address of an endpoint of [`agreed`].
#[track_caller]
pub(super) fn own(endpoint: &Value, is_ipv6: bool) -> IpAddr {
    let text = endpoint[if is_ipv6 { "ipv6" } else { "ipv4" }].as_str().unwrap_or_default();
    let address = text.split('/').next().and_then(|address| address.parse().ok());
    address.unwrap_or_else(|| panic!("no such address: {endpoint}"))
}

/// Asserts that there is nothing of Docker's that netd could not take up.
#[track_caller]
pub(super) fn faultless(host: &DockerHost) {
    let status = host.world.netd("docker status --json").json();
    assert_eq!((&status["state"], &status["faults"]), (&json!("followed"), &json!([])));
}
