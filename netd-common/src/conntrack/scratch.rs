//! A flow in the making: what is asked for, and the memory that its halves are built in.

use crate::{
    address::{Address, Port, V4, V6},
    conntrack::{CtEntry, CtFlags, CtKey, MOVED, Redirect, Scope, Zone},
    pod::map_type,
};

/// A flow to be, or a mapping: the original direction's key and what its packets become.
/// Layout: 88 bytes for IPv4, 136 for IPv6.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct NewFlow<A> {
    /// The key of the original half.
    pub key: CtKey<A>,
    /// The source address after translation.
    pub new_src: A,
    /// The destination address after translation.
    pub new_dst: A,
    /// Where packets of the original direction are redirected to, if to a container.
    pub original: Redirect,
    /// Where replies are redirected to, if to a container.
    pub reply: Redirect,
    /// Where the flow is counted: the slot of the published port, or of the endpoint.
    pub slot: u32,
    /// The slot of the container's endpoint.
    pub endpoint_slot: u32,
    /// The sandbox of a client that keeps its address towards another container, whose own connections may have
    /// the flow's ports; else [`HOST_NETNS`](crate::tables::HOST_NETNS).
    pub client: u32,
    /// The largest IP packet of the original direction that may be redirected. Units: bytes.
    pub original_mtu: u16,
    /// The largest reply that may be redirected. Units: bytes.
    pub reply_mtu: u16,
    /// The destination port after translation.
    pub new_dport: Port,
    /// The container's network.
    pub network: u16,
    /// What is translated, bits of [`CtFlags`].
    pub flags: u16,
    /// The [`Scope`] that the reply is seen in.
    pub reply_scope: u8,
    /// What the first packet carries, bits of [`Seen`].
    pub seen: u8,
    /// The source port that the flow asks for: its own, or its mapping's.
    pub wanted: Port,
    /// Always zero.
    pub reserved: [u16; 3],
}

/// Which source ports are tried for a flow, one after the other. Layout: 16 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Candidates {
    /// Where the search begins, unpredictable.
    pub seed: u64,
    /// The flow's own port.
    pub wanted: Port,
    /// The lowest port that may be given in its place.
    pub first: u16,
    /// How many there are from there on.
    pub span: u16,
    /// [`FlowState::CLOSING`](super::FlowState::CLOSING) where the port of a connection that both sides have
    /// closed may be taken, else zero.
    pub takes_closing: u16,
}

/// Memory to build a flow's halves in: a program's stack is too small for them, and what is read from here
/// the verifier does not take for the constants that were written.
/// Layout: 224 bytes for IPv4, 344 for IPv6.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Scratch<A> {
    /// The entry of the half that is being inserted.
    pub entry: CtEntry<A>,
    /// What is asked for.
    pub new: NewFlow<A>,
    /// The source ports to choose from.
    pub candidates: Candidates,
    /// The key of the reply half.
    pub reply_key: CtKey<A>,
    /// The original key of a flow that is to give way.
    pub oldest: CtKey<A>,
}

impl<A: Address> Scratch<A> {
    /// Fills in the reply half's entry, which needs no source port: its packets go back to `key`.
    ///
    /// Counters are not touched: the memory is made zeroed and nobody writes them here. (Clearing them
    /// would be a call of memset, see `lint`.)
    #[inline(always)]
    pub fn write_reply(&mut self, now: u32, generation: u32) {
        let Self { entry, new, .. } = self;
        entry.new_src = new.key.dst;
        entry.new_dst = new.key.src;
        entry.new_sport = new.key.dport;
        entry.new_dport = new.key.sport;
        entry.redirect = new.reply;
        entry.mtu = new.reply_mtu;
        entry.last_seen_secs = now;
        entry.created_secs = now;
        entry.slot = new.slot;
        entry.endpoint_slot = new.endpoint_slot;
        entry.generation = generation;
        entry.network = new.network;
        entry.flags = new.flags | CtFlags::REPLY;
        entry.seen = 0;
        entry.peer_seen = 0;
        entry.peer_scope = new.key.scope;
    }

    /// Turns the reply half's entry into the original half's.
    #[inline(always)]
    pub fn turn_into_original(&mut self, new_sport: Port) {
        let Self { entry, new, .. } = self;
        entry.new_src = new.new_src;
        entry.new_dst = new.new_dst;
        entry.new_sport = new_sport;
        entry.new_dport = new.new_dport;
        entry.redirect = new.original;
        entry.mtu = new.original_mtu;
        entry.flags = new.flags;
        entry.seen = new.seen;
        entry.peer_scope = new.reply_scope;
        if new.key.zone == Zone::MAPPINGS {
            // The remote end is the flow's that asked for it; the mapping has none.
            entry.new_dst = A::unspecified();
            entry.new_dport = Port::ZERO;
            entry.peer_scope = Scope::Uplink as u8;
        }
    }

    /// Fills in the key of the replies if the source port becomes `new_sport`.
    #[inline(always)]
    pub fn write_reply_key(&mut self, new_sport: Port) {
        let Self { reply_key, new, .. } = self;
        reply_key.src = new.new_dst;
        reply_key.dst = new.new_src;
        reply_key.sport = new.new_dport;
        reply_key.dport = new_sport;
        reply_key.proto = new.key.proto;
        reply_key.scope = new.reply_scope;
        reply_key.zone = 0;
    }
}

map_type! {
    NewFlow<V4> = 96;
    NewFlow<V6> = 144;
    Candidates = 16;
    Scratch<V4> = 224 + MOVED;
    Scratch<V6> = 344 + MOVED;
}
