//! A case: what is sent, and what whoever receives something sends in return, round by round.

use std::net::IpAddr;

use super::{
    answer::answer,
    arrival::{Arrival, Edge},
    datagram::Datagram,
    message::error_about,
};
use crate::family::Family;

/// Whom a frame is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    /// As the sender's routes say: a neighbour, or the host.
    Route,
    /// The host, even where a neighbour has the address.
    Host,
    /// A neighbour, whatever the address.
    Neighbour(Edge),
}

/// A packet and the way it is sent.
#[derive(Clone, Debug)]
pub struct Sent {
    /// Who sends it.
    pub from: Edge,
    /// The next hop.
    pub via: Via,
    /// The IP packet.
    pub bytes: Vec<u8>,
}

impl Sent {
    /// A packet that goes where its address says.
    pub fn new(from: Edge, packet: &Datagram) -> Self {
        Self { from, via: Via::Route, bytes: packet.bytes() }
    }
}

/// What whoever receives a packet sends.
pub type Response = Box<dyn Fn(&Arrival, u16) -> Vec<Vec<u8>> + Send + Sync>;

/// What happens in a round.
pub enum Act {
    /// These packets are sent.
    Send(Vec<Sent>),
    /// Each packet of the round before is answered from where it arrived.
    Each(Response),
}

/// A case without its number.
pub struct Draft {
    /// What it is about.
    pub name: String,
    /// Its family.
    pub family: Family,
    /// The rounds, for a number.
    pub acts: Box<dyn Fn(u16) -> Vec<Act> + Send + Sync>,
    /// Whether source ports may be allocated in it.
    pub allocates: bool,
    /// Whether a container sends first.
    pub is_from_container: bool,
}

impl Draft {
    /// A case that begins outside.
    pub fn outside(
        name: impl Into<String>,
        acts: impl Fn(u16) -> Vec<Act> + Send + Sync + 'static,
    ) -> Self {
        Self {
            name: name.into(),
            family: Family::V4,
            acts: Box::new(acts),
            allocates: false,
            is_from_container: false,
        }
    }

    /// A case that begins in a container.
    pub fn inside(
        name: impl Into<String>,
        acts: impl Fn(u16) -> Vec<Act> + Send + Sync + 'static,
    ) -> Self {
        Self { is_from_container: true, ..Self::outside(name, acts) }
    }

    /// The same case, in which source ports may be allocated.
    #[must_use]
    pub fn allocating(self) -> Self {
        Self { allocates: true, ..self }
    }
}

/// Sends one packet where its address says.
pub fn sends(from: Edge, packet: &Datagram) -> Act {
    Act::Send(vec![Sent::new(from, packet)])
}

/// Every packet of the round before is answered.
pub fn answered() -> Act {
    Act::Each(Box::new(answer))
}

/// About every packet of the round before that is no error, an ICMP error is sent by its receiver, or in
/// the name of `from`.
pub fn refused(of: (u8, u8), quoted: usize, from: Option<IpAddr>) -> Act {
    Act::Each(Box::new(move |seen, number| {
        if seen.is_error() {
            return Vec::new();
        }
        let from = from.unwrap_or(seen.parts().addresses.1);
        vec![error_about(seen, number, from, of, quoted).bytes()]
    }))
}
