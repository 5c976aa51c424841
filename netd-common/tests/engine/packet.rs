//! A packet in host memory, as strict as the contract of [`Packet`] allows: it refuses a store that was
//! not asked for, and remembers that there was one.

use bytemuck::Pod;
use netd_common::{
    checksum::Delta,
    engine,
    packet::{ChecksumKind, Frame, Headers, NextHop, Packet},
};

use crate::tables::HostTables;

pub(crate) const ETHERNET_LEN: u32 = 14;

/// Where a packet is redirected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Redirection {
    /// The other end of a veth pair.
    Peer(u32),
    /// A device, and the next hop behind it.
    Out(u32, NextHop),
}

/// Frame and metadata.
#[derive(Clone, Debug)]
pub(crate) struct HostPacket {
    pub(crate) frame: Vec<u8>,
    pub(crate) ifindex: u32,
    pub(crate) ingress_ifindex: u32,
    pub(crate) has_vlan_tag: bool,
    pub(crate) is_to_this_host: bool,
    /// What the host's firewall has set.
    mark: u32,
    /// Whether the kernel would find memory for a copy.
    pub(crate) has_memory: bool,
    /// How much payload each packet has that was merged into this one.
    pub(crate) segment_len: u32,
    pub(crate) redirection: Option<Redirection>,
    network_offset: u32,
    /// The ethertype of a packet without Ethernet header.
    protocol: Option<u16>,
    /// How many bytes the engine has made writable.
    writable: u32,
    pub(crate) is_stored: bool,
}

impl HostPacket {
    pub(crate) fn with_mark(self, mark: u32) -> Self {
        Self { mark, ..self }
    }

    pub(crate) fn new(frame: Vec<u8>, ifindex: u32, ingress_ifindex: u32) -> Self {
        Self {
            frame,
            ifindex,
            ingress_ifindex,
            has_vlan_tag: false,
            is_to_this_host: true,
            mark: 0,
            has_memory: true,
            segment_len: 0,
            redirection: None,
            network_offset: ETHERNET_LEN,
            protocol: None,
            writable: 0,
            is_stored: false,
        }
    }

    /// The same packet on a device without link-layer header.
    pub(crate) fn without_ethernet(mut self) -> Self {
        self.protocol = Some(self.ethertype());
        self.frame.drain(..ETHERNET_LEN as usize);
        self.network_offset = 0;
        self
    }

    fn redirect(&mut self, redirection: Redirection) {
        assert_eq!(self.redirection, None, "a second redirection: {redirection:?}");
        assert_ne!(self.network_offset, 0, "no room for an Ethernet header: {redirection:?}");
        self.redirection = Some(redirection);
    }

    fn slot(&mut self, offset: u32, len: usize) -> &mut [u8] {
        let end = offset as usize + len;
        assert!(end <= self.writable as usize, "a store at {offset} that was not asked for");
        self.is_stored = true;
        &mut self.frame[offset as usize..end]
    }
}

impl Headers for HostPacket {
    fn len_bytes(&self) -> u32 {
        self.frame.len() as u32
    }

    fn ethertype(&self) -> u16 {
        self.protocol.unwrap_or_else(|| match self.frame.get(12..14) {
            Some(bytes) => u16::from_be_bytes([bytes[0], bytes[1]]),
            None => 0,
        })
    }

    fn network_offset(&self) -> u32 {
        self.network_offset
    }

    fn load<T: Pod>(&self, offset: u32) -> Option<T> {
        let start = offset as usize;
        self.frame.get(start..start + size_of::<T>()).map(bytemuck::pod_read_unaligned)
    }
}

impl Frame for HostPacket {
    fn is_to_this_host(&self) -> bool {
        self.is_to_this_host
    }
}

impl Packet for HostPacket {
    fn has_vlan_tag(&self) -> bool {
        self.has_vlan_tag
    }

    fn is_to_this_host(&self) -> bool {
        self.is_to_this_host
    }

    fn is_to_many(&self) -> bool {
        self.network_offset != 0 && self.frame.first().is_some_and(|byte| byte & 1 != 0)
    }

    fn ifindex(&self) -> u32 {
        self.ifindex
    }

    fn ingress_ifindex(&self) -> u32 {
        self.ingress_ifindex
    }

    fn mark(&self) -> u32 {
        self.mark
    }

    fn segment_len(&self) -> u32 {
        self.segment_len
    }

    fn load_far<T: Pod>(&self, offset: u32) -> Option<T> {
        self.load(offset)
    }

    fn store_far<T: Pod>(&mut self, offset: u32, value: &T) {
        self.store(offset, value);
    }

    fn make_writable(&mut self, len: u32) -> bool {
        assert!(len <= self.len_bytes(), "more is asked for than there is");
        if self.has_memory {
            self.writable = len;
        }
        self.has_memory
    }

    fn store<T: Pod>(&mut self, offset: u32, value: &T) {
        self.slot(offset, size_of::<T>()).copy_from_slice(bytemuck::bytes_of(value));
    }

    fn store_unsummed<T: Pod>(&mut self, offset: u32, value: &T) {
        self.store(offset, value);
    }

    fn update_checksum(&mut self, offset: u32, delta: Delta, kind: ChecksumKind) {
        let field = self.slot(offset, 2);
        let updated = delta.apply(bytemuck::pod_read_unaligned(field));
        let is_udp = matches!(kind, ChecksumKind::UdpPseudoHeader | ChecksumKind::UdpHeader);
        let updated = if is_udp && updated == 0 { 0xffff } else { updated };
        field.copy_from_slice(bytemuck::bytes_of(&updated));
    }

    fn update_sctp_checksum(&mut self, offset: u32, len: u16, ports: (u32, u32)) {
        engine::update_sctp_checksum(self, &HostTables::new(), offset, len, ports);
    }

    fn lower_mss(&mut self, offset: u32, len: u32, limit: u16) {
        engine::lower_mss(self, &HostTables::new(), offset, len, limit);
    }

    fn redirect_peer(&mut self, ifindex: u32) {
        self.redirect(Redirection::Peer(ifindex));
    }

    fn redirect_out(&mut self, ifindex: u32, next_hop: &NextHop) {
        self.redirect(Redirection::Out(ifindex, *next_hop));
    }
}
