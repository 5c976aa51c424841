//! Datagrams: a client and what it has asked for have a socket of their own to the container, until they have been
//! silent for as long as a flow of theirs would live.

use std::{
    collections::HashMap,
    io::{self, IoSliceMut},
    net::SocketAddr,
    os::fd::{AsRawFd as _, OwnedFd},
    sync::Arc,
    time::Duration,
};

use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn,
    SockaddrIn6, SockaddrLike, SockaddrStorage, recvmsg, sendto, socket,
};
use tokio::{io::Interest, net::UdpSocket, task::JoinSet, time::timeout};
use tracing::debug;

use super::{Known, datagram::datagram};
use crate::model::Proto;

/// The kernel's own for streams of UDP (`nf_conntrack_udp_timeout_stream`).
const IDLE: Duration = Duration::from_secs(120);

/// How many clients there are at most; others are not served. Each holds a file open.
const MOST_CLIENTS: usize = 256;

/// The longest datagram.
const MOST_BYTES: usize = 65_536;

/// Who sends, and what it has asked for.
type Conversation = (SocketAddr, SocketAddr);

pub(super) async fn serve(socket: UdpSocket, replies: Replies, known: Known) {
    let replies = Arc::new(replies);
    let mut conversations: HashMap<Conversation, Arc<UdpSocket>> = HashMap::new();
    let mut tasks: JoinSet<Conversation> = JoinSet::new();
    let mut buffer = vec![0; MOST_BYTES];
    loop {
        let received = tokio::select! {
            Some(ended) = tasks.join_next() => {
                if let Ok(ended) = ended {
                    conversations.remove(&ended);
                }
                continue;
            }
            received = socket.async_io(Interest::READABLE, || receive(&socket, &mut buffer)) => received,
        };
        let Ok((len, Some(conversation))) = received else { continue };
        let to = match conversations.get(&conversation) {
            Some(to) => to.clone(),
            None if conversations.len() >= MOST_CLIENTS => continue,
            None => {
                let target = known.borrow().find(Proto::Udp, conversation.1);
                let Some(target) = target else { continue };
                let Ok(to) = connect(target).await else { continue };
                let to = Arc::new(to);
                conversations.insert(conversation, to.clone());
                tasks.spawn(answer(
                    conversation,
                    to.clone(),
                    replies.clone(),
                    known.clone(),
                    target,
                ));
                to
            }
        };
        // What fails is lost, as any datagram may be.
        let _ = to.send(&buffer[..len]).await;
    }
}

async fn connect(target: SocketAddr) -> io::Result<UdpSocket> {
    let any: SocketAddr =
        if target.is_ipv6() { ([0_u16; 8], 0).into() } else { ([0_u8; 4], 0).into() };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(target).await?;
    Ok(socket)
}

/// Hands on what the container answers, until it is silent, gone, or another one's place.
async fn answer(
    conversation: Conversation,
    from: Arc<UdpSocket>,
    replies: Arc<Replies>,
    known: Known,
    target: SocketAddr,
) -> Conversation {
    let (client, asked) = conversation;
    let mut buffer = vec![0; MOST_BYTES];
    while let Ok(Ok(len)) = timeout(IDLE, from.recv(&mut buffer)).await {
        if known.borrow().find(Proto::Udp, asked) != Some(target) {
            break;
        }
        if let Err(error) = replies.send(asked, client, &buffer[..len]) {
            debug!(%error, %asked, %client, "the proxy's answer is lost");
        }
    }
    conversation
}

/// Receives a datagram: its length, its sender, and what it was for.
fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<(usize, Option<Conversation>)> {
    let mut pieces = [IoSliceMut::new(buffer)];
    let mut space = nix::cmsg_space!(nix::libc::sockaddr_in6);
    let received = recvmsg::<SockaddrStorage>(
        socket.as_raw_fd(),
        &mut pieces,
        Some(&mut space),
        MsgFlags::empty(),
    )?;
    let asked = received.cmsgs()?.find_map(|message| {
        if let ControlMessageOwned::Ipv4OrigDstAddr(address) = message {
            return Some(from_v4(SockaddrIn::from(address)));
        }
        if let ControlMessageOwned::Ipv6OrigDstAddr(address) = message {
            return Some(from_v6(SockaddrIn6::from(address)));
        }
        None
    });
    let client = received.address.and_then(|address| {
        let v4 = address.as_sockaddr_in().map(|address| from_v4(*address));
        v4.or_else(|| address.as_sockaddr_in6().map(|address| from_v6(*address)))
    });
    Ok((received.bytes, client.zip(asked)))
}

fn from_v4(address: SockaddrIn) -> SocketAddr {
    SocketAddr::new(address.ip().into(), address.port())
}

fn from_v6(address: SockaddrIn6) -> SocketAddr {
    SocketAddr::new(address.ip().into(), address.port())
}

/// Sends answers from what was asked for: no other socket could, where somebody else holds the port.
#[derive(Debug)]
pub(super) struct Replies(OwnedFd);

impl Replies {
    /// Needs CAP_NET_RAW.
    pub(super) fn open(is_ipv6: bool) -> io::Result<Self> {
        let family = if is_ipv6 { AddressFamily::Inet6 } else { AddressFamily::Inet };
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        // With this protocol packets have their headers (raw(7)).
        Ok(Self(socket(family, SockType::Raw, flags, SockProtocol::Raw)?))
    }

    fn send(&self, from: SocketAddr, to: SocketAddr, payload: &[u8]) -> io::Result<()> {
        let packet = datagram(from, to, payload).ok_or(io::ErrorKind::InvalidInput)?;
        let send =
            |to: &dyn SockaddrLike| sendto(self.0.as_raw_fd(), &packet, to, MsgFlags::empty());
        // The port stands in the packet; here it would be a protocol.
        match to {
            SocketAddr::V4(to) => {
                send(&SockaddrIn::from(std::net::SocketAddrV4::new(*to.ip(), 0)))?
            }
            SocketAddr::V6(to) => {
                send(&SockaddrIn6::from(std::net::SocketAddrV6::new(*to.ip(), 0, 0, 0)))?
            }
        };
        Ok(())
    }
}
