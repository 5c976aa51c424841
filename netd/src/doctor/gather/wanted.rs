//! The networks and published ports: from the daemon, or from the store where none runs.

use std::time::Duration;

use crate::{
    api::{EndpointInfo, Item, NetworkInfo, Request, UnexpectedItem},
    client::{Client, ClientError},
    config::Config,
    desired::Desired,
    doctor::facts::{Daemon, Unknown, Wanted, WantedNetwork, WantedPort},
    model::{Endpoint, Network, PublishedPort},
    store::{Store, StoreError},
};

/// How long the daemon may take to answer: far longer than it takes to make a network.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// What there is, or is to be.
pub(super) fn wanted(config: &Config, daemon: Option<&Daemon>) -> Wanted {
    let wanted = if daemon == Some(&Daemon::Here) {
        ask(config).map_err(|error| Unknown::because(&error))
    } else {
        match Store::read(&config.daemon.state_dir) {
            Ok(stored) => Ok(of_store(&stored.desired)),
            Err(StoreError::Missing { .. }) => Ok(Wanted::default()),
            Err(error) => Err(Unknown(error.to_string())),
        }
    };
    wanted.unwrap_or_else(|Unknown(why)| Wanted { error: Some(why), ..Wanted::default() })
}

fn of_store(desired: &Desired) -> Wanted {
    let ports = desired.endpoints.values().flat_map(|endpoint: &Endpoint| {
        endpoint.ports.iter().map(|port| WantedPort {
            endpoint: endpoint.name.clone(),
            port: port.clone(),
            is_dockers: desired.is_dockers(endpoint),
        })
    });
    let network = |network: &Network| WantedNetwork {
        name: network.name.clone(),
        bridge: network.bridge.clone(),
        mtu: network.mtu,
        subnets: network.subnets.iter().map(|subnet| subnet.subnet).collect(),
        has_mss_clamp: network.mss_clamp.is_some(),
    };
    let trusted = desired.networks.values().flat_map(|network| &network.trusted_interfaces);
    Wanted {
        error: None,
        exists: true,
        networks: desired.networks.values().map(network).collect(),
        ports: ports.collect(),
        host_ifnames: desired.endpoints.values().map(|e| e.host_ifname.clone()).collect(),
        trusted_interfaces: trusted.cloned().collect(),
    }
}

/// Why the daemon's answer is of no use.
#[derive(Debug, thiserror::Error)]
enum AskError {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    Unexpected(#[from] UnexpectedItem),
}

/// Asks the daemon, which has the store for itself.
fn ask(config: &Config) -> Result<Wanted, AskError> {
    let mut client = Client::connect(&config.daemon.socket)?;
    client.set_patience(PATIENCE)?;
    let networks: Vec<NetworkInfo> = all(&mut client, Request::NetworkList)?;
    let endpoints: Vec<EndpointInfo> = all(&mut client, Request::EndpointList)?;
    Ok(Wanted {
        error: None,
        exists: true,
        networks: networks.iter().map(shown_network).collect(),
        ports: endpoints.iter().flat_map(shown_ports).collect(),
        host_ifnames: endpoints.iter().map(|endpoint| endpoint.host_ifname.clone()).collect(),
        trusted_interfaces: networks.iter().flat_map(trusted).collect(),
    })
}

fn all<T: TryFrom<Item, Error = UnexpectedItem>>(
    client: &mut Client,
    request: Request,
) -> Result<Vec<T>, AskError> {
    let items = client.request(request)?.filter(|item| !matches!(item, Ok(Item::Warning(_))));
    items.map(|item| Ok(T::try_from(item?)?)).collect()
}

fn shown_network(network: &NetworkInfo) -> WantedNetwork {
    WantedNetwork {
        name: network.name.clone(),
        bridge: network.bridge.clone(),
        mtu: network.mtu,
        subnets: network.subnets.iter().map(|subnet| subnet.subnet).collect(),
        has_mss_clamp: network.options.contains_key("mss_clamp"),
    }
}

fn trusted(network: &NetworkInfo) -> Vec<String> {
    const KEY: &str = "com.docker.network.bridge.trusted_host_interfaces";
    let names = network.options.get(KEY).map(String::as_str).unwrap_or_default();
    names.split(':').filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

fn shown_ports(endpoint: &EndpointInfo) -> impl Iterator<Item = WantedPort> {
    let is_dockers = !endpoint.manager.is_netd();
    endpoint.ports.iter().map(move |port| WantedPort {
        is_dockers,
        endpoint: port.endpoint.clone(),
        port: PublishedPort {
            slot: 0,
            proto: port.proto,
            host_ip: port.host_ip.clone(),
            host_port: port.host_port,
            host_port_end: port.host_port_end,
            port: port.port,
            port_end: port.port_end,
        },
    })
}
