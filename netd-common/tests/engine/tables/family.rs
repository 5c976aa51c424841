//! The tables of one address family, and an element of the connection table.

use std::cell::Cell;

use netd_common::{
    address::Port,
    conntrack::{CtEntry, CtFlags, CtKey, NewFlow},
    engine,
    fragment::{FirstFragment, FragmentKey},
    network::Endpoint,
    parse::Ip,
    published::{PublishedPort, PublishedPortKey},
    reason::Reason,
    tables::{
        FamilyTables, Flow, HOST_NETNS, InsertError, Route, Socket, SocketTuple, Tables as _, Work,
    },
};

use super::{Half, HostRoute, HostTables};
use crate::family::Family;

impl<A: Family> FamilyTables<A> for HostTables {
    type Flow = HostFlow<A>;

    fn flow(&self, key: &CtKey<A>) -> Option<HostFlow<A>> {
        self.pass_moment();
        let half = *A::store(self).flows.borrow().get(key)?;
        Some(HostFlow { entry: half.get(), half })
    }

    fn insert_flow(&self, key: &CtKey<A>, entry: &CtEntry<A>) -> Result<(), InsertError> {
        self.pass_moment();
        if entry.flags & CtFlags::REPLY == 0
            && let Some(interruption) = self.between_halves.take()
        {
            self.run_elsewhere(interruption);
        }
        let mut flows = A::store(self).flows.borrow_mut();
        if flows.contains_key(key) {
            return Err(InsertError::Exists);
        }
        if flows.len() >= self.capacity.get() {
            return Err(InsertError::Full);
        }
        flows.insert(*key, Box::leak(Box::new(Cell::new(*entry))));
        Ok(())
    }

    fn remove_flow(&self, key: &CtKey<A>) {
        self.pass_moment();
        A::store(self).flows.borrow_mut().remove(key);
    }

    fn remember_young_flow(&self, index: u32, key: &CtKey<A>) {
        A::store(self).young.borrow_mut().insert(index, *key);
    }

    fn recall_young_flow(&self, index: u32, key: &mut CtKey<A>) -> bool {
        let found = A::store(self).young.borrow().get(&index).copied();
        found.map(|found| *key = found).is_some()
    }

    fn with_work<R>(&self, run: impl FnOnce(&mut Work<A>) -> R) -> Option<R> {
        let kept = &A::store(self).kept;
        let mut work = kept.get();
        // On the rest of what was left there nobody counts.
        (work.flow, work.error) = (Work::new().flow, Work::new().error);
        let result = run(&mut work);
        kept.set(work);
        Some(result)
    }

    fn describe_flow(&self, fill: impl FnOnce(&mut NewFlow<A>)) {
        let store = A::store(self);
        let new = &mut store.scratch.borrow_mut().new;
        // Whatever the flow before has left there.
        *new = store.stale;
        fill(new);
    }

    fn with_description<R>(&self, run: impl FnOnce(&mut NewFlow<A>) -> R) -> Option<R> {
        let scratch = &A::store(self).scratch;
        let mut new = scratch.borrow().new;
        let result = run(&mut new);
        scratch.borrow_mut().new = new;
        Some(result)
    }

    fn insert_pair(&self) -> Result<(), Reason> {
        let mut scratch = *A::store(self).scratch.borrow();
        engine::insert_pair(self, &mut scratch)?;
        if let Some(interruption) = self.after_insertion.take() {
            self.run_elsewhere(interruption);
        }
        Ok(())
    }

    fn first_fragment(&self, key: &FragmentKey<A>) -> Option<FirstFragment> {
        A::store(self).first_fragments.borrow().get(key).copied()
    }

    fn remember_first_fragment(&self, key: &FragmentKey<A>, first: &FirstFragment) {
        A::store(self).first_fragments.borrow_mut().insert(*key, *first);
    }

    fn published(&self, key: &PublishedPortKey<A>) -> Option<&PublishedPort<A>> {
        A::store(self).published.get(key)
    }

    fn published_range(&self, key: &PublishedPortKey<A>) -> Option<&PublishedPort<A>> {
        let mut ranges = A::store(self).ranges.iter();
        let range = ranges.find(|range| {
            (range.addr, range.proto) == (key.addr, key.proto)
                && range.ports.contains(&key.port.number())
        });
        range.map(|range| &range.leads_to)
    }

    fn is_host_address(&self, addr: A) -> bool {
        A::store(self).host_addresses.contains(&addr)
    }

    fn is_bridge_address(&self, addr: A) -> bool {
        self.is_host_address(addr) && self.network_of(addr).is_some()
    }

    fn network_of(&self, addr: A) -> Option<u16> {
        let mut subnets = A::store(self).subnets.iter();
        subnets.find(|(subnet, mask, _)| addr.same_prefix(*subnet, *mask)).map(|subnet| subnet.2)
    }

    fn endpoint(&self, addr: A) -> Option<Endpoint> {
        A::store(self).endpoints.get(&addr).copied()
    }

    fn masquerade_source(&self, ifindex: u32, dst: A) -> Option<A> {
        let matching = A::store(self).masquerade.iter().filter(|source| {
            source.ifindex == ifindex && dst.same_prefix(source.prefix, A::mask(source.bits))
        });
        matching.max_by_key(|source| source.bits).map(|source| source.source)
    }

    fn socket(&self, netns: u32, proto: u8, tuple: &SocketTuple<A>) -> Option<Socket> {
        let store = A::store(self);
        let (src, dst) = ((tuple.src, tuple.sport.number()), (tuple.dst, tuple.dport.number()));
        if netns != HOST_NETNS {
            let sockets = store.container_sockets.borrow();
            return sockets.contains(&(netns, (proto, src, dst))).then_some(Socket::Connected);
        }
        if store.connected_sockets.borrow().contains(&(proto, src, dst)) {
            return Some(Socket::Connected);
        }
        store.host_sockets.borrow().contains(&(proto, dst.1)).then_some(Socket::Listening)
    }

    fn route(&self, ifindex: u32, ip: &Ip<A>, len: u32) -> Route<'_> {
        assert!(self.network_of_bridge(ifindex).is_some(), "not a bridge: {ifindex}");
        let store = A::store(self);
        match store.routes.get(&(ifindex, ip.dst)).unwrap_or(&store.default_route) {
            HostRoute::Uplink(uplink) => Route::Uplink {
                ifindex: uplink.ifindex,
                flags: uplink.flags,
                fits: len <= uplink.mtu,
                mtu: uplink.mtu as u16,
                next_hop: &uplink.next_hop,
            },
            HostRoute::Elsewhere => Route::Elsewhere,
            HostRoute::Nowhere => Route::Nowhere,
        }
    }
}

/// A half of a flow as the engine holds it: what it was when it was looked up, and where it is.
#[derive(Clone, Copy)]
pub(crate) struct HostFlow<A: 'static> {
    entry: CtEntry<A>,
    half: Half<A>,
}

impl<A: Family> HostFlow<A> {
    fn change(&self, change: impl FnOnce(&mut CtEntry<A>)) {
        let mut entry = self.half.get();
        change(&mut entry);
        self.half.set(entry);
    }
}

impl<A: Family> Flow<A> for HostFlow<A> {
    fn entry(&self) -> &CtEntry<A> {
        &self.entry
    }

    fn last_seen_secs(&self) -> u32 {
        self.half.get().last_seen_secs
    }

    fn replace_last_seen(&self, old: u32, new: u32) -> bool {
        let is_there = self.half.get().last_seen_secs == old;
        if is_there {
            self.change(|entry| entry.last_seen_secs = new);
        }
        is_there
    }

    fn set_seen(&self, seen: u8) {
        self.change(|entry| entry.seen = seen);
    }

    fn set_peer_seen(&self, seen: u8) {
        self.change(|entry| entry.peer_seen = seen);
    }

    fn count(&self, bytes: u32) {
        self.change(|entry| {
            entry.packets += 1;
            entry.bytes += u64::from(bytes);
        });
    }
}

/// A published port on every port number: the map's key.
pub(crate) fn published_key<A>(addr: A, proto: u8, port: u16) -> PublishedPortKey<A> {
    PublishedPortKey { addr, port: Port::new(port), proto, reserved: 0 }
}
