//! What changes on the host, as the kernel announces it.
//!
//! Reads the socket itself instead of through rtnetlink's connection: that one queues without
//! bound, and drops NETCONF messages (packets of sysctls), which it cannot parse. Here a receiver
//! that falls behind lets the socket's buffer fill up, and the kernel's ENOBUFS becomes
//! [`HostEvent::Overrun`].

mod message;

use std::io;

use futures_util::FutureExt;
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
use tokio::sync::mpsc;
use tracing::error;

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

/// How many datagrams are read before their events, each once, are handed on.
const DATAGRAMS_PER_BATCH: usize = 512;

const CHANNEL_EVENTS: usize = 256;

/// Watches the namespace of the current thread; ends when the receiver is dropped.
///
/// Whoever starts by reading the state must watch first, or misses what happens in between.
///
/// # Panics
/// Outside a tokio runtime.
pub fn watch() -> Result<mpsc::Receiver<HostEvent>, NetlinkError> {
    let failed = |source| NetlinkError::Failed { request: Request::JoinGroups, source };
    let (events, receiver) = mpsc::channel(CHANNEL_EVENTS);
    let groups = GROUPS.map(|group| group as u32);
    serve(open(NETLINK_ROUTE, &groups).map_err(failed)?, events.clone());
    match open(NETLINK_NETFILTER, &[netfilter::GROUP]) {
        Ok(socket) => serve(socket, events),
        // A kernel without netfilter has no rules that could change.
        Err(error) if netfilter::is_absence(&error) => {}
        Err(error) => return Err(failed(error)),
    }
    Ok(receiver)
}

#[expect(clippy::disallowed_methods, reason = "reads the socket until the receiver is dropped")]
fn serve(socket: TokioSocket, events: mpsc::Sender<HostEvent>) {
    tokio::spawn(async move {
        tokio::select! {
            Err(error) = forward(&socket, &events) => {
                error!(%error, "the kernel's notifications cannot be read any more");
            }
            () = events.closed() => {}
        }
    });
}

fn open(protocol: isize, groups: &[u32]) -> io::Result<TokioSocket> {
    let mut socket = TokioSocket::new(protocol)?;
    // Above net.core.rmem_max; without CAP_NET_ADMIN in the first user namespace it stays small.
    let _ = setsockopt(socket.socket_ref(), RcvBufForce, &SOCKET_BUFFER_BYTES);
    let groups = groups.iter().fold(0, |mask, group| mask | 1 << (group - 1));
    socket.socket_mut().bind(&SocketAddr::new(0, groups))?;
    Ok(socket)
}

/// Hands events on until the socket fails or nobody listens.
async fn forward(socket: &TokioSocket, events: &mpsc::Sender<HostEvent>) -> io::Result<()> {
    let mut datagram = Vec::with_capacity(DATAGRAM_BYTES);
    loop {
        let mut batch = Vec::new();
        let mut received = receive(socket, &mut datagram).await;
        for _ in 0..DATAGRAMS_PER_BATCH {
            match received {
                Ok(()) => read_datagram(&datagram, &mut batch),
                Err(error) if error.raw_os_error() == Some(Errno::ENOBUFS as i32) => {
                    batch = vec![HostEvent::Overrun];
                }
                Err(error) => return Err(error),
            }
            let Some(next) = receive(socket, &mut datagram).now_or_never() else { break };
            received = next;
        }
        for event in batch {
            if events.send(event).await.is_err() {
                return Ok(());
            }
        }
    }
}

async fn receive(socket: &TokioSocket, datagram: &mut Vec<u8>) -> io::Result<()> {
    datagram.clear();
    let sender = socket.recv_from(datagram).await?;
    // Any root process can send to this socket; only the kernel is port 0.
    if sender.port_number() != 0 {
        datagram.clear();
    }
    Ok(())
}
