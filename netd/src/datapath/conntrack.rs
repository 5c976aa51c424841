//! The connection table as user space sees it: flows listed, counted, ended.
//!
//! A [`Conntrack`] opens the pinned maps for itself, so that a long listing needs nothing of the
//! controller and stops nobody.

use std::net::IpAddr;

use aya::{
    Pod,
    maps::{Array, HashMap, Map, MapData, MapError},
    programs::{SchedClassifier, TestRun as _, TestRunOptions},
};
use bytemuck::{NoUninit, bytes_of, pod_read_unaligned};
use netd_common::{
    address::{Address, V4, V6},
    config::{ConfigFlags, DatapathConfig},
    conntrack::{CtEntry, CtKey, FlowState, Pressure, Zone},
    counters::GENERATIONS,
    engine::mapping_timeout,
    expiry::{BATCH, BatchHead},
    header::{ETHERNET_LEN, proto},
    names,
};

use super::{
    DatapathError, batch,
    flow_counts::{FlowCounts, Fullness},
    load::{pinned_map, program_error},
    map_error,
    pins::Pins,
};
use crate::{api::FlowTuple, clock};

/// A reader and, where it must be, a writer of the connection table.
pub(crate) struct Conntrack {
    v4: FamilyTable<V4>,
    v6: FamilyTable<V6>,
    config: Array<MapData, DatapathConfig>,
    generations: MapData,
    flow_counts: FlowCounts,
    expire_flows: SchedClassifier,
}

/// The table of one family, twice: for single elements and for batches.
struct FamilyTable<A: Address>
where
    CtKey<A>: Pod,
    CtEntry<A>: Pod,
{
    name: &'static str,
    map: HashMap<MapData, CtKey<A>, CtEntry<A>>,
    batches: MapData,
}

/// What flows are judged by.
struct Moment {
    config: DatapathConfig,
    now: u32,
    pressure: Pressure,
}

/// A flow or a mapping, both halves put together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FlowView {
    pub(crate) proto: u8,
    pub(crate) state: FlowState,
    pub(crate) original: FlowTuple,
    pub(crate) reply: FlowTuple,
    pub(crate) endpoint_slot: u32,
    pub(crate) network: u16,
    pub(crate) timeout_secs: u32,
    /// Packets and bytes of both directions, where flows are accounted for.
    pub(crate) traffic: Option<(u64, u64)>,
}

impl Conntrack {
    /// Opens the table by its pins.
    pub(crate) fn open(pins: &Pins) -> Result<Self, DatapathError> {
        let config = pinned_map(pins, "CONFIG").map(Map::Array)?;
        let program = SchedClassifier::from_pin(pins.program(names::EXPIRE_FLOWS));
        Ok(Self {
            v4: FamilyTable::open(pins, "CONNTRACK_V4")?,
            v6: FamilyTable::open(pins, "CONNTRACK_V6")?,
            config: config.try_into().map_err(map_error("CONFIG"))?,
            generations: pinned_map(pins, "GENERATIONS")?,
            flow_counts: FlowCounts::open(pins)?,
            expire_flows: program.map_err(program_error(names::EXPIRE_FLOWS))?,
        })
    }

    /// Timers and switches as the programs see them.
    pub(super) fn config(&self) -> Result<DatapathConfig, DatapathError> {
        self.config.get(&0, 0).map_err(map_error("CONFIG"))
    }

    /// Hands every flow to `visit`, a chunk at a time; `false` from it ends the walk.
    pub(crate) fn for_each_flow(
        &self,
        mut visit: impl FnMut(Vec<FlowView>) -> bool,
    ) -> Result<(), DatapathError> {
        let [v4, v6] = self.moments()?;
        let mut goes_on = true;
        self.v4.for_each_original(|halves| {
            goes_on = visit(self.v4.views(halves, &v4));
            goes_on
        })?;
        if !goes_on {
            return Ok(());
        }
        self.v6.for_each_original(|halves| visit(self.v6.views(halves, &v6)))
    }

    /// How full the tables are, IPv4's and IPv6's, and the most flows of each.
    pub(crate) fn fullness(&self) -> Result<([Fullness; 2], u32), DatapathError> {
        let max = self.config()?.max_flows;
        Ok((self.flow_counts.fullness(max)?, max))
    }

    /// What the flows of IPv4 and of IPv6 are judged by.
    fn moments(&self) -> Result<[Moment; 2], DatapathError> {
        let (config, now) = (self.config()?, clock::kernel_secs());
        let tables = self.flow_counts.fullness(config.max_flows)?;
        Ok(tables.map(|Fullness { pressure, .. }| Moment { config, now, pressure }))
    }

    /// The generations of all slots and networks.
    pub(super) fn generations(&self) -> Result<Vec<u32>, DatapathError> {
        let mut generations = vec![0; GENERATIONS as usize];
        let read = batch::for_each_chunk(&self.generations, |indices: &[u32], found: &[u32]| {
            for (&index, &generation) in indices.iter().zip(found) {
                if let Some(place) = generations.get_mut(index as usize) {
                    *place = generation;
                }
            }
            true
        });
        read.map_err(|source| map_error("GENERATIONS")(MapError::IoError(source)))?;
        Ok(generations)
    }

    /// Ends the flows that `is_meant` picks, and says how many.
    pub(crate) fn flush(
        &mut self,
        is_meant: impl Fn(&FlowView) -> bool,
    ) -> Result<u64, DatapathError> {
        let [v4, v6] = self.moments()?;
        let v4 = self.v4.originals_of(&v4, &is_meant)?;
        let v6 = self.v6.originals_of(&v6, &is_meant)?;
        Ok(self.remove(&v4, BatchHead::new(false).forced())?
            + self.remove(&v6, BatchHead::new(true).forced())?)
    }

    /// Has the kernel look at flows, named by a key of theirs, and says how many it has removed.
    pub(super) fn remove<A: Address>(
        &mut self,
        keys: &[CtKey<A>],
        head: BatchHead,
    ) -> Result<u64, DatapathError>
    where
        CtKey<A>: Pod + NoUninit,
    {
        keys.chunks(BATCH).try_fold(0, |count, keys| {
            let removed = expire_batch(&mut self.expire_flows, keys, head)?;
            Ok(count + u64::from(removed))
        })
    }

    /// Hands every half to one of the two, by family.
    pub(super) fn for_each_half(
        &self,
        mut v4: impl FnMut(&[CtKey<V4>], &[CtEntry<V4>]),
        mut v6: impl FnMut(&[CtKey<V6>], &[CtEntry<V6>]),
    ) -> Result<(), DatapathError> {
        self.v4.walk(|keys, entries| {
            v4(keys, entries);
            true
        })?;
        self.v6.walk(|keys, entries| {
            v6(keys, entries);
            true
        })
    }
}

type Halves<A> = [(CtKey<A>, CtEntry<A>)];

impl<A: Address> FamilyTable<A>
where
    CtKey<A>: Pod,
    CtEntry<A>: Pod,
{
    fn open(pins: &Pins, name: &'static str) -> Result<Self, DatapathError> {
        let map = Map::HashMap(pinned_map(pins, name)?);
        Ok(Self {
            name,
            map: map.try_into().map_err(map_error(name))?,
            batches: pinned_map(pins, name)?,
        })
    }

    fn walk(
        &self,
        visit: impl FnMut(&[CtKey<A>], &[CtEntry<A>]) -> bool,
    ) -> Result<(), DatapathError> {
        batch::for_each_chunk(&self.batches, visit)
            .map_err(|source| map_error(self.name)(MapError::IoError(source)))
    }

    fn for_each_original(
        &self,
        mut visit: impl FnMut(&Halves<A>) -> bool,
    ) -> Result<(), DatapathError> {
        let mut originals = Vec::new();
        self.walk(|keys, entries| {
            let halves = keys.iter().zip(entries).filter(|(_, entry)| !entry.is_reply());
            originals.clear();
            originals.extend(halves.map(|(key, entry)| (*key, *entry)));
            visit(&originals)
        })
    }

    fn views(&self, halves: &Halves<A>, moment: &Moment) -> Vec<FlowView> {
        halves.iter().map(|(key, entry)| self.view(key, entry, moment)).collect()
    }

    /// Puts a flow together from its original half and, where it is still there, its reply half.
    fn view(&self, key: &CtKey<A>, entry: &CtEntry<A>, moment: &Moment) -> FlowView {
        let Moment { config, now, pressure } = moment;
        let reply_key = entry.peer_key(key);
        let reply = self.map.get(&reply_key, 0).ok();
        let (seen, last_seen, packets, bytes) = reply.map_or((0, 0, 0, 0), |reply| {
            (reply.seen, reply.last_seen_secs, reply.packets, reply.bytes)
        });
        let idle = now.saturating_sub(entry.last_seen_secs.max(last_seen));
        let (state, timeout, original) = if key.zone == Zone::MAPPINGS {
            // The key has the outside address where a flow's has the remote end.
            let key = &CtKey { dst: A::UNSPECIFIED, ..*key };
            (FlowState::Mapping, mapping_timeout(key.proto, entry.seen), tuple(key))
        } else {
            let state = FlowState::of(key.proto, entry.seen, seen);
            (state, state.timeout(key.proto), tuple(key))
        };
        let mut timeout_secs = config.timeout(timeout);
        if state.gives_way() {
            timeout_secs = pressure.shorten(timeout_secs);
        }
        let is_accounted = config.flags & ConfigFlags::FLOW_ACCOUNTING != 0;
        FlowView {
            proto: key.proto,
            state,
            original,
            reply: tuple(&reply_key),
            // Between containers it is the server's flow, though it ends with the client too.
            endpoint_slot: match entry.redirect.slot {
                0 => entry.endpoint_slot,
                server => server,
            },
            network: entry.network,
            timeout_secs: timeout_secs.saturating_sub(idle),
            traffic: is_accounted.then_some((entry.packets + packets, entry.bytes + bytes)),
        }
    }

    /// The original keys of the flows that are meant.
    fn originals_of(
        &self,
        moment: &Moment,
        is_meant: &impl Fn(&FlowView) -> bool,
    ) -> Result<Vec<CtKey<A>>, DatapathError> {
        let mut meant = Vec::new();
        self.for_each_original(|halves| {
            let flows =
                halves.iter().filter(|(key, entry)| is_meant(&self.view(key, entry, moment)));
            meant.extend(flows.map(|(key, _)| *key));
            true
        })?;
        Ok(meant)
    }
}

/// Runs the expiry program on a batch of keys.
fn expire_batch<K: NoUninit>(
    program: &mut SchedClassifier,
    keys: &[K],
    head: BatchHead,
) -> Result<u32, DatapathError> {
    let mut packet = vec![0; ETHERNET_LEN as usize];
    packet.extend_from_slice(bytes_of(&head));
    keys.iter().for_each(|key| packet.extend_from_slice(bytes_of(key)));
    let mut after = vec![0; packet.len()];
    let options = TestRunOptions {
        data_in: Some(&packet),
        data_out: Some(&mut after),
        repeat: keys.len() as u32,
        ..TestRunOptions::default()
    };
    program.test_run(options).map_err(program_error(names::EXPIRE_FLOWS))?;
    let head = &after[ETHERNET_LEN as usize..][..size_of::<BatchHead>()];
    Ok(pod_read_unaligned::<BatchHead>(head).changed)
}

/// A key as it is shown: an echo's identifier stands in `sport`, whichever way the message goes.
fn tuple<A: Address>(key: &CtKey<A>) -> FlowTuple {
    let (src, dst): (IpAddr, IpAddr) = (key.src.into(), key.dst.into());
    let (sport, dport) = match key.proto {
        proto::ICMP | proto::ICMPV6 => (key.sport.number() | key.dport.number(), 0),
        _ => (key.sport.number(), key.dport.number()),
    };
    FlowTuple { src, sport, dst, dport }
}
