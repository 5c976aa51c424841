//! Where a packet is: a hook, the device that it is at and the one that it came in on, and the addresses on
//! its frame.

use crate::{
    packet::HostPacket,
    scene::{NET_A, UPLINK},
};

/// Another machine on the uplink's link.
pub(crate) const OUTSIDE_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
/// The host's uplink.
pub(crate) const HOST_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];

/// The bridge of a network.
pub(crate) const fn bridge(network: u16) -> u32 {
    10 + network as u32
}

/// The MAC address that containers know their gateway by.
pub(crate) const fn bridge_mac(network: u16) -> [u8; 6] {
    [2, 0, 0, network as u8, 0, 0xbb]
}

/// The host's end of an endpoint's veth pair.
pub(crate) const fn port(network: u16, n: u8) -> u32 {
    100 * network as u32 + n as u32
}

/// The slot of an endpoint.
pub(crate) const fn slot(network: u16, n: u8) -> u32 {
    1_000 + port(network, n)
}

/// The MAC address of an endpoint.
pub(crate) const fn mac(network: u16, n: u8) -> [u8; 6] {
    [2, 0, 0, network as u8, 1, n]
}

/// The network and the number of the endpoint behind a port.
pub(crate) fn endpoint_of(port: u32) -> (u16, u8) {
    ((port / 100) as u16, (port % 100) as u8)
}

/// A hook and the device that the packet came in on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct At {
    pub(crate) hook: Hook,
    pub(crate) ifindex: u32,
    pub(crate) ingress: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hook {
    FromUplink,
    ToUplink,
    FromEndpoint,
    ToEndpoint,
    FromBridge,
    ToBridge,
    /// The way from the uplink to a container, through every hook on it.
    Inwards,
    /// The way from a container to the uplink.
    Outwards,
}

pub(crate) const FROM_UPLINK: At = at(Hook::FromUplink, UPLINK, UPLINK);
/// Forwarded from the first network's bridge.
pub(crate) const TO_UPLINK: At = at(Hook::ToUplink, UPLINK, bridge(NET_A));
pub(crate) const INWARDS: At = at(Hook::Inwards, UPLINK, UPLINK);
/// From the port of the container that has the source address.
pub(crate) const OUTWARDS: At = at(Hook::Outwards, UPLINK, 0);

const fn at(hook: Hook, ifindex: u32, ingress: u32) -> At {
    At { hook, ifindex, ingress }
}

pub(crate) const fn from_endpoint(network: u16, n: u8) -> At {
    at(Hook::FromEndpoint, port(network, n), port(network, n))
}

pub(crate) const fn to_endpoint(network: u16, n: u8, ingress: u32) -> At {
    at(Hook::ToEndpoint, port(network, n), ingress)
}

pub(crate) const fn from_bridge(network: u16) -> At {
    at(Hook::FromBridge, bridge(network), bridge(network))
}

pub(crate) const fn to_bridge(network: u16, ingress: u32) -> At {
    at(Hook::ToBridge, bridge(network), ingress)
}

impl At {
    /// A frame here, with the addresses of who sends here what is to be routed.
    pub(crate) fn packet(self, mut frame: Vec<u8>) -> HostPacket {
        if let Some(addresses) = frame.first_chunk_mut::<12>() {
            let (to, from) = self.macs();
            addresses[..6].copy_from_slice(&to);
            addresses[6..].copy_from_slice(&from);
        }
        HostPacket::new(frame, self.ifindex, self.ingress)
    }

    fn macs(self) -> ([u8; 6], [u8; 6]) {
        if self.hook != Hook::FromEndpoint {
            return (HOST_MAC, OUTSIDE_MAC);
        }
        let (network, n) = endpoint_of(self.ifindex);
        (bridge_mac(network), mac(network, n))
    }
}
