//! The maps that the daemon writes, and the order in which they change.

use std::collections::BTreeMap;

use aya::{
    maps::{Array, HashMap, LpmTrie, Map, MapData, MapError, PerCpuArray, PerCpuValues},
    util::nr_cpus,
};
use netd_common::{
    address::{Address, V4, V6},
    config::{ConfigFlags, DatapathConfig},
    counters::Traffic,
    network::{
        AcceptedMark, BridgePort, Endpoint, IsolationKey, LinkKey, MasqueradeKey, Network,
        TrustedKey,
    },
    published::{PublishedPort, PublishedPortKey, PublishedRangeKey},
};

use super::{
    DatapathError,
    load::{open_map, pinned_map},
    map_error,
    pins::Pins,
    synced::{Synced, Table},
};
use crate::fail_point;
use crate::programmed::{FamilyContents, Programmed};

type SyncedHash<K, V> = Synced<HashMap<MapData, K, V>, K, V>;
type SyncedTrie<K, V> = Synced<LpmTrie<MapData, K, V>, (u32, K), V>;

/// The maps of both families and of none.
pub(super) struct Tables {
    config: Array<MapData, DatapathConfig>,
    generations: Array<MapData, u32>,
    traffic: PerCpuArray<MapData, Traffic>,
    flow_limits: Synced<Array<MapData, u32>, u32, u32>,
    slots: SyncedHash<u32, u32>,
    networks: Synced<Array<MapData, Network>, u32, Network>,
    isolation_sets: SyncedHash<IsolationKey, u32>,
    bridges: SyncedHash<u32, u32>,
    trusted_interfaces: SyncedHash<TrustedKey, u32>,
    accepted_marks: SyncedHash<u32, AcceptedMark>,
    links: SyncedHash<LinkKey, u32>,
    bridge_ports: SyncedHash<u32, BridgePort>,
    uplinks: SyncedHash<u32, u32>,
    uplink_macs: SyncedHash<u32, [u8; 6]>,
    reserved_ports: Synced<Array<MapData, u64>, u32, u64>,
    kept_ports: Synced<Array<MapData, u64>, u32, u64>,
    v4: FamilyTables<V4>,
    v6: FamilyTables<V6>,
}

struct FamilyTables<A: Address + aya::Pod>
where
    PublishedPortKey<A>: aya::Pod,
    PublishedRangeKey<A>: aya::Pod,
    PublishedPort<A>: aya::Pod,
    MasqueradeKey<A>: aya::Pod,
{
    published_ports: SyncedHash<PublishedPortKey<A>, PublishedPort<A>>,
    published_ranges: SyncedTrie<PublishedRangeKey<A>, PublishedPort<A>>,
    host_addresses: SyncedHash<A, u32>,
    subnets: SyncedTrie<A, u32>,
    endpoints: SyncedHash<A, Endpoint>,
    masquerade_sources: SyncedTrie<MasqueradeKey<A>, A>,
}

/// The names of one family's maps, in the order of the fields above.
const V4_NAMES: [&str; 6] = [
    "PUBLISHED_PORTS_V4",
    "PUBLISHED_RANGES_V4",
    "HOST_ADDRESSES_V4",
    "SUBNETS_V4",
    "ENDPOINTS_V4",
    "MASQUERADE_SOURCES_V4",
];
const V6_NAMES: [&str; 6] = [
    "PUBLISHED_PORTS_V6",
    "PUBLISHED_RANGES_V6",
    "HOST_ADDRESSES_V6",
    "SUBNETS_V6",
    "ENDPOINTS_V6",
    "MASQUERADE_SOURCES_V6",
];

impl Tables {
    /// Opens the maps and reads what they hold.
    pub(super) fn open(pins: &Pins) -> Result<Self, DatapathError> {
        Ok(Self {
            config: open_map(pins, "CONFIG", Map::Array)?,
            generations: open_map(pins, "GENERATIONS", Map::Array)?,
            flow_limits: synced(pins, "FLOW_LIMITS", Map::Array)?,
            slots: synced(pins, "SLOTS", Map::HashMap)?,
            traffic: open_map(pins, "TRAFFIC", Map::PerCpuArray)?,
            networks: synced(pins, "NETWORKS", Map::Array)?,
            isolation_sets: synced(pins, "ISOLATION_SETS", Map::HashMap)?,
            bridges: synced(pins, "BRIDGES", Map::HashMap)?,
            trusted_interfaces: synced(pins, "TRUSTED_INTERFACES", Map::HashMap)?,
            accepted_marks: synced(pins, "ACCEPTED_MARKS", Map::HashMap)?,
            links: synced(pins, "LINKS", Map::HashMap)?,
            bridge_ports: synced(pins, "BRIDGE_PORTS", Map::HashMap)?,
            uplinks: synced(pins, "UPLINKS", Map::HashMap)?,
            uplink_macs: synced(pins, "UPLINK_MACS", Map::HashMap)?,
            reserved_ports: synced(pins, "RESERVED_PORTS", Map::Array)?,
            kept_ports: synced(pins, "KEPT_PORTS", Map::Array)?,
            v4: FamilyTables::open(pins, V4_NAMES)?,
            v6: FamilyTables::open(pins, V6_NAMES)?,
        })
    }

    /// Says that no flow begins with the programs over these maps, which are new.
    pub(super) fn begin_no_flows(&mut self) -> Result<(), DatapathError> {
        self.write_config(DatapathConfig {
            flags: ConfigFlags::SUCCEEDED,
            ..bytemuck::Zeroable::zeroed()
        })
    }

    /// Writes timers and switches; those that follow from the contents are kept as `program` has found them.
    pub(super) fn set_config(&mut self, config: DatapathConfig) -> Result<(), DatapathError> {
        let held = self.config.get(&0, 0).map_err(map_error("CONFIG"))?;
        let kept = held.flags & ConfigFlags::OF_CONTENTS;
        self.write_config(DatapathConfig { flags: config.flags | kept, ..config })
    }

    fn write_config(&mut self, config: DatapathConfig) -> Result<(), DatapathError> {
        if self.config.get(&0, 0).map_err(map_error("CONFIG"))? == config {
            return Ok(());
        }
        fail_point::before_step();
        self.config.set(0, config, 0).map_err(map_error("CONFIG"))
    }

    /// Brings every map to its contents: in with what is reached before what leads there, out the
    /// other way round.
    pub(super) fn program(
        &mut self,
        config: DatapathConfig,
        wanted: &Programmed,
    ) -> Result<(), DatapathError> {
        let flags = config.flags | wanted.config_flags();
        self.write_config(DatapathConfig { flags, ..config })?;
        // Before a slot or a number is somebody else's.
        self.links.remove_others(&wanted.links).map_err(map_error("LINKS"))?;
        self.accepted_marks
            .remove_others(&wanted.accepted_marks)
            .map_err(map_error("ACCEPTED_MARKS"))?;
        self.count(&wanted.slots)?;
        let limits = &wanted.flow_limits;
        self.flow_limits.put_missing(limits).map_err(map_error("FLOW_LIMITS"))?;
        self.flow_limits.remove_others(limits).map_err(map_error("FLOW_LIMITS"))?;
        self.networks.put_missing(&wanted.networks).map_err(map_error("NETWORKS"))?;
        self.isolation_sets
            .put_missing(&wanted.isolation_sets)
            .map_err(map_error("ISOLATION_SETS"))?;
        self.bridges.put_missing(&wanted.bridges).map_err(map_error("BRIDGES"))?;
        self.trusted_interfaces
            .put_missing(&wanted.trusted_interfaces)
            .map_err(map_error("TRUSTED_INTERFACES"))?;
        self.bridge_ports.put_missing(&wanted.bridge_ports).map_err(map_error("BRIDGE_PORTS"))?;
        self.uplinks.put_missing(&wanted.uplinks).map_err(map_error("UPLINKS"))?;
        self.uplink_macs.put_missing(&wanted.uplink_macs).map_err(map_error("UPLINK_MACS"))?;
        self.reserved_ports
            .put_missing(&wanted.reserved_ports)
            .map_err(map_error("RESERVED_PORTS"))?;
        self.kept_ports.put_missing(&wanted.kept_ports).map_err(map_error("KEPT_PORTS"))?;
        self.v4.put_missing(&wanted.v4, V4_NAMES)?;
        self.v6.put_missing(&wanted.v6, V6_NAMES)?;
        self.accepted_marks
            .put_missing(&wanted.accepted_marks)
            .map_err(map_error("ACCEPTED_MARKS"))?;
        self.links.put_missing(&wanted.links).map_err(map_error("LINKS"))?;

        self.v6.remove_others(&wanted.v6, V6_NAMES)?;
        self.v4.remove_others(&wanted.v4, V4_NAMES)?;
        self.reserved_ports
            .remove_others(&wanted.reserved_ports)
            .map_err(map_error("RESERVED_PORTS"))?;
        self.kept_ports.remove_others(&wanted.kept_ports).map_err(map_error("KEPT_PORTS"))?;
        self.uplink_macs.remove_others(&wanted.uplink_macs).map_err(map_error("UPLINK_MACS"))?;
        self.uplinks.remove_others(&wanted.uplinks).map_err(map_error("UPLINKS"))?;
        self.bridge_ports.remove_others(&wanted.bridge_ports).map_err(map_error("BRIDGE_PORTS"))?;
        self.trusted_interfaces
            .remove_others(&wanted.trusted_interfaces)
            .map_err(map_error("TRUSTED_INTERFACES"))?;
        self.bridges.remove_others(&wanted.bridges).map_err(map_error("BRIDGES"))?;
        self.isolation_sets
            .remove_others(&wanted.isolation_sets)
            .map_err(map_error("ISOLATION_SETS"))?;
        self.networks.remove_others(&wanted.networks).map_err(map_error("NETWORKS"))?;
        self.slots.remove_others(&wanted.slots).map_err(map_error("SLOTS"))
    }

    /// Begins to count slots, from zero. The generation moves on with it: flows that an earlier owner of
    /// the slot has left are not the new one's.
    fn count(&mut self, slots: &BTreeMap<u32, u32>) -> Result<(), DatapathError> {
        let error = map_error("TRAFFIC");
        let cpus = nr_cpus().map_err(|(_, source)| error(MapError::IoError(source)))?;
        let new: Vec<u32> = slots
            .keys()
            .filter(|slot| !self.slots.contents().contains_key(slot))
            .copied()
            .collect();
        for slot in new {
            self.end_flows(slot)?;
            let zero = PerCpuValues::try_from(vec![Traffic::default(); cpus])
                .map_err(|source| error(MapError::IoError(source)))?;
            self.traffic.set(slot, zero, 0).map_err(&error)?;
        }
        self.slots.put_missing(slots).map_err(map_error("SLOTS"))
    }

    /// Ends the flows of a slot.
    pub(super) fn end_flows(&mut self, slot: u32) -> Result<(), DatapathError> {
        let error = map_error("GENERATIONS");
        let generation = self.generations.get(&slot, 0).map_err(&error)?;
        fail_point::before_step();
        self.generations.set(slot, generation.wrapping_add(1), 0).map_err(error)
    }

    /// What a slot has carried, by CPU.
    pub(super) fn traffic(&self, slot: u32) -> Result<PerCpuValues<Traffic>, DatapathError> {
        self.traffic.get(&slot, 0).map_err(map_error("TRAFFIC"))
    }
}

impl<A: Address + aya::Pod> FamilyTables<A>
where
    PublishedPortKey<A>: aya::Pod,
    PublishedRangeKey<A>: aya::Pod,
    PublishedPort<A>: aya::Pod,
    MasqueradeKey<A>: aya::Pod,
{
    fn open(pins: &Pins, names: [&'static str; 6]) -> Result<Self, DatapathError> {
        let [ports, ranges, addresses, subnets, endpoints, sources] = names;
        Ok(Self {
            published_ports: synced(pins, ports, Map::HashMap)?,
            published_ranges: synced(pins, ranges, Map::LpmTrie)?,
            host_addresses: synced(pins, addresses, Map::HashMap)?,
            subnets: synced(pins, subnets, Map::LpmTrie)?,
            endpoints: synced(pins, endpoints, Map::HashMap)?,
            masquerade_sources: synced(pins, sources, Map::LpmTrie)?,
        })
    }

    fn put_missing(
        &mut self,
        wanted: &FamilyContents<A>,
        names: [&'static str; 6],
    ) -> Result<(), DatapathError> {
        let [ports, ranges, addresses, subnets, endpoints, sources] = names.map(map_error);
        self.host_addresses.put_missing(&wanted.host_addresses).map_err(addresses)?;
        self.subnets.put_missing(&wanted.subnets).map_err(subnets)?;
        self.masquerade_sources.put_missing(&wanted.masquerade_sources).map_err(sources)?;
        self.endpoints.put_missing(&wanted.endpoints).map_err(endpoints)?;
        self.published_ranges.put_missing(&wanted.published_ranges).map_err(ranges)?;
        self.published_ports.put_missing(&wanted.published_ports).map_err(ports)
    }

    fn remove_others(
        &mut self,
        wanted: &FamilyContents<A>,
        names: [&'static str; 6],
    ) -> Result<(), DatapathError> {
        let [ports, ranges, addresses, subnets, endpoints, sources] = names.map(map_error);
        self.published_ports.remove_others(&wanted.published_ports).map_err(ports)?;
        self.published_ranges.remove_others(&wanted.published_ranges).map_err(ranges)?;
        self.endpoints.remove_others(&wanted.endpoints).map_err(endpoints)?;
        self.masquerade_sources.remove_others(&wanted.masquerade_sources).map_err(sources)?;
        self.subnets.remove_others(&wanted.subnets).map_err(subnets)?;
        self.host_addresses.remove_others(&wanted.host_addresses).map_err(addresses)
    }
}

fn synced<M, K, V>(
    pins: &Pins,
    name: &'static str,
    kind: fn(MapData) -> Map,
) -> Result<Synced<M, K, V>, DatapathError>
where
    M: Table<K, V> + TryFrom<Map, Error = MapError>,
    K: Ord + Clone,
    V: PartialEq + Clone,
{
    Synced::new(open_map(pins, name, kind)?, &pinned_map(pins, name)?).map_err(map_error(name))
}
