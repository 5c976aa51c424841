//! What the daemon writes into the maps, written by tests, and the counters.

use std::{
    net::{IpAddr, SocketAddr},
    ops::RangeInclusive,
};

use anyhow::{Context as _, Result};
use aya::{
    Pod,
    maps::{Array, HashMap, LpmTrie, MapData, PerCpuArray, lpm_trie},
};
use netd_common::{
    address::{Address, Port, V4, V6},
    config::DatapathConfig,
    counters::{Counter, Traffic},
    network::{BridgePort, Endpoint, IsolationKey, MasqueradeKey, Network, TrustedKey},
    published::{PublishedPort, PublishedPortKey, PublishedRangeKey, port_prefixes},
};

use super::Datapath;
use crate::reasons::{self, Counters};

/// A published port, or a range of them.
#[derive(Clone, Debug)]
pub struct Published {
    /// The host address, or the unspecified one of the family.
    pub addr: IpAddr,
    /// The protocol number.
    pub proto: u8,
    /// The host ports; more than one make a range.
    pub ports: RangeInclusive<u16>,
    /// Where the first one leads.
    pub container: SocketAddr,
    /// The container's network.
    pub network: u16,
    /// The published port's slot.
    pub slot: u32,
    /// The endpoint's slot.
    pub endpoint_slot: u32,
}

impl Datapath {
    /// Writes the configuration.
    ///
    /// # Errors
    /// As for every method here: where the kernel refuses an element.
    pub fn configure(&mut self, config: &DatapathConfig) -> Result<()> {
        self.set("CONFIG", 0, *config)
    }

    /// Writes a network.
    ///
    /// # Errors
    /// Where the kernel refuses it.
    pub fn set_network(&mut self, number: u16, network: &Network) -> Result<()> {
        self.set("NETWORKS", number.into(), *network)
    }

    /// Writes a slot's generation.
    ///
    /// # Errors
    /// Where the kernel refuses it.
    pub fn set_generation(&mut self, slot: u32, generation: u32) -> Result<()> {
        self.set("GENERATIONS", slot, generation)
    }

    /// Adds a bridge port.
    ///
    /// # Errors
    /// Where the kernel refuses it.
    pub fn add_bridge_port(&mut self, ifindex: u32, port: &BridgePort) -> Result<()> {
        self.insert("BRIDGE_PORTS", ifindex, *port)
    }

    /// Makes a device one that carries the programs, with bits of `UplinkFlags`.
    ///
    /// # Errors
    /// Where the kernel refuses it.
    pub fn add_uplink(&mut self, ifindex: u32, flags: u32) -> Result<()> {
        self.insert("UPLINKS", ifindex, flags)
    }

    /// Makes a device the bridge of a network.
    ///
    /// # Errors
    /// Where the kernel refuses it.
    pub fn add_bridge(&mut self, ifindex: u32, number: u16) -> Result<()> {
        self.insert("BRIDGES", ifindex, u32::from(number))
    }

    /// Lets a network's published ports be reached from a device by the containers' own addresses.
    ///
    /// # Errors
    /// Where the kernel refuses it.
    pub fn trust(&mut self, ifindex: u32, number: u16) -> Result<()> {
        let key = TrustedKey { ifindex, network: u32::from(number) };
        self.insert("TRUSTED_INTERFACES", key, 1u32)
    }

    /// Says which MAC address frames for the host have on a device.
    ///
    /// # Errors
    /// Where the kernel refuses it.
    pub fn add_uplink_mac(&mut self, ifindex: u32, mac: [u8; 6]) -> Result<()> {
        self.insert("UPLINK_MACS", ifindex, mac)
    }

    /// Lets packets of one network into another.
    ///
    /// # Errors
    /// Where the kernel refuses it.
    pub fn allow(&mut self, from: u16, to: u16) -> Result<()> {
        self.insert("ISOLATION_SETS", IsolationKey { from, to }, 1u32)
    }

    /// Adds an address of the host.
    ///
    /// # Errors
    /// Where the kernel refuses it.
    pub fn add_host_address(&mut self, addr: IpAddr) -> Result<()> {
        match addr {
            IpAddr::V4(addr) => self.insert("HOST_ADDRESSES_V4", V4::new(addr), 1u32),
            IpAddr::V6(addr) => self.insert("HOST_ADDRESSES_V6", V6::new(addr), 1u32),
        }
    }

    /// Adds a network's subnet.
    ///
    /// # Errors
    /// Where the kernel refuses it.
    pub fn add_subnet(&mut self, subnet: IpAddr, bits: u32, number: u16) -> Result<()> {
        let number = u32::from(number);
        match subnet {
            IpAddr::V4(addr) => self.insert_prefix("SUBNETS_V4", bits, V4::new(addr), number),
            IpAddr::V6(addr) => self.insert_prefix("SUBNETS_V6", bits, V6::new(addr), number),
        }
    }

    /// Adds an endpoint.
    ///
    /// # Errors
    /// Where the kernel refuses it.
    pub fn add_endpoint(&mut self, addr: IpAddr, endpoint: &Endpoint) -> Result<()> {
        match addr {
            IpAddr::V4(addr) => self.insert("ENDPOINTS_V4", V4::new(addr), *endpoint),
            IpAddr::V6(addr) => self.insert("ENDPOINTS_V6", V6::new(addr), *endpoint),
        }
    }

    /// Adds the source for everything that leaves by a device.
    ///
    /// # Errors
    /// Where the kernel refuses it.
    pub fn add_masquerade_source(&mut self, ifindex: u32, source: IpAddr) -> Result<()> {
        match source {
            IpAddr::V4(source) => {
                let key = MasqueradeKey { ifindex, dst: V4::UNSPECIFIED };
                self.insert_prefix("MASQUERADE_SOURCES_V4", 32, key, V4::new(source))
            }
            IpAddr::V6(source) => {
                let key = MasqueradeKey { ifindex, dst: V6::UNSPECIFIED };
                self.insert_prefix("MASQUERADE_SOURCES_V6", 32, key, V6::new(source))
            }
        }
    }

    /// Publishes a port or a range.
    ///
    /// # Errors
    /// Where the kernel refuses it.
    pub fn publish(&mut self, published: &Published) -> Result<()> {
        match (published.addr, published.container.ip()) {
            (IpAddr::V4(addr), IpAddr::V4(container)) => self.publish_in(
                ["PUBLISHED_PORTS_V4", "PUBLISHED_RANGES_V4"],
                (V4::new(addr), V4::new(container)),
                published,
            ),
            (IpAddr::V6(addr), IpAddr::V6(container)) => self.publish_in(
                ["PUBLISHED_PORTS_V6", "PUBLISHED_RANGES_V6"],
                (V6::new(addr), V6::new(container)),
                published,
            ),
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => {
                anyhow::bail!("both addresses have one family: {published:?}")
            }
        }
    }

    fn publish_in<A: Address>(
        &mut self,
        [single, ranges]: [&str; 2],
        (addr, container): (A, A),
        published: &Published,
    ) -> Result<()>
    where
        PublishedPortKey<A>: Pod,
        PublishedRangeKey<A>: Pod,
        PublishedPort<A>: Pod,
    {
        let (first, last, proto) =
            (*published.ports.start(), *published.ports.end(), published.proto);
        let leads_to = PublishedPort {
            addr: container,
            port: Port::new(published.container.port()),
            host_port: Port::new(first),
            network: published.network,
            flags: 0,
            slot: published.slot,
            endpoint_slot: published.endpoint_slot,
        };
        if first == last {
            let key = PublishedPortKey { addr, port: Port::new(first), proto, reserved: 0 };
            return self.insert(single, key, leads_to);
        }
        port_prefixes(first, last).try_for_each(|(port, bits)| {
            let bits = PublishedRangeKey::<A>::HEAD_BITS + bits;
            self.insert_prefix(ranges, bits, PublishedRangeKey::new(addr, proto, port), leads_to)
        })
    }

    /// What a slot has counted.
    ///
    /// # Errors
    /// Where there is no such slot.
    pub fn traffic(&self, slot: u32) -> Result<Traffic> {
        let map: PerCpuArray<&MapData, Traffic> =
            self.ebpf.map("TRAFFIC").context("no map TRAFFIC")?.try_into()?;
        let values = map.get(&slot, 0)?;
        Ok(values.iter().fold(Traffic::default(), |sum, cpu| Traffic {
            received: add(sum.received, cpu.received),
            sent: add(sum.sent, cpu.sent),
            flows: sum.flows + cpu.flows,
        }))
    }

    /// Packets and bytes of every reason that has met a packet.
    ///
    /// # Errors
    /// Where the counters cannot be read.
    pub fn counters(&self) -> Result<Counters> {
        let map: PerCpuArray<&MapData, Counter> =
            self.ebpf.map("COUNTERS").context("no map COUNTERS")?.try_into()?;
        reasons::read(&map)
    }

    fn set<V: Pod>(&mut self, name: &str, index: u32, value: V) -> Result<()> {
        let map = self.ebpf.map_mut(name).with_context(|| format!("no map {name}"))?;
        Ok(Array::<&mut MapData, V>::try_from(map)?.set(index, value, 0)?)
    }

    pub(super) fn insert<K: Pod, V: Pod>(&mut self, name: &str, key: K, value: V) -> Result<()> {
        let map = self.ebpf.map_mut(name).with_context(|| format!("no map {name}"))?;
        Ok(HashMap::<&mut MapData, K, V>::try_from(map)?.insert(key, value, 0)?)
    }

    fn insert_prefix<K: Pod, V: Pod>(
        &mut self,
        name: &str,
        bits: u32,
        key: K,
        value: V,
    ) -> Result<()> {
        let map = self.ebpf.map_mut(name).with_context(|| format!("no map {name}"))?;
        let mut map = LpmTrie::<&mut MapData, K, V>::try_from(map)?;
        Ok(map.insert(&lpm_trie::Key::new(bits, key), value, 0)?)
    }
}

pub(crate) fn add(a: Counter, b: Counter) -> Counter {
    Counter { packets: a.packets + b.packets, bytes: a.bytes + b.bytes }
}
