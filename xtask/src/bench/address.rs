//! Who has which address. Each testbed has namespaces of its own, so all use the same ones.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An address family.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

impl Family {
    pub(super) fn pick<T>(self, v4: T, v6: T) -> T {
        match self {
            Self::V4 => v4,
            Self::V6 => v6,
        }
    }

    pub(super) fn name(self) -> &'static str {
        self.pick("IPv4", "IPv6")
    }

    /// The client, on the link to the host.
    pub(super) fn client(self) -> IpAddr {
        self.on_link(2)
    }

    /// The host, on the link to the client; in `direct` the server.
    pub(super) fn host(self) -> IpAddr {
        self.on_link(1)
    }

    /// The prefix length of that link.
    pub(super) fn link_prefix_len(self) -> u8 {
        self.pick(24, 64)
    }

    /// The bridge.
    pub(super) fn gateway(self) -> IpAddr {
        self.on_bridge(1)
    }

    pub(super) fn container(self) -> IpAddr {
        self.on_bridge(2)
    }

    pub(super) fn container_subnet(self) -> &'static str {
        self.pick("10.88.0.0/24", "fd88::/64")
    }

    /// The prefix length of the container's subnet.
    pub(super) fn subnet_prefix_len(self) -> u8 {
        self.pick(24, 64)
    }

    pub(super) fn unspecified(self) -> IpAddr {
        self.pick(Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into())
    }

    fn on_link(self, number: u8) -> IpAddr {
        let v6 = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, number.into());
        self.pick(Ipv4Addr::new(192, 0, 2, number).into(), v6.into())
    }

    fn on_bridge(self, number: u8) -> IpAddr {
        let v6 = Ipv6Addr::new(0xfd88, 0, 0, 0, 0, 0, 0, number.into());
        self.pick(Ipv4Addr::new(10, 88, 0, number).into(), v6.into())
    }
}
