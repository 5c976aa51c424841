//! The engine's frame, over an XDP buffer. As in `packet.rs`, all `unsafe` that touches it is here.

use core::ptr;

use aya_ebpf::{helpers::bpf_xdp_get_buff_len, programs::XdpContext};
use bytemuck::Pod;
use netd_common::{
    header::{Be16, ETHERNET_LEN},
    packet::{Frame, Headers},
};

use crate::{maps::UPLINK_MACS, packet::HEADERS_LEN};

/// Where an Ethernet header has the ethertype.
const ETHERTYPE: u32 = 12;

/// A frame with Ethernet header at an XDP hook.
pub(crate) struct XdpFrame<'a> {
    ctx: &'a XdpContext,
    len_bytes: u32,
}

impl<'a> XdpFrame<'a> {
    /// The frame; `None` where its headers do not lie in the first of its buffers. The classifier sees it
    /// in one piece.
    #[inline(always)]
    pub(crate) fn new(ctx: &'a XdpContext) -> Option<Self> {
        // SAFETY: the helper takes this program type's context.
        let len_bytes = unsafe { bpf_xdp_get_buff_len(ctx.ctx) } as u32;
        let headers = len_bytes.min(HEADERS_LEN) as usize;
        let is_readable = ctx.data_end().saturating_sub(ctx.data()) >= headers;
        is_readable.then_some(Self { ctx, len_bytes })
    }
}

impl Headers for XdpFrame<'_> {
    #[inline(always)]
    fn len_bytes(&self) -> u32 {
        self.len_bytes
    }

    #[inline(always)]
    fn ethertype(&self) -> u16 {
        self.load::<Be16>(ETHERTYPE).map_or(0, Be16::get)
    }

    #[inline(always)]
    fn network_offset(&self) -> u32 {
        ETHERNET_LEN
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
        // SAFETY: as in `SkbPacket`: the check above is the one that the verifier asks for.
        Some(unsafe { ptr::read(start as *const T) })
    }
}

impl Frame for XdpFrame<'_> {
    #[inline(always)]
    fn is_to_this_host(&self) -> bool {
        // The device of the queue: under a bond, the port and not the bond.
        let ifindex = self.ctx.ingress_ifindex() as u32;
        // SAFETY: an element is replaced as a whole and read once.
        let mac = unsafe { UPLINK_MACS.get(ifindex) };
        mac.is_some_and(|mac| self.load::<[u8; 6]>(0) == Some(*mac))
    }
}
