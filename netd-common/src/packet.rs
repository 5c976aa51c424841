//! What the engine asks of a packet. The kernel's buffers and the tests' byte vector answer.

use bytemuck::Pod;

use crate::{checksum::Delta, pod::map_type};

/// What can be read of a packet.
pub trait Headers {
    /// The frame's length, link-layer header included. Units: bytes.
    fn len_bytes(&self) -> u32;
    /// The ethertype, after any tag that the device has taken off.
    fn ethertype(&self) -> u16;
    /// Where the IP header begins.
    fn network_offset(&self) -> u32;
    /// Reads a header at `offset`; `None` where the packet is too short.
    fn load<T: Pod>(&self, offset: u32) -> Option<T>;
    /// Makes sure that the first `len` bytes, if there are so many, can be read: headers of the usual
    /// length always can.
    fn make_readable(&self, _len: u32) {}
}

/// A frame that a device has received, and that the kernel has made no socket buffer of yet.
pub trait Frame: Headers {
    /// Whether the frame was sent to this host's own link-layer address.
    fn is_to_this_host(&self) -> bool;
}

/// A packet on its way through one hook.
///
/// Loads may fail at any offset; stores may not, once [`Packet::make_writable`] has succeeded. So the
/// engine decides first and writes last, and no packet is left half translated.
pub trait Packet: Headers {
    /// Whether the device has taken off a tag that names a VLAN. A tag that only sets a priority (VLAN 0)
    /// does not count: the kernel goes on as if there were none, and so must every check.
    fn has_vlan_tag(&self) -> bool;
    /// Whether the frame was sent to this host's own link-layer address, or to a group of which it may be:
    /// the host takes a unicast packet from either.
    fn is_to_this_host(&self) -> bool;
    /// Whether the frame was sent to a group of link-layer addresses, or to all.
    fn is_to_many(&self) -> bool;
    /// The device whose hook this is.
    fn ifindex(&self) -> u32;
    /// The device that the packet came in on last; 0 where the host made it.
    fn ingress_ifindex(&self) -> u32;
    /// The mark that the host's firewall has set on it.
    fn mark(&self) -> u32;
    /// How many bytes of payload each packet has that a device will make of this merged one; 0 where it
    /// is one packet.
    fn segment_len(&self) -> u32;

    /// Reads at any offset, beyond the packet's own headers as well; slower than [`Headers::load`].
    fn load_far<T: Pod>(&self, offset: u32) -> Option<T>;
    /// Writes at any offset. A checksum that the device has computed over the whole packet stays right if
    /// another one in the packet takes up the change.
    fn store_far<T: Pod>(&mut self, offset: u32, value: &T);

    /// Makes the first `len` bytes writable. `false` where the kernel has no memory for a copy.
    fn make_writable(&mut self, len: u32) -> bool;
    /// Writes at `offset`.
    fn store<T: Pod>(&mut self, offset: u32, value: &T);
    /// Writes addresses that no header checksum covers (IPv6) at `offset`, keeping a checksum that
    /// the device has computed over the whole packet right.
    fn store_unsummed<T: Pod>(&mut self, offset: u32, value: &T);
    /// Applies `delta` to the transport checksum at `offset`.
    fn update_checksum(&mut self, offset: u32, delta: Delta, kind: ChecksumKind);
    /// Runs [`crate::engine::update_sctp_checksum`], a step of its own for the verifier.
    fn update_sctp_checksum(&mut self, offset: u32, len: u16, ports: (u32, u32));
    /// Runs [`crate::engine::lower_mss`], likewise.
    fn lower_mss(&mut self, offset: u32, len: u32, limit: u16);

    /// Hands the packet over to the other end of the veth pair `ifindex` when the hook is done. Only
    /// where it came in, not where it leaves.
    fn redirect_peer(&mut self, ifindex: u32);
    /// Sends the packet out of the device when the hook is done, by its next hop's link-layer address.
    fn redirect_out(&mut self, ifindex: u32, next_hop: &NextHop);
}

/// Who takes a packet next on its way: the gateway, or the destination itself.
/// Layout: 20 bytes, that of the kernel's `struct bpf_redir_neigh`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NextHop {
    /// The address family, of `linux/socket.h`. An IPv4 packet may have an IPv6 next hop (RFC 5549).
    pub family: u32,
    /// The address, in network order; IPv4 takes the first word.
    pub addr: [u32; 4],
}

map_type! {
    NextHop = 20;
}

/// What a checksum delta stands for; the kernel keeps only the pseudo-header's part in a checksum that
/// a device is still to complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChecksumKind {
    /// A change of the pseudo-header: an address.
    PseudoHeader,
    /// A change of the transport header: a port.
    Header,
    /// As `PseudoHeader`, and a result of zero is sent as all ones (UDP, RFC 768).
    UdpPseudoHeader,
    /// As `Header`, and a result of zero is sent as all ones.
    UdpHeader,
}
