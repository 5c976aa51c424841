//! Frames as they are: what no socket of the network's would send.

use std::{
    io,
    net::{IpAddr, SocketAddr, UdpSocket},
    os::fd::{FromRawFd as _, OwnedFd},
};

use nix::{
    errno::Errno,
    libc,
    net::if_::if_nametoindex,
    sys::socket::{
        AddressFamily, LinkAddr, MsgFlags, SockFlag, SockType, SockaddrLike as _, sendto, socket,
    },
};

use crate::{condition::eventually_some, family::Family, hostile::wire::Wire, netns::Namespace};

const ETHERNET_LEN: usize = 14;

/// A machine that sends and receives IP packets of one protocol. The kernel writes the IP header, finds the
/// neighbour, and answers nothing, since there is a socket for the protocol.
#[derive(Debug)]
pub struct RawHost {
    socket: UdpSocket,
    wire: Wire,
    family: Family,
    proto: u8,
}

/// A packet that has come in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrived {
    /// Where it says that it comes from.
    pub src: IpAddr,
    /// How many hops it has left.
    pub ttl: u8,
    /// What follows the IP header.
    pub payload: Vec<u8>,
}

impl RawHost {
    /// Opens the sockets in a namespace.
    ///
    /// # Panics
    /// Where the kernel gives none.
    #[track_caller]
    pub fn new(namespace: &Namespace, family: Family, proto: u8) -> Self {
        let socket = namespace.inside(|| {
            let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
            let af = family.pick(libc::AF_INET, libc::AF_INET6);
            // SAFETY: the call takes numbers only.
            let fd = Errno::result(unsafe { libc::socket(af, kind, proto.into()) })?;
            // SAFETY: the kernel has just made the descriptor, for nobody else.
            Ok::<_, Errno>(UdpSocket::from(unsafe { OwnedFd::from_raw_fd(fd) }))
        });
        let socket = socket.unwrap_or_else(|error| panic!("no raw socket: {error}"));
        let wire = Wire::sniffer(namespace).unwrap_or_else(|error| panic!("no sniffer: {error}"));
        Self { socket, wire, family, proto }
    }

    /// Sends a packet.
    ///
    /// # Panics
    /// Where there is no route.
    #[track_caller]
    pub fn send(&self, to: IpAddr, payload: &[u8]) {
        let sent = self.socket.send_to(payload, SocketAddr::new(to, 0));
        sent.unwrap_or_else(|error| panic!("{to} cannot be sent to: {error}"));
    }

    /// Waits for a packet of the protocol that has come from outside of the namespace.
    ///
    /// # Panics
    /// Where none comes.
    #[track_caller]
    pub fn receive(&self, what: &str) -> Arrived {
        eventually_some(what, || self.arrived())
    }

    /// Takes the packets that have come in until one is of the protocol.
    pub fn arrived(&self) -> Option<Arrived> {
        let mut buffer = [0; 65_536];
        while let Ok(Some(frame)) = self.wire.receive(&mut buffer) {
            if let Some(arrived) = self.read(frame) {
                return Some(arrived);
            }
        }
        None
    }

    fn read(&self, frame: &[u8]) -> Option<Arrived> {
        let ip = frame.get(ETHERNET_LEN..)?;
        match self.family {
            Family::V4 if frame[12..14] == [8, 0] && ip[9] == self.proto => {
                let len = usize::from(u16::from_be_bytes([ip[2], ip[3]]));
                let src: [u8; 4] = ip[12..16].try_into().ok()?;
                Some(Arrived { src: src.into(), ttl: ip[8], payload: ip.get(20..len)?.to_vec() })
            }
            Family::V6 if frame[12..14] == [0x86, 0xdd] && ip[6] == self.proto => {
                let len = usize::from(u16::from_be_bytes([ip[4], ip[5]]));
                let src: [u8; 16] = ip[8..24].try_into().ok()?;
                let payload = ip.get(40..40 + len)?.to_vec();
                Some(Arrived { src: src.into(), ttl: ip[7], payload })
            }
            Family::V4 | Family::V6 => None,
        }
    }
}

/// Sends frames out of a device of a namespace.
///
/// # Panics
/// Where one of them cannot be sent.
#[track_caller]
pub fn send_frames(from: &Namespace, ifname: &str, frames: &[Vec<u8>]) {
    let sent = from.inside(|| try_send(ifname, frames));
    sent.unwrap_or_else(|error| panic!("frames cannot be sent by {ifname}: {error}"));
}

fn try_send(ifname: &str, frames: &[Vec<u8>]) -> io::Result<()> {
    use std::os::fd::AsRawFd as _;

    let socket = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None)?;
    let device = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: 0,
        sll_ifindex: if_nametoindex(ifname)? as i32,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let len = size_of_val(&device) as libc::socklen_t;
    // SAFETY: the pointer is to a whole address of the length given.
    let device = unsafe { LinkAddr::from_raw((&raw const device).cast(), Some(len)) };
    let device = device.ok_or(io::ErrorKind::InvalidInput)?;
    for frame in frames {
        sendto(socket.as_raw_fd(), frame, &device, MsgFlags::empty())?;
    }
    Ok(())
}
