//! The two address families, and the addresses that every test world has in each.
//!
//! A test is written once and run for [`Family::BOTH`]. The addresses outside are those reserved for
//! documentation; they exist in namespaces of the test's own only.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// IPv4 or IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both families, for tests to go through.
    pub const BOTH: [Self; 2] = [Self::V4, Self::V6];

    /// Picks the value that belongs to the family.
    pub fn pick<T>(self, v4: T, v6: T) -> T {
        match self {
            Self::V4 => v4,
            Self::V6 => v6,
        }
    }

    /// Returns the family of an address.
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    /// The host's address on its uplink.
    pub fn host(self) -> IpAddr {
        self.pick(
            Ipv4Addr::new(192, 0, 2, 1).into(),
            Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1).into(),
        )
    }

    /// The client's address on the host's link.
    pub fn client(self) -> IpAddr {
        self.pick(
            Ipv4Addr::new(192, 0, 2, 2).into(),
            Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 2).into(),
        )
    }

    /// An address beyond the client, which the host reaches by its default route.
    pub fn remote(self) -> IpAddr {
        self.pick(
            Ipv4Addr::new(198, 51, 100, 7).into(),
            Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 7).into(),
        )
    }

    /// The loopback address.
    pub fn loopback(self) -> IpAddr {
        self.pick(Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into())
    }

    /// The length of the prefix that holds one address.
    pub fn host_prefix(self) -> u8 {
        self.pick(32, 128)
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.pick("IPv4", "IPv6"))
    }
}
