//! How many entries the daemon's maps have, read from the pins, and how many they should have.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use aya::{
    Pod,
    maps::{HashMap, LpmTrie, Map, MapData},
};
use netd_common::{
    ABI_VERSION,
    address::{V4, V6},
    network::{BridgePort, Endpoint, IsolationKey, MasqueradeKey},
    published::{PublishedPort, PublishedPortKey, PublishedRangeKey, port_prefixes},
};

use super::{
    model::Model,
    seen::{Lines, line},
};
use crate::family::Family;

/// Counts the entries of every map that follows from the desired state.
///
/// # Errors
/// Where one cannot be read.
pub fn count(bpffs: &Path) -> Result<Lines> {
    let pins = Pins(bpffs.join(format!("v{ABI_VERSION}/maps")));
    Ok(Lines::from([
        line("SLOTS", pins.hash::<u32, u32>("SLOTS")?),
        line("BRIDGE_PORTS", pins.hash::<u32, BridgePort>("BRIDGE_PORTS")?),
        line("BRIDGES", pins.hash::<u32, u32>("BRIDGES")?),
        line("ISOLATION_SETS", pins.hash::<IsolationKey, u32>("ISOLATION_SETS")?),
        line("ENDPOINTS_V4", pins.hash::<V4, Endpoint>("ENDPOINTS_V4")?),
        line("ENDPOINTS_V6", pins.hash::<V6, Endpoint>("ENDPOINTS_V6")?),
        line("SUBNETS_V4", pins.trie::<V4, u32>("SUBNETS_V4")?),
        line("SUBNETS_V6", pins.trie::<V6, u32>("SUBNETS_V6")?),
        line("PUBLISHED_PORTS_V4", pins.ports::<V4>("PUBLISHED_PORTS_V4")?),
        line("PUBLISHED_PORTS_V6", pins.ports::<V6>("PUBLISHED_PORTS_V6")?),
        line("PUBLISHED_RANGES_V4", pins.ranges::<V4>("PUBLISHED_RANGES_V4")?),
        line("PUBLISHED_RANGES_V6", pins.ranges::<V6>("PUBLISHED_RANGES_V6")?),
    ]))
}

/// Counts the entries of the maps that follow from the host as well.
///
/// # Errors
/// Where one cannot be read.
pub fn count_of_host(bpffs: &Path) -> Result<Lines> {
    let pins = Pins(bpffs.join(format!("v{ABI_VERSION}/maps")));
    Ok(Lines::from([
        line("UPLINKS", pins.hash::<u32, u32>("UPLINKS")?),
        line("HOST_ADDRESSES_V4", pins.hash::<V4, u32>("HOST_ADDRESSES_V4")?),
        line("HOST_ADDRESSES_V6", pins.hash::<V6, u32>("HOST_ADDRESSES_V6")?),
        line("MASQUERADE_SOURCES_V4", pins.trie::<MasqueradeKey<V4>, V4>("MASQUERADE_SOURCES_V4")?),
        line("MASQUERADE_SOURCES_V6", pins.trie::<MasqueradeKey<V6>, V6>("MASQUERADE_SOURCES_V6")?),
    ]))
}

/// How many entries the maps of [`count`] should have.
pub fn expected(model: &Model) -> Lines {
    let ports: usize = model.endpoints.values().map(|endpoint| endpoint.ports.len()).sum();
    let mut lines = Lines::from([
        line("SLOTS", model.endpoints.len() + ports),
        line("BRIDGE_PORTS", model.endpoints.len()),
        line("BRIDGES", model.networks.len()),
        // A network may reach itself, and an allowance goes both ways.
        line("ISOLATION_SETS", model.networks.len() + 2 * model.allowed.len()),
    ]);
    for family in Family::BOTH {
        let name = |map: &str| format!("{map}_{}", family.pick("V4", "V6"));
        let endpoints =
            || model.endpoints.values().filter(|it| model.networks[&it.network].kind.has(family));
        let ports = || {
            let of_family = |port: &&super::operation::Port| {
                port.host_ip.is_none_or(|address| Family::of(address) == family)
            };
            endpoints().flat_map(|endpoint| &endpoint.ports).filter(of_family)
        };
        let networks = model.networks.values().filter(|network| network.kind.has(family));
        let ranges = ports().filter(|port| port.len > 1);
        let entries =
            ranges.map(|port| port_prefixes(port.host_port, port.host_port + port.len - 1).count());
        lines.extend([
            line(&name("ENDPOINTS"), endpoints().count()),
            line(&name("SUBNETS"), networks.count()),
            line(&name("PUBLISHED_PORTS"), ports().filter(|port| port.len == 1).count()),
            line(&name("PUBLISHED_RANGES"), entries.sum::<usize>()),
        ]);
    }
    lines
}

/// The folder of the maps' pins.
struct Pins(PathBuf);

impl Pins {
    fn map(&self, name: &str) -> Result<Map> {
        let data = MapData::from_pin(self.0.join(name)).with_context(|| name.to_owned())?;
        Ok(Map::from_map_data(data)?)
    }

    fn hash<K: Pod, V: Pod>(&self, name: &str) -> Result<usize> {
        let map = HashMap::<_, K, V>::try_from(self.map(name)?).with_context(|| name.to_owned())?;
        Ok(map.keys().collect::<Result<Vec<_>, _>>()?.len())
    }

    fn trie<K: Pod, V: Pod>(&self, name: &str) -> Result<usize> {
        let map = LpmTrie::<_, K, V>::try_from(self.map(name)?).with_context(|| name.to_owned())?;
        Ok(map.keys().collect::<Result<Vec<_>, _>>()?.len())
    }

    fn ports<A>(&self, name: &str) -> Result<usize>
    where
        PublishedPortKey<A>: Pod,
        PublishedPort<A>: Pod,
    {
        self.hash::<PublishedPortKey<A>, PublishedPort<A>>(name)
    }

    fn ranges<A>(&self, name: &str) -> Result<usize>
    where
        PublishedRangeKey<A>: Pod,
        PublishedPort<A>: Pod,
    {
        self.trie::<PublishedRangeKey<A>, PublishedPort<A>>(name)
    }
}
