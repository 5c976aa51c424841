//! What sockets of the host have asked for that were led to a container instead.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

use aya::maps::{HashMap, Map, MapData};
use netd_common::{
    address::{Address as _, Port, V4, V6},
    socket::{Asked, AskedKey},
};

use super::{DatapathError, load::open_map, pins::Pins};

/// The map of it. Writer: the programs.
pub(crate) struct AskedFor(HashMap<MapData, AskedKey, Asked>);

impl fmt::Debug for AskedFor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AskedFor")
    }
}

impl AskedFor {
    pub(crate) fn open(pins: &Pins) -> Result<Self, DatapathError> {
        Ok(Self(open_map(pins, "ASKED", Map::LruHashMap)?))
    }

    /// What the socket with this cookie has asked for, whose peer is a container; none where it was not led there.
    pub(crate) fn find(&self, cookie: [u32; 2], peer: SocketAddr) -> Option<SocketAddr> {
        let key =
            AskedKey { cookie, peer: words(peer.ip())?, port: Port::new(peer.port()), reserved: 0 };
        let asked = self.0.get(&key, 0).ok()?;
        let address = V6::from_wire(asked.addr);
        let address = address.to_mapped_v4().map_or(IpAddr::from(address), IpAddr::from);
        Some(SocketAddr::new(address, asked.port.number()))
    }
}

/// As the programs write an address: in network order, an IPv4 address mapped.
fn words(address: IpAddr) -> Option<[u32; 4]> {
    match address {
        IpAddr::V4(_) => V4::from_ip(address).map(V4::to_mapped_wire),
        IpAddr::V6(_) => V6::from_ip(address).map(V6::to_wire),
    }
}
