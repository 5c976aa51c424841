//! What sockets of the host have asked for, and whom they talk to instead.

use crate::{address::Port, pod::map_type};

/// A socket and whom it talks to. Layout: 28 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AskedKey {
    /// The two halves of the socket's cookie (`SO_COOKIE`), the lower one first.
    pub cookie: [u32; 2],
    /// The container's address in network order, an IPv4 address mapped (RFC 4291 section 2.5.5.2).
    pub peer: [u32; 4],
    /// The container's port.
    pub port: Port,
    /// Always zero.
    pub reserved: u16,
}

/// The address that the socket's program has named. Layout: 20 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// As [`AskedKey::peer`].
    pub addr: [u32; 4],
    /// The port.
    pub port: Port,
    /// Always zero.
    pub reserved: u16,
}

map_type! {
    AskedKey = 28;
    Asked = 20;
}

/// The sockets of the proxy, by their places in the map of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum ProxySocket {
    /// Listens for IPv4.
    TcpV4,
    /// Listens for IPv6.
    TcpV6,
    /// Receives IPv4.
    UdpV4,
    /// Receives IPv6.
    UdpV6,
}

impl ProxySocket {
    /// All of them, in their places.
    pub const ALL: [Self; 4] = [Self::TcpV4, Self::TcpV6, Self::UdpV4, Self::UdpV6];
}
