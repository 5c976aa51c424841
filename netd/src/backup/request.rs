//! What somebody would ask for who wants exactly what a document holds: so it is checked as a request is.

use crate::{
    api::{Connect, NetworkCreate},
    driver_options::DriverOptions,
    model::{Endpoint, GatewayMode, HostIp, Network, PublishedPort},
    port_spec::{PortRange, PortSpec, PortSpecError},
};

/// The request that makes such a network.
pub(super) fn create(network: &Network) -> NetworkCreate {
    let subnets = network.subnets.iter();
    let aux = subnets.clone().flat_map(|subnet| subnet.aux_addresses.clone());
    NetworkCreate {
        name: network.name.clone(),
        subnets: subnets.clone().map(|subnet| subnet.subnet).collect(),
        gateways: subnets.clone().filter_map(|subnet| subnet.gateway).collect(),
        ip_ranges: subnets.clone().filter_map(|subnet| subnet.ip_range).collect(),
        aux_addresses: aux.collect(),
        // The subnets are given.
        ipv6: false,
        internal: network.internal,
        icc: Some(network.icc),
        masquerade: Some(network.masquerade),
        snat_addresses: network.snat_addresses.clone(),
        gateway_mode: gateway_mode(network),
        datapath: network.datapath,
        mtu: Some(network.mtu),
        bridge: Some(network.bridge.clone()),
        max_flows: network.max_flows,
        nat: network.nat,
        nptv6: network.nptv6,
        options: network.options.clone(),
        labels: network.labels.clone(),
    }
}

/// The mode that was asked for besides the options: that of a subnet which they do not explain.
fn gateway_mode(network: &Network) -> Option<GatewayMode> {
    // Options that cannot be read are refused with the request.
    let options = DriverOptions::parse(&network.options).unwrap_or_default().gateway_modes;
    let of_options = |is_ipv6: bool| options[usize::from(is_ipv6)].unwrap_or_default();
    let modes =
        network.subnets.iter().map(|it| (it.gateway_mode, of_options(it.subnet.addr().is_ipv6())));
    modes.clone().find(|(mode, explained)| mode != explained).map(|(mode, _)| mode)
}

/// The request that makes such an endpoint.
pub(super) fn connect(endpoint: &Endpoint) -> Result<Connect, PortSpecError> {
    Ok(Connect {
        network: endpoint.network.clone(),
        sandbox: endpoint.sandbox.text.clone(),
        name: Some(endpoint.name.clone()),
        aliases: endpoint.aliases.clone(),
        ip: endpoint.ipv4.map(|net| net.addr()),
        ip6: endpoint.ipv6.map(|net| net.addr()),
        mac: Some(endpoint.mac),
        ifname: Some(endpoint.ifname.clone()),
        gw_priority: endpoint.gw_priority,
        max_flows: endpoint.max_flows,
        ports: endpoint.ports.iter().map(spec).collect::<Result<_, _>>()?,
    })
}

fn spec(port: &PublishedPort) -> Result<PortSpec, PortSpecError> {
    let host_ip = match &port.host_ip {
        // Nobody can ask for it: it is what becomes of a port of a routed network.
        HostIp::Container => HostIp::Any,
        host_ip @ (HostIp::Any | HostIp::Address(_) | HostIp::Interface(_)) => host_ip.clone(),
    };
    Ok(PortSpec {
        host_ip,
        host_ports: Some(PortRange::new(port.host_port, port.host_port_end)?),
        ports: PortRange::new(port.port, port.port_end)?,
        proto: port.proto,
    })
}
