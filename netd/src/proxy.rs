//! A proxy on the loopback device, for the few that the socket hooks cannot send to a container: who is bound to a
//! loopback address, which no container could answer, who sends single IPv6 datagrams to a container with IPv4
//! only, and processes that the hooks do not see.
//!
//! ```text
//!   process -> 127.0.0.1:8080 -> lo -> to_socket (sk_lookup) -> one of four sockets here -> container
//! ```
//! The program gives what is for a published port to these sockets, whoever else listens there; what they were asked
//! for is the accepted connection's own address, or comes with the datagram. Without a daemon there is no proxy.

mod datagram;
mod tcp;
mod udp;

use std::{io, net::SocketAddr, os::fd::BorrowedFd};

use netd_common::socket::ProxySocket;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockProtocol, SockType, SockaddrIn, SockaddrIn6, SockaddrLike, bind,
    setsockopt, socket, sockopt,
};
use std::os::fd::{AsFd as _, OwnedFd};
use tokio::{net::TcpListener, sync::watch, task::JoinSet};
use tracing::warn;

use crate::programmed::Targets;
use udp::Replies;

/// What is known of where published ports lead, as the tasks of the proxy see it.
type Known = watch::Receiver<Targets>;

/// The sockets, which are to be made while the process may make raw ones.
#[derive(Debug)]
pub(crate) struct Sockets {
    families: Vec<FamilySockets>,
}

#[derive(Debug)]
struct FamilySockets {
    is_ipv6: bool,
    tcp: std::net::TcpListener,
    /// None where no raw sockets are to be had.
    udp: Option<(OwnedFd, Replies)>,
}

impl Sockets {
    /// Makes those of each family that the host has.
    pub(crate) fn open() -> Self {
        let open = |is_ipv6| match FamilySockets::open(is_ipv6) {
            Ok(sockets) => Some(sockets),
            // A host may be without IPv6.
            Err(error) if is_ipv6 && error.kind() == io::ErrorKind::AddrNotAvailable => None,
            Err(error) => {
                warn!(%error, is_ipv6, "no proxy for clients that are bound to a loopback address");
                None
            }
        };
        Self { families: [false, true].into_iter().filter_map(open).collect() }
    }

    /// The sockets with their places in the map.
    pub(crate) fn places(&self) -> impl Iterator<Item = (ProxySocket, BorrowedFd<'_>)> {
        self.families.iter().flat_map(|family| {
            let [tcp, udp] = if family.is_ipv6 {
                [ProxySocket::TcpV6, ProxySocket::UdpV6]
            } else {
                [ProxySocket::TcpV4, ProxySocket::UdpV4]
            };
            let datagrams = family.udp.as_ref().map(|(socket, _)| (udp, socket.as_fd()));
            [(tcp, family.tcp.as_fd())].into_iter().chain(datagrams)
        })
    }

    /// Serves them for as long as what it returns lives.
    ///
    /// # Errors
    /// Where the event loop takes no more.
    pub(crate) fn serve(self, known: &watch::Sender<Targets>) -> io::Result<JoinSet<()>> {
        let mut tasks = JoinSet::new();
        for family in self.families {
            let listener = TcpListener::from_std(family.tcp)?;
            tasks.spawn(tcp::serve(listener, known.subscribe()));
            if let Some((socket, replies)) = family.udp {
                let socket = tokio::net::UdpSocket::from_std(socket.into())?;
                tasks.spawn(udp::serve(socket, replies, known.subscribe()));
            }
        }
        Ok(tasks)
    }
}

impl FamilySockets {
    fn open(is_ipv6: bool) -> io::Result<Self> {
        let loopback: SocketAddr = if is_ipv6 { "[::1]:0".parse() } else { "127.0.0.1:0".parse() }
            .map_err(io::Error::other)?;
        let tcp = std::net::TcpListener::bind(loopback)?;
        tcp.set_nonblocking(true)?;
        let udp = match Replies::open(is_ipv6) {
            Ok(replies) => Some((udp_socket(loopback)?, replies)),
            Err(error) => {
                warn!(%error, is_ipv6, "no proxy for datagrams: it needs CAP_NET_RAW at the start");
                None
            }
        };
        Ok(Self { is_ipv6, tcp, udp })
    }
}

/// A socket that says what each datagram was for.
fn udp_socket(address: SocketAddr) -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let family = if address.is_ipv6() { AddressFamily::Inet6 } else { AddressFamily::Inet };
    let socket = socket(family, SockType::Datagram, flags, SockProtocol::Udp)?;
    let bind = |address: &dyn SockaddrLike| bind(std::os::fd::AsRawFd::as_raw_fd(&socket), address);
    match address {
        SocketAddr::V4(address) => {
            setsockopt(&socket, sockopt::Ipv4OrigDstAddr, &true)?;
            bind(&SockaddrIn::from(address))?;
        }
        SocketAddr::V6(address) => {
            setsockopt(&socket, sockopt::Ipv6OrigDstAddr, &true)?;
            bind(&SockaddrIn6::from(address))?;
        }
    }
    Ok(socket)
}
