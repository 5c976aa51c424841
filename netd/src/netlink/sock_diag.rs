//! UDP sockets of the host that are connected, read from the kernel and ended there (sock_diag(7)).
//!
//! Source: `include/uapi/linux/inet_diag.h`, `net/ipv4/udp_diag.c`. Ending sockets needs INET_DIAG_DESTROY.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use bytemuck::{Pod, Zeroable};
use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkBuffer};
use nix::libc::{AF_INET, AF_INET6, IPPROTO_UDP};
use rtnetlink::sys::{AsyncSocket as _, TokioSocket, protocols::NETLINK_SOCK_DIAG};

use super::raw::exchange;

/// `SOCK_DIAG_BY_FAMILY` and `SOCK_DESTROY`.
const LIST: u16 = 20;
const DESTROY: u16 = 21;

/// The state of a UDP socket that is connected (`TCP_ESTABLISHED`), as a bit.
const CONNECTED: u32 = 1 << 1;

/// `struct inet_diag_sockid`. Layout: 48 bytes; addresses and ports in network order.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
struct SocketId {
    sport: [u8; 2],
    dport: [u8; 2],
    src: [u8; 16],
    dst: [u8; 16],
    ifindex: u32,
    /// The lower half of the socket's cookie (`SO_COOKIE`) first.
    cookie: [u32; 2],
}

/// `struct inet_diag_req_v2`. Layout: 56 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
struct Request {
    family: u8,
    protocol: u8,
    extensions: u8,
    reserved: u8,
    states: u32,
    id: SocketId,
}

/// How `struct inet_diag_msg` begins. Layout: 52 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
struct Answer {
    family: u8,
    state: u8,
    timer: u8,
    retransmits: u8,
    id: SocketId,
}

/// A UDP socket that is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectedUdp {
    family: u8,
    id: SocketId,
}

impl ConnectedUdp {
    /// Whom it is connected with.
    pub fn peer(&self) -> SocketAddr {
        let address = match i32::from(self.family) {
            AF_INET => IpAddr::V4(Ipv4Addr::from(first(self.id.dst))),
            _ => Ipv6Addr::from(self.id.dst).to_canonical(),
        };
        SocketAddr::new(address, u16::from_be_bytes(self.id.dport))
    }

    /// Its cookie, the lower half first.
    pub fn cookie(&self) -> [u32; 2] {
        self.id.cookie
    }
}

fn first([a, b, c, d, ..]: [u8; 16]) -> [u8; 4] {
    [a, b, c, d]
}

/// Those of this network namespace.
///
/// # Errors
/// Where the kernel does not list them.
pub async fn connected_udp() -> io::Result<Vec<ConnectedUdp>> {
    let socket = TokioSocket::new(NETLINK_SOCK_DIAG)?;
    let mut sockets = Vec::new();
    for family in [AF_INET, AF_INET6] {
        let request = Request { states: CONNECTED, ..request(family as u8, Zeroable::zeroed()) };
        exchange(&socket, &message(LIST, NLM_F_DUMP, &request), |_, payload| {
            if let Some(bytes) = payload.get(..size_of::<Answer>()) {
                let Answer { family, id, .. } = bytemuck::pod_read_unaligned(bytes);
                sockets.push(ConnectedUdp { family, id });
            }
        })
        .await?;
    }
    Ok(sockets)
}

/// Ends a socket: its program is told by the next call (ECONNABORTED).
///
/// # Errors
/// Where the kernel does not, or there is no such socket any more.
pub async fn end(udp: &ConnectedUdp) -> io::Result<()> {
    let socket = TokioSocket::new(NETLINK_SOCK_DIAG)?;
    exchange(&socket, &message(DESTROY, NLM_F_ACK, &request(udp.family, udp.id)), |_, _| ()).await
}

fn request(family: u8, id: SocketId) -> Request {
    Request {
        family,
        protocol: IPPROTO_UDP as u8,
        extensions: 0,
        reserved: 0,
        states: u32::MAX,
        id,
    }
}

/// The message: the netlink header and the request.
fn message(kind: u16, flags: u16, request: &Request) -> [u8; 16 + size_of::<Request>()] {
    let mut bytes = [0; 16 + size_of::<Request>()];
    let len = bytes.len() as u32;
    let mut message = NetlinkBuffer::new(&mut bytes[..]);
    message.set_length(len);
    message.set_message_type(kind);
    message.set_flags(NLM_F_REQUEST | flags);
    message.payload_mut().copy_from_slice(bytemuck::bytes_of(request));
    bytes
}

#[cfg(test)]
mod tests {
    use super::{AF_INET, AF_INET6, ConnectedUdp, SocketId, Zeroable as _};

    #[test]
    fn a_peer_is_told_as_what_it_is() {
        for (family, dst, expected) in [
            (AF_INET, [10, 77, 1, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], "10.77.1.2:53"),
            (AF_INET6, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 10, 77, 1, 2], "10.77.1.2:53"),
            (AF_INET6, [0xfd, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2], "[fd01::2]:53"),
        ] {
            let id = SocketId { dport: [0, 53], dst, ..SocketId::zeroed() };
            let socket = ConnectedUdp { family: family as u8, id };
            assert_eq!(socket.peer(), expected.parse().unwrap());
        }
    }
}
