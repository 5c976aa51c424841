//! The engine's packet, over a socket buffer. All `unsafe` that touches one is here.

use core::ptr;

use aya_ebpf::{
    bindings::{
        __sk_buff, BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR, BPF_F_RECOMPUTE_CSUM, bpf_redir_neigh,
    },
    helpers::{bpf_redirect_neigh, bpf_redirect_peer, bpf_skb_change_type},
    programs::TcContext,
};
use bytemuck::Pod;
use netd_common::{
    address::Family,
    checksum::Delta,
    engine,
    packet::{ChecksumKind, Headers, NextHop, Packet},
    parse::Kind,
};

use crate::tables::KernelTables;

/// Packet types of `linux/if_packet.h`.
const PACKET_HOST: u32 = 0;
const PACKET_BROADCAST: u32 = 1;
const PACKET_MULTICAST: u32 = 2;
const PACKET_OTHERHOST: u32 = 3;

/// The bits of a tag that name the VLAN (IEEE 802.1Q).
const VLAN_ID_MASK: u32 = 0xfff;

/// No header that the engine reads begins or ends beyond this: the longest Ethernet, IPv4 and TCP
/// headers together, and one power of two, which lets the verifier bound the offset.
pub(crate) const HEADERS_LEN: u32 = 128;

/// What a program reads of most of its packets, and no more: an IP and a TCP header, and of rare ones some
/// options. To pull what a device or a sender has left in pages costs a new head and a copy.
const fn short_headers_len<K: Kind>() -> u32 {
    match K::FAMILY {
        Family::V4 if !K::IS_RARE => 20 + 20,
        Family::V4 | Family::V6 => 40 + 20,
    }
}

/// A socket buffer at a classifier hook.
pub(crate) struct SkbPacket {
    ctx: TcContext,
    network_offset: u32,
}

impl SkbPacket {
    /// The packet whose IP header begins at `network_offset`, readable as far as most of its kind need.
    #[inline(always)]
    pub(crate) fn new<K: Kind>(skb: *mut __sk_buff, network_offset: u32) -> Self {
        let packet = Self { ctx: TcContext::new(skb), network_offset };
        packet.make_readable(network_offset + short_headers_len::<K>());
        packet
    }

    #[inline(always)]
    fn linear_len(&self) -> usize {
        self.ctx.data_end().saturating_sub(self.ctx.data())
    }

    #[inline(always)]
    fn skb(&self) -> &aya_ebpf::bindings::__sk_buff {
        // SAFETY: the kernel hands the program a valid context for as long as it runs.
        unsafe { &*self.ctx.skb.skb }
    }
}

impl Headers for SkbPacket {
    #[inline(always)]
    fn len_bytes(&self) -> u32 {
        self.ctx.len()
    }

    #[inline(always)]
    fn ethertype(&self) -> u16 {
        u16::from_be(self.skb().protocol as u16)
    }

    #[inline(always)]
    fn network_offset(&self) -> u32 {
        self.network_offset
    }

    #[inline(always)]
    fn load<T: Pod>(&self, offset: u32) -> Option<T> {
        if offset > HEADERS_LEN {
            return None;
        }
        let start = self.ctx.data() + offset as usize;
        if start + size_of::<T>() > self.ctx.data_end() {
            return None;
        }
        // SAFETY: the check above is the one that the verifier asks for. The BPF target reads at any
        // alignment from packets, which `read` states as the type's own; `read_unaligned` would make
        // it byte by byte.
        Some(unsafe { ptr::read(start as *const T) })
    }

    #[inline(always)]
    fn make_readable(&self, len: u32) {
        let len = len.min(self.ctx.len());
        if self.linear_len() < len as usize {
            // A packet that can't be pulled fails to parse and is dropped as malformed.
            let _ = self.ctx.pull_data(len);
        }
    }
}

impl Packet for SkbPacket {
    #[inline(always)]
    fn has_vlan_tag(&self) -> bool {
        let skb = self.skb();
        skb.vlan_present != 0 && skb.vlan_tci & VLAN_ID_MASK != 0
    }

    #[inline(always)]
    fn is_to_this_host(&self) -> bool {
        self.skb().pkt_type != PACKET_OTHERHOST
    }

    #[inline(always)]
    fn is_to_many(&self) -> bool {
        matches!(self.skb().pkt_type, PACKET_BROADCAST | PACKET_MULTICAST)
    }

    #[inline(always)]
    fn ifindex(&self) -> u32 {
        self.skb().ifindex
    }

    #[inline(always)]
    fn ingress_ifindex(&self) -> u32 {
        self.skb().ingress_ifindex
    }

    #[inline(always)]
    fn mark(&self) -> u32 {
        self.skb().mark
    }

    #[inline(always)]
    fn segment_len(&self) -> u32 {
        self.skb().gso_size
    }

    #[inline(always)]
    fn load_far<T: Pod>(&self, offset: u32) -> Option<T> {
        self.ctx.load(offset as usize).ok()
    }

    #[inline(always)]
    fn store_far<T: Pod>(&mut self, offset: u32, value: &T) {
        // It has been made writable, so this cannot fail.
        let _ = self.ctx.store(offset as usize, value, 0);
    }

    #[inline(always)]
    fn make_writable(&mut self, len: u32) -> bool {
        // A program that writes to packets gets its own copy of a shared head before it starts (the
        // kernel's `bpf_unclone_prologue`), so what is in the linear part is writable.
        self.linear_len() >= len as usize || self.ctx.pull_data(len).is_ok()
    }

    #[inline(always)]
    fn store<T: Pod>(&mut self, offset: u32, value: &T) {
        let start = self.ctx.data() + (offset & (HEADERS_LEN - 1)) as usize;
        // Always so, as the range has been made writable; the verifier wants to see it.
        if start + size_of::<T>() <= self.ctx.data_end() {
            // SAFETY: as for `load`.
            unsafe { ptr::write(start as *mut T, *value) };
        }
    }

    #[inline(always)]
    fn store_unsummed<T: Pod>(&mut self, offset: u32, value: &T) {
        // With the flag the kernel takes the change into CHECKSUM_COMPLETE, from which the pseudo-header
        // update of the transport checksum then takes it out again. IPv4 needs none of this: there the
        // header checksum absorbs the change.
        let _ = self.ctx.store(offset as usize, value, u64::from(BPF_F_RECOMPUTE_CSUM));
    }

    #[inline(always)]
    fn update_checksum(&mut self, offset: u32, delta: Delta, kind: ChecksumKind) {
        let flags = match kind {
            ChecksumKind::PseudoHeader => BPF_F_PSEUDO_HDR,
            ChecksumKind::Header => 0,
            ChecksumKind::UdpPseudoHeader => BPF_F_PSEUDO_HDR | BPF_F_MARK_MANGLED_0,
            ChecksumKind::UdpHeader => BPF_F_MARK_MANGLED_0,
        };
        // A size of zero in the flags: the third argument is a difference already.
        let _ = self.ctx.l4_csum_replace(
            offset as usize,
            0,
            u64::from(delta.to_wsum()),
            u64::from(flags),
        );
    }

    #[inline(always)]
    fn update_sctp_checksum(&mut self, offset: u32, len: u16, (old, new): (u32, u32)) {
        update_sctp_checksum(self.ctx.skb.skb, offset, u32::from(len), old, new);
    }

    #[inline(always)]
    fn lower_mss(&mut self, offset: u32, len: u32, limit: u16) {
        lower_mss(self.ctx.skb.skb, offset, len, u32::from(limit));
    }

    #[inline(always)]
    fn redirect_peer(&mut self, ifindex: u32) {
        let skb = self.ctx.skb.skb;
        // SAFETY: the kernel hands the program a valid context for as long as it runs, and lets it write
        // these fields; the helpers note what becomes of the packet, and what the last one returns is the
        // verdict of `Redirect`.
        unsafe {
            // Before Linux 6.15 the helper hands over what the host has noted about the packet, and a
            // container refuses one that was not for the port's own address.
            (*skb).mark = 0;
            (*skb).priority = 0;
            if (*skb).pkt_type != PACKET_HOST {
                bpf_skb_change_type(skb, PACKET_HOST);
            }
            let _ = bpf_redirect_peer(ifindex, 0);
        }
    }

    #[inline(always)]
    fn redirect_out(&mut self, ifindex: u32, next_hop: &NextHop) {
        let params = ptr::from_ref(next_hop).cast_mut().cast::<bpf_redir_neigh>();
        // SAFETY: as above; the next hop has the layout and length that the helper asks for.
        let _ = unsafe { bpf_redirect_neigh(ifindex, params, size_of::<NextHop>() as i32, 0) };
    }
}

/// A global function: the verifier checks it once, by itself, whatever path leads to it.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn update_sctp_checksum(
    skb: *mut __sk_buff,
    offset: u32,
    len: u32,
    old: u32,
    new: u32,
) -> u32 {
    let mut packet = SkbPacket { ctx: TcContext::new(skb), network_offset: 0 };
    let tables = KernelTables::new(skb);
    engine::update_sctp_checksum(&mut packet, &tables, offset, len as u16, (old, new));
    0
}

/// Likewise.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn lower_mss(skb: *mut __sk_buff, offset: u32, len: u32, limit: u32) -> u32 {
    let mut packet = SkbPacket { ctx: TcContext::new(skb), network_offset: 0 };
    engine::lower_mss(&mut packet, &KernelTables::new(skb), offset, len, limit as u16);
    0
}
