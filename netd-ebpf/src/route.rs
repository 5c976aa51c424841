//! Where the host's routes lead a packet: `bpf_fib_lookup`, asked in per-CPU memory. The question and
//! its answer would take a fifth of a program's stack.

use core::ptr;

use aya_ebpf::{
    bindings::{
        __sk_buff, BPF_FIB_LKUP_RET_FRAG_NEEDED, BPF_FIB_LKUP_RET_SUCCESS,
        BPF_FIB_LKUP_RET_UNSUPP_LWT, BPF_FIB_LOOKUP_SKIP_NEIGH,
    },
    helpers::bpf_fib_lookup,
};
use netd_common::{
    address::{Address, Family},
    packet::NextHop,
    parse::Ip,
    tables::Route,
};

use crate::maps::{ROUTE, UPLINKS};

/// Address families of `linux/socket.h`.
const AF_INET: u32 = 2;
const AF_INET6: u32 = 10;

/// A question and what follows from its answer.
#[repr(C)]
pub(crate) struct RouteScratch {
    query: Query,
    next_hop: NextHop,
}

/// The kernel's `struct bpf_fib_lookup`, in words. Layout: 64 bytes.
#[repr(C)]
struct Query {
    /// Address family (out: that of the next hop), IP protocol, and a source port of zero.
    family_and_proto: u32,
    /// In: a destination port of zero, and the packet's length. Out: the MTU in place of the length.
    port_and_len: u32,
    /// In: the device that the packet came in on. Out: the one that it would leave by.
    ifindex: u32,
    tos: u32,
    src: [u32; 4],
    /// In: the destination. Out: the next hop.
    dst: [u32; 4],
    vlan: u32,
    macs: [u32; 3],
}

/// Asks the kernel for the route of a packet of `len` bytes that came in on `ifindex`.
#[inline(always)]
pub(crate) fn route<A: Address>(
    skb: *mut __sk_buff,
    ifindex: u32,
    ip: &Ip<A>,
    len: u32,
) -> Route<'static> {
    let Some(scratch) = ROUTE.get_ptr_mut(0) else {
        return Route::Nowhere;
    };
    // SAFETY: the element is this CPU's own; classifiers run with bottom halves off, so no other one
    // comes between.
    let scratch = unsafe { &mut *scratch };
    scratch.query.ask(ifindex, ip, len);
    let mut answer = scratch.query.look_up(skb);
    let fits = answer != BPF_FIB_LKUP_RET_FRAG_NEEDED;
    if !fits {
        // So far the kernel has not said which device it is that takes no such packet.
        scratch.query.port_and_len = 0;
        answer = scratch.query.look_up(skb);
    }
    match answer {
        BPF_FIB_LKUP_RET_SUCCESS | BPF_FIB_LKUP_RET_FRAG_NEEDED => scratch.leads_to(fits),
        BPF_FIB_LKUP_RET_UNSUPP_LWT => Route::Elsewhere,
        _ => Route::Nowhere,
    }
}

impl Query {
    #[inline(always)]
    fn ask<A: Address>(&mut self, ifindex: u32, ip: &Ip<A>, len: u32) {
        let family = match A::FAMILY {
            Family::V4 => AF_INET,
            Family::V6 => AF_INET6,
        };
        self.family_and_proto = family | u32::from(ip.proto) << 8;
        // A larger one is larger than any device takes.
        self.port_and_len = len.min(u32::from(u16::MAX)) << 16;
        self.ifindex = ifindex;
        self.tos = 0;
        // Word by word: the compiler copies arrays by calling memmove.
        let [a, b, c, d] = ip.src.to_wire_words();
        (self.src[0], self.src[1], self.src[2], self.src[3]) = (a, b, c, d);
        let [a, b, c, d] = ip.dst.to_wire_words();
        (self.dst[0], self.dst[1], self.dst[2], self.dst[3]) = (a, b, c, d);
        self.vlan = 0;
    }

    /// Has the kernel answer in place.
    #[inline(always)]
    fn look_up(&mut self, skb: *mut __sk_buff) -> u32 {
        let query = ptr::from_mut(self).cast();
        // Who the next hop is, is all that is asked: its link-layer address is found by whoever sends. With
        // the question for it, a next hop not yet resolved would leave the MTU unanswered.
        let flags = BPF_FIB_LOOKUP_SKIP_NEIGH;
        // SAFETY: the query has the layout and length that the helper asks for.
        unsafe { bpf_fib_lookup(skb.cast(), query, size_of::<Self>() as i32, flags) as u32 }
    }
}

impl RouteScratch {
    /// Where the answered question leads.
    #[inline(always)]
    fn leads_to(&'static mut self, fits: bool) -> Route<'static> {
        let ifindex = self.query.ifindex;
        // SAFETY: an element is one word.
        let Some(&flags) = (unsafe { UPLINKS.get(ifindex) }) else {
            return Route::Elsewhere;
        };
        self.next_hop.family = self.query.family_and_proto & 0xff;
        self.next_hop.addr = self.query.dst;
        let mtu = (self.query.port_and_len >> 16) as u16;
        Route::Uplink { ifindex, flags, fits, mtu, next_hop: &self.next_hop }
    }
}
