//! The two address families, as parameters of every test: the same places in each.

use std::net::{Ipv4Addr, Ipv6Addr};

use netd_common::address::{Address, V4, V6};

use crate::tables::{FamilyStore, HostTables};

/// A family with an address plan of documentation prefixes and a store among the host's tables.
pub(crate) trait Family: Address {
    /// ICMP's protocol number.
    const ICMP: u8;
    /// The number of the family in `linux/socket.h`.
    const AF: u32;
    /// Bits of a container subnet.
    const SUBNET_BITS: u32;
    const LOOPBACK: Self;
    const LINK_LOCAL: Self;
    const MULTICAST: Self;

    /// A machine of the outside world.
    fn outside(n: u8) -> Self;
    /// An address of the host on its uplink.
    fn host(n: u8) -> Self;
    /// An address in a container network; 1 is the bridge's own.
    fn inside(network: u16, n: u8) -> Self;
    fn mask(bits: u32) -> Self;
    /// A hardware-independent fresh value from raw bytes, for arbitrary addresses.
    fn from_bytes(bytes: [u8; 16]) -> Self;

    fn store(tables: &HostTables) -> &FamilyStore<Self>;
    fn store_mut(tables: &mut HostTables) -> &mut FamilyStore<Self>;
}

impl Family for V4 {
    const ICMP: u8 = 1;
    const AF: u32 = 2;
    const SUBNET_BITS: u32 = 16;
    const LOOPBACK: Self = Self::new(Ipv4Addr::LOCALHOST);
    const LINK_LOCAL: Self = Self::new(Ipv4Addr::new(169, 254, 0, 7));
    const MULTICAST: Self = Self::new(Ipv4Addr::new(224, 0, 0, 251));

    fn outside(n: u8) -> Self {
        Self::new(Ipv4Addr::new(203, 0, 113, n))
    }

    fn host(n: u8) -> Self {
        Self::new(Ipv4Addr::new(192, 0, 2, n))
    }

    fn inside(network: u16, n: u8) -> Self {
        Self::new(Ipv4Addr::new(172, 16 + network as u8, 0, n))
    }

    fn mask(bits: u32) -> Self {
        Self::new(u32::MAX.checked_shl(32 - bits).unwrap_or(0).into())
    }

    fn from_bytes(bytes: [u8; 16]) -> Self {
        Self::new(Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3]))
    }

    fn store(tables: &HostTables) -> &FamilyStore<Self> {
        &tables.v4
    }

    fn store_mut(tables: &mut HostTables) -> &mut FamilyStore<Self> {
        &mut tables.v4
    }
}

impl Family for V6 {
    const ICMP: u8 = 58;
    const AF: u32 = 10;
    const SUBNET_BITS: u32 = 64;
    const LOOPBACK: Self = Self::new(Ipv6Addr::LOCALHOST);
    const LINK_LOCAL: Self = Self::new(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 7));
    const MULTICAST: Self = Self::new(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0xfb));

    fn outside(n: u8) -> Self {
        Self::new(Ipv6Addr::new(0x2001, 0xdb8, 0xcb00, 0, 0, 0, 0, n.into()))
    }

    fn host(n: u8) -> Self {
        Self::new(Ipv6Addr::new(0x2001, 0xdb8, 0xc0, 0, 0, 0, 0, n.into()))
    }

    fn inside(network: u16, n: u8) -> Self {
        Self::new(Ipv6Addr::new(0x2001, 0xdb8, 0xac00, network, 0, 0, 0, n.into()))
    }

    fn mask(bits: u32) -> Self {
        Self::new(u128::MAX.checked_shl(128 - bits).unwrap_or(0).into())
    }

    fn from_bytes(bytes: [u8; 16]) -> Self {
        Self::new(bytes.into())
    }

    fn store(tables: &HostTables) -> &FamilyStore<Self> {
        &tables.v6
    }

    fn store_mut(tables: &mut HostTables) -> &mut FamilyStore<Self> {
        &mut tables.v6
    }
}

/// Makes a test of each named generic function in each family and each data path.
macro_rules! in_both_datapaths {
    ($($name:ident,)+) => {
        mod stack {
            $crate::family::in_both_datapaths!(@ Stack, $($name,)+);
        }

        mod fast {
            $crate::family::in_both_datapaths!(@ Fast, $($name,)+);
        }
    };
    (@ $datapath:ident, $($name:ident,)+) => {
        mod v4 {
            $(#[test]
            fn $name() {
                let datapath = $crate::scene::Datapath::$datapath;
                super::super::$name::<netd_common::address::V4>(datapath);
            })+
        }

        mod v6 {
            $(#[test]
            fn $name() {
                let datapath = $crate::scene::Datapath::$datapath;
                super::super::$name::<netd_common::address::V6>(datapath);
            })+
        }
    };
}

/// Makes a test of each named generic function in each family.
macro_rules! in_both_families {
    ($($name:ident,)+) => {
        mod v4 {
            $(#[test]
            fn $name() {
                super::$name::<netd_common::address::V4>();
            })+
        }

        mod v6 {
            $(#[test]
            fn $name() {
                super::$name::<netd_common::address::V6>();
            })+
        }
    };
}

pub(crate) use in_both_datapaths;
pub(crate) use in_both_families;
