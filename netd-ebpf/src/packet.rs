//! The engine's packet, over a socket buffer. All packet `unsafe` is here.

use core::ptr;

use aya_ebpf::{
    bindings::{BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR, BPF_F_RECOMPUTE_CSUM},
    programs::TcContext,
};
use bytemuck::Pod;
use netd_common::{
    checksum::Delta,
    packet::{ChecksumKind, Packet},
};

/// `PACKET_HOST` of `linux/if_packet.h`.
const PACKET_HOST: u32 = 0;

/// The bits of a tag that name the VLAN (IEEE 802.1Q).
const VLAN_ID_MASK: u32 = 0xfff;

/// No header that the engine reads begins or ends beyond this: the longest Ethernet, IPv4 and TCP
/// headers together, and one power of two, which lets the verifier bound the offset.
const HEADERS_LEN: u32 = 128;

/// A socket buffer at a classifier hook.
pub(crate) struct SkbPacket<'a> {
    ctx: &'a TcContext,
    network_offset: u32,
}

impl<'a> SkbPacket<'a> {
    /// The packet whose IP header begins at `network_offset`.
    #[inline(always)]
    pub(crate) fn new(ctx: &'a TcContext, network_offset: u32) -> Self {
        let packet = Self { ctx, network_offset };
        // Some devices leave headers in pages; reading them needs them in the linear part.
        let headers = ctx.len().min(HEADERS_LEN);
        if packet.linear_len() < headers as usize {
            // A packet that can't be pulled fails to parse and is dropped as malformed.
            let _ = ctx.pull_data(headers);
        }
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

impl Packet for SkbPacket<'_> {
    #[inline(always)]
    fn len_bytes(&self) -> u32 {
        self.ctx.len()
    }

    #[inline(always)]
    fn ethertype(&self) -> u16 {
        u16::from_be(self.skb().protocol as u16)
    }

    #[inline(always)]
    fn has_vlan_tag(&self) -> bool {
        let skb = self.skb();
        skb.vlan_present != 0 && skb.vlan_tci & VLAN_ID_MASK != 0
    }

    #[inline(always)]
    fn is_to_this_host(&self) -> bool {
        self.skb().pkt_type == PACKET_HOST
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
    fn make_writable(&mut self, len: u32) -> bool {
        self.ctx.pull_data(len).is_ok()
    }

    #[inline(always)]
    fn store<T: Pod>(&mut self, offset: u32, value: &T) {
        // Cannot fail: the range has been read and made writable.
        let _ = self.ctx.store(offset as usize, value, 0);
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
}
