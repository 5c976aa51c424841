//! The host's links, addresses and routes: the only code that speaks rtnetlink.
//!
//! A `Netlink` is bound to the network namespace of the thread that opened it and stays bound to
//! it wherever it is used from. Every request goes through [`Netlink::exchange`], which waits for
//! the kernel's own "done": the request types of rtnetlink take a connection that broke half-way
//! for success. What netd wants to exist is decided elsewhere.

pub mod addr;
pub mod attached;
pub mod bridge;
pub mod classifier;
pub mod link;
pub mod monitor;
pub mod neighbour;
pub mod netfilter;
mod raw;
pub mod route;
pub mod sock_diag;
pub mod veth;
pub mod way;

use std::{fmt, io, net::IpAddr, sync::Arc};

use futures_util::StreamExt;
use ipnet::IpNet;
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_MULTIPART, NLM_F_REQUEST, NetlinkMessage,
    NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use nix::errno::Errno;
use tokio::sync::Semaphore;

use self::neighbour::Neighbour;
use crate::{fail_point, sysctl::ApplyError};

/// How often a list is read again because it changed while the kernel wrote it out.
const DUMP_ATTEMPTS: usize = 8;

/// Why a request to the kernel was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    #[error("cannot open a route netlink socket")]
    Open(#[source] io::Error),
    #[error("{ifname:?} is no name for a device; use up to 15 letters, digits, - and _")]
    InvalidName { ifname: String },
    #[error("a device named {ifname} exists already")]
    NameTaken { ifname: String },
    #[error("the sandbox has a device named {ifname} already")]
    NameTakenInSandbox { ifname: String },
    #[error("there is no device named {ifname}")]
    NoDevice { ifname: String },
    #[error("bridge {bridge_ifindex} has 1023 ports, as many as the kernel allows")]
    BridgeFull { bridge_ifindex: u32 },
    #[error("cannot {request}")]
    Failed { request: Request, source: io::Error },
    #[error(transparent)]
    Sysctl(#[from] ApplyError),
}

/// What the kernel was asked for, as it reads in an error after "cannot".
#[derive(Debug, Clone)]
pub enum Request {
    ListLinks,
    ListAddresses,
    ListRoutes,
    FindRoute,
    CreateBridge { ifname: String },
    CreateVeth { ifname: String },
    SetLink { ifindex: u32 },
    Plug { ifindex: u32, bridge_ifindex: u32 },
    DeleteLink { ifindex: u32 },
    AddAddress { ifindex: u32, net: IpNet },
    RemoveAddress { ifindex: u32, net: IpNet },
    AddDefaultRoute { ifindex: u32, gateway: IpAddr },
    ListNeighbours,
    ListRules,
    ListAttached,
    ListQdiscs,
    ListClassifiers { ifindex: u32 },
    SetNeighbour { neighbour: Neighbour },
    RemoveNeighbour { neighbour: Neighbour },
    JoinGroups,
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ListLinks => write!(f, "list the links"),
            Self::ListAddresses => write!(f, "list the addresses"),
            Self::ListRoutes => write!(f, "list the routes"),
            Self::FindRoute => write!(f, "ask for a route"),
            Self::CreateBridge { ifname } => write!(f, "create bridge {ifname}"),
            Self::CreateVeth { ifname } => write!(f, "create veth {ifname}"),
            Self::SetLink { ifindex } => write!(f, "set up link {ifindex}"),
            Self::Plug { ifindex, bridge_ifindex } => {
                write!(f, "plug link {ifindex} into bridge {bridge_ifindex}")
            }
            Self::DeleteLink { ifindex } => write!(f, "delete link {ifindex}"),
            Self::AddAddress { ifindex, net } => write!(f, "add {net} to link {ifindex}"),
            Self::RemoveAddress { ifindex, net } => {
                write!(f, "remove {net} from link {ifindex}")
            }
            Self::AddDefaultRoute { ifindex, gateway } => {
                write!(f, "route via {gateway} on link {ifindex}")
            }
            Self::ListNeighbours => write!(f, "list the neighbours"),
            Self::ListAttached => write!(f, "find the classifiers of an earlier daemon"),
            Self::ListRules => write!(f, "list the firewall's rules"),
            Self::ListQdiscs => write!(f, "list the queueing disciplines"),
            Self::ListClassifiers { ifindex } => {
                write!(f, "list the classifiers of link {ifindex}")
            }
            Self::SetNeighbour { neighbour } => {
                write!(f, "set {neighbour}")
            }
            Self::RemoveNeighbour { neighbour } => {
                write!(f, "remove {neighbour}")
            }
            Self::JoinGroups => write!(f, "listen to the kernel's notifications"),
        }
    }
}

/// A connection to the rtnetlink of one network namespace; clones share it.
#[derive(Clone)]
pub struct Netlink {
    handle: rtnetlink::Handle,
    /// A socket runs one dump at a time; the kernel answers EBUSY to a second one.
    dump_turn: Arc<Semaphore>,
}

impl Netlink {
    /// Opens a connection in the current thread's namespace and starts the task that serves it.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn open() -> Result<Self, NetlinkError> {
        let (netlink, connection) = Self::connect()?;
        #[expect(
            clippy::disallowed_methods,
            reason = "serves the socket until the last clone is gone"
        )]
        tokio::spawn(connection);
        Ok(netlink)
    }

    /// Opens a connection in the current thread's namespace; requests make progress only while the
    /// returned future is polled, and the socket closes when it is dropped.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn connect() -> Result<(Self, impl Future<Output = ()> + Send + 'static), NetlinkError> {
        let (mut connection, handle, _notifications) =
            rtnetlink::new_connection().map_err(NetlinkError::Open)?;
        connection.set_forward_ack(true);
        connection.set_forward_done(true);
        Ok((Self { handle, dump_turn: Arc::new(Semaphore::new(1)) }, connection))
    }

    /// Asks for a change and waits until it is made.
    async fn change(
        &self,
        message: RouteNetlinkMessage,
        flags: u16,
        request: Request,
    ) -> Result<(), NetlinkError> {
        fail_point::before_step();
        match self.exchange(message, NLM_F_REQUEST | NLM_F_ACK | flags).await {
            Ok(_) => Ok(()),
            Err(source) => Err(NetlinkError::Failed { request, source }),
        }
    }

    /// Reads a whole list.
    ///
    /// A list that changes during each of several attempts is returned as last read: on a host
    /// where containers start all the time it would otherwise never be, and each change that could
    /// be missed is announced to [`monitor::watch`].
    async fn dump(&self, message: RouteNetlinkMessage) -> io::Result<Vec<RouteNetlinkMessage>> {
        let _turn = self.dump_turn.acquire().await;
        let mut attempt = 1;
        loop {
            let reply = self.exchange(message.clone(), NLM_F_REQUEST | NLM_F_DUMP).await?;
            if !reply.interrupted || attempt == DUMP_ATTEMPTS {
                return Ok(reply.messages);
            }
            attempt += 1;
        }
    }

    async fn exchange(&self, message: RouteNetlinkMessage, flags: u16) -> io::Result<Reply> {
        let mut request = NetlinkMessage::from(message);
        request.header.flags = flags;
        let closed = || io::Error::from(io::ErrorKind::NotConnected);
        let mut answers = self.handle.clone().request(request).map_err(|_| closed())?;
        let mut reply = Reply::default();
        while let Some(answer) = answers.next().await {
            reply.interrupted |= answer.header.flags & NLM_F_DUMP_INTR != 0;
            if let NetlinkPayload::InnerMessage(message) = answer.payload {
                reply.messages.push(message);
                if flags & NLM_F_ACK == 0 && answer.header.flags & NLM_F_MULTIPART == 0 {
                    return Ok(reply);
                }
            } else if let NetlinkPayload::Error(error) = answer.payload {
                return if error.code.is_some() { Err(error.to_io()) } else { Ok(reply) };
            } else if let NetlinkPayload::Done(done) = answer.payload {
                return if done.code < 0 { Err(from_negated(done.code)) } else { Ok(reply) };
            }
        }
        Err(closed())
    }
}

#[derive(Default)]
struct Reply {
    messages: Vec<RouteNetlinkMessage>,
    interrupted: bool,
}

fn from_negated(code: i32) -> io::Error {
    io::Error::from_raw_os_error(code.saturating_neg())
}

impl NetlinkError {
    fn is(&self, errno: Errno) -> bool {
        match self {
            Self::Failed { source, .. } => source.raw_os_error() == Some(errno as i32),
            Self::Open(_)
            | Self::InvalidName { .. }
            | Self::NameTaken { .. }
            | Self::NameTakenInSandbox { .. }
            | Self::NoDevice { .. }
            | Self::BridgeFull { .. }
            | Self::Sysctl(_) => false,
        }
    }
}
