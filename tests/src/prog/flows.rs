//! The connection tables, read and disturbed by tests, and the expiry program.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
};

use anyhow::{Context as _, Result};
use aya::{
    Pod,
    maps::{HashMap, MapData},
};
use netd_common::{
    address::{Address, Port, V4, V6},
    conntrack::{CtEntry, CtKey, Scope, Zone},
    expiry::BatchHead,
    header::ETHERNET_LEN,
    names,
};

use super::Datapath;

/// A half of a flow or of a mapping: what is seen where, and what it becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Half {
    /// Whether it is a mapping's, which no packet is.
    pub is_mapping: bool,
    /// Whether it is seen on an uplink.
    pub is_on_uplink: bool,
    /// The protocol number.
    pub proto: u8,
    /// The source.
    pub src: SocketAddr,
    /// The destination.
    pub dst: SocketAddr,
    /// The source afterwards.
    pub new_src: SocketAddr,
    /// The destination afterwards.
    pub new_dst: SocketAddr,
    /// The port that its packets are redirected to; 0 where they are not.
    pub redirected_to: u32,
}

impl Half {
    fn new<A: Address>(key: &CtKey<A>, entry: &CtEntry<A>) -> Self {
        let end = |addr: A, port: Port| SocketAddr::new(addr.into(), port.number());
        Self {
            is_mapping: key.zone == Zone::MAPPINGS,
            is_on_uplink: key.scope == Scope::Uplink as u8,
            proto: key.proto,
            src: end(key.src, key.sport),
            dst: end(key.dst, key.dport),
            new_src: end(entry.new_src, entry.new_sport),
            new_dst: end(entry.new_dst, entry.new_dport),
            redirected_to: entry.redirect.ifindex,
        }
    }

    /// Whether each of two halves says that its packets answer the other's.
    pub fn is_peer(&self, other: &Self) -> bool {
        let answers = |one: &Self, other: &Self| {
            (one.new_src, one.new_dst) == (other.dst, other.src) && one.proto == other.proto
        };
        self != other && answers(self, other) && answers(other, self)
    }

    fn key<A: Address>(&self) -> Result<CtKey<A>> {
        let addr = |ip: IpAddr| A::from_ip(ip).with_context(|| format!("{ip}: the other family"));
        let scope = if self.is_on_uplink { Scope::Uplink } else { Scope::Endpoint };
        Ok(CtKey {
            src: addr(self.src.ip())?,
            dst: addr(self.dst.ip())?,
            sport: Port::new(self.src.port()),
            dport: Port::new(self.dst.port()),
            proto: self.proto,
            scope: scope as u8,
            zone: if self.is_mapping { Zone::MAPPINGS } else { Zone::FLOWS },
        })
    }
}

impl Datapath {
    /// Every half in both tables.
    ///
    /// # Errors
    /// Where a table cannot be read.
    pub fn halves(&self) -> Result<BTreeSet<Half>> {
        let v4 = self.entries::<V4>("CONNTRACK_V4")?;
        let v6 = self.entries::<V6>("CONNTRACK_V6")?;
        let v4 = v4.iter().map(|(key, entry)| Half::new(key, entry));
        Ok(v4.chain(v6.iter().map(|(key, entry)| Half::new(key, entry))).collect())
    }

    fn entries<A: Address>(&self, name: &str) -> Result<Vec<(CtKey<A>, CtEntry<A>)>>
    where
        CtKey<A>: Pod,
        CtEntry<A>: Pod,
    {
        let map = self.ebpf.map(name).with_context(|| format!("no map {name}"))?;
        let map: HashMap<&MapData, CtKey<A>, CtEntry<A>> = map.try_into()?;
        Ok(map.iter().collect::<Result<_, _>>()?)
    }

    /// Lets every flow be as if `secs` more had gone by without a packet.
    ///
    /// # Errors
    /// Where a table cannot be written, or the machine has not run for that long.
    pub fn age_flows(&mut self, secs: u32) -> Result<()> {
        self.age::<V4>("CONNTRACK_V4", secs)?;
        self.age::<V6>("CONNTRACK_V6", secs)
    }

    fn age<A: Address>(&mut self, name: &str, secs: u32) -> Result<()>
    where
        CtKey<A>: Pod,
        CtEntry<A>: Pod,
    {
        for (key, entry) in self.entries::<A>(name)? {
            let earlier = |at: u32| at.checked_sub(secs).context("the clock has just begun");
            let last_seen_secs = earlier(entry.last_seen_secs)?;
            let created_secs = earlier(entry.created_secs)?;
            self.insert(name, key, CtEntry { last_seen_secs, created_secs, ..entry })?;
        }
        Ok(())
    }

    /// Removes one half and leaves the other alone.
    ///
    /// # Errors
    /// Where there is no such half.
    pub fn remove_half(&mut self, half: &Half) -> Result<()> {
        match half.src {
            SocketAddr::V4(_) => self.remove::<V4>("CONNTRACK_V4", half),
            SocketAddr::V6(_) => self.remove::<V6>("CONNTRACK_V6", half),
        }
    }

    fn remove<A: Address>(&mut self, name: &str, half: &Half) -> Result<()>
    where
        CtKey<A>: Pod,
        CtEntry<A>: Pod,
    {
        let map = self.ebpf.map_mut(name).with_context(|| format!("no map {name}"))?;
        let mut map: HashMap<&mut MapData, CtKey<A>, CtEntry<A>> = map.try_into()?;
        Ok(map.remove(&half.key()?)?)
    }

    /// Has the expiry program look at halves of one family, as the daemon does: how far it came, and how
    /// many flows it removed.
    ///
    /// # Errors
    /// Where the program cannot be run.
    pub fn expire(&mut self, halves: &[Half]) -> Result<(u32, u32)> {
        let is_v6 = halves.iter().any(|half| half.src.is_ipv6());
        let mut frame = vec![0; ETHERNET_LEN as usize];
        frame.extend_from_slice(bytemuck::bytes_of(&BatchHead::new(is_v6)));
        for half in halves {
            if is_v6 {
                frame.extend_from_slice(bytemuck::bytes_of(&half.key::<V6>()?));
            } else {
                frame.extend_from_slice(bytemuck::bytes_of(&half.key::<V4>()?));
            }
        }
        let (_, after) = self.test_run(names::EXPIRE_FLOWS, &frame, None, halves.len() as u32)?;
        let head = &after[ETHERNET_LEN as usize..][..size_of::<BatchHead>()];
        let head: BatchHead = bytemuck::pod_read_unaligned(head);
        Ok((head.next, head.changed))
    }
}
