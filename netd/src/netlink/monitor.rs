//! What changes on the host, as the kernel announces it.
//!
//! Reads the sockets itself instead of through rtnetlink's connection: that one queues without
//! bound, and drops NETCONF messages (packets of sysctls), which it cannot parse. Here a receiver
//! that falls behind lets a socket's buffer fill up, and the kernel's ENOBUFS becomes
//! [`HostEvent::Overrun`].
//!
//! The kernel announces a change before whoever has asked for it hears that it is made. So what has
//! not been announced by now has not changed, and need not be read again.

mod message;

use std::{future, io};

use nix::{
    errno::Errno,
    sys::socket::{setsockopt, sockopt::RcvBufForce},
};
use rtnetlink::{
    MulticastGroup,
    sys::{
        AsyncSocket, AsyncSocketExt, SocketAddr, TokioSocket,
        protocols::{NETLINK_NETFILTER, NETLINK_ROUTE},
    },
};
use tracing::error;

pub use self::message::add;
use self::message::read_datagram;
use super::{NetlinkError, Request, netfilter};

/// A change on the host. It says what to look at again, not what it has become.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostEvent {
    /// A link is new or has changed: its name, state, controller, MTU, ...
    LinkChanged {
        ifindex: u32,
    },
    /// A link was deleted or moved to another namespace.
    LinkGone {
        ifindex: u32,
        name: String,
    },
    /// A neighbour of a link is not known any more, or a MAC address behind a port of a bridge.
    NeighbourGone {
        ifindex: u32,
    },
    /// A link's packets are queued in another way.
    QdiscChanged {
        ifindex: u32,
    },
    /// Classifiers of a link have come, gone or been replaced.
    ClassifiersChanged {
        ifindex: u32,
    },
    /// Rules of nftables have come or gone.
    FirewallChanged,
    AddressesChanged,
    RoutesChanged,
    /// Rules that say which packet goes by which table of routes.
    RulesChanged,
    /// A forwarding sysctl was written, by us or by someone else.
    SysctlsChanged,
    /// Events were lost: read everything again.
    Overrun,
}

impl HostEvent {
    /// The link whose classifiers have changed.
    pub fn classifiers_of(&self) -> Option<u32> {
        if let Self::ClassifiersChanged { ifindex } = self { Some(*ifindex) } else { None }
    }

    /// The link that has changed itself, or that is gone.
    pub fn link(&self) -> Option<u32> {
        match self {
            Self::LinkChanged { ifindex }
            | Self::LinkGone { ifindex, .. }
            | Self::QdiscChanged { ifindex } => Some(*ifindex),
            Self::NeighbourGone { .. }
            | Self::ClassifiersChanged { .. }
            | Self::FirewallChanged
            | Self::AddressesChanged
            | Self::RoutesChanged
            | Self::RulesChanged
            | Self::SysctlsChanged
            | Self::Overrun => None,
        }
    }
}

const GROUPS: [MulticastGroup; 11] = [
    MulticastGroup::Link,
    MulticastGroup::Neigh,
    MulticastGroup::Tc,
    MulticastGroup::Ipv4Ifaddr,
    MulticastGroup::Ipv6Ifaddr,
    MulticastGroup::Ipv4Route,
    MulticastGroup::Ipv6Route,
    MulticastGroup::Ipv4Rule,
    MulticastGroup::Ipv6Rule,
    MulticastGroup::Ipv4Netconf,
    MulticastGroup::Ipv6Netconf,
];

/// Room for the events of some thousand containers that start at once.
const SOCKET_BUFFER_BYTES: usize = 4 << 20;

/// The largest notification that the kernel sends (NLMSG_GOODSIZE is at most 32 KiB).
const DATAGRAM_BYTES: usize = 32 << 10;

/// Hears what changes in a network namespace.
pub struct Monitor {
    route: Option<TokioSocket>,
    netfilter: Option<TokioSocket>,
}

impl Monitor {
    /// Begins to listen in the namespace of the current thread.
    ///
    /// Whoever starts by reading the state must listen first, or misses what happens in between.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn open() -> Result<Self, NetlinkError> {
        let failed = |source| NetlinkError::Failed { request: Request::JoinGroups, source };
        let groups = GROUPS.map(|group| group as u32);
        let route = open(NETLINK_ROUTE, &groups).map_err(failed)?;
        let netfilter = match open(NETLINK_NETFILTER, &[netfilter::GROUP]) {
            Ok(socket) => Some(socket),
            // A kernel without netfilter has no rules that could change.
            Err(error) if netfilter::is_absence(&error) => None,
            Err(error) => return Err(failed(error)),
        };
        Ok(Self { route: Some(route), netfilter })
    }

    /// Waits until something has changed, and answers with it. Nothing is lost where the wait is given up.
    pub async fn changed(&mut self) -> Vec<HostEvent> {
        loop {
            let mut events = Vec::new();
            let (place, received) = tokio::select! {
                received = receive(self.route.as_ref()) => (&mut self.route, received),
                received = receive(self.netfilter.as_ref()) => (&mut self.netfilter, received),
            };
            read(received, place, &mut events);
            for event in self.pending() {
                add(event, &mut events);
            }
            if !events.is_empty() {
                return events;
            }
        }
    }

    /// What has changed by now, each thing once.
    pub fn pending(&mut self) -> Vec<HostEvent> {
        let mut events = Vec::new();
        for place in [&mut self.route, &mut self.netfilter] {
            while let Some(socket) = place {
                let mut datagram = Vec::with_capacity(DATAGRAM_BYTES);
                let received = socket.socket_ref().recv_from(&mut datagram, 0);
                let received = received.map(|(_, sender)| (datagram, sender));
                if is_empty(&received) {
                    break;
                }
                read(received, place, &mut events);
            }
        }
        events
    }
}

type Received = io::Result<(Vec<u8>, SocketAddr)>;

fn open(protocol: isize, groups: &[u32]) -> io::Result<TokioSocket> {
    let mut socket = TokioSocket::new(protocol)?;
    // Above net.core.rmem_max; without CAP_NET_ADMIN in the first user namespace it stays small.
    let _ = setsockopt(socket.socket_ref(), RcvBufForce, &SOCKET_BUFFER_BYTES);
    let groups = groups.iter().fold(0, |mask, group| mask | 1 << (group - 1));
    socket.socket_mut().bind(&SocketAddr::new(0, groups))?;
    Ok(socket)
}

async fn receive(socket: Option<&TokioSocket>) -> Received {
    let Some(socket) = socket else { return future::pending().await };
    let mut datagram = Vec::with_capacity(DATAGRAM_BYTES);
    let sender = socket.recv_from(&mut datagram).await?;
    Ok((datagram, sender))
}

/// Whether all has been read that has come.
fn is_empty(received: &Received) -> bool {
    received.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
}

/// Reads the events of what a socket has received. One that is broken is given up.
fn read(received: Received, place: &mut Option<TokioSocket>, events: &mut Vec<HostEvent>) {
    match received {
        // Any root process can send to this socket; only the kernel is port 0.
        Ok((_, sender)) if sender.port_number() != 0 => {}
        Ok((datagram, _)) => read_datagram(&datagram, events),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
        Err(error) if error.raw_os_error() == Some(Errno::ENOBUFS as i32) => {
            add(HostEvent::Overrun, events);
        }
        Err(error) => {
            error!(%error, "the kernel's notifications cannot be read any more");
            *place = None;
        }
    }
}
