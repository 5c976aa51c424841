//! Addresses: which subnet a network gets, and which address an endpoint gets. Pure.
//!
//! The pools are Docker's (`docker-behaviour.md` A4, A5). Dynamic addresses go round: the next one
//! after the last that was given out, so that an address just given back rests for as long as the
//! range allows, and late packets of its old owner do not meet a new one.
//!
//! Both families are counted in `u128`, so there is one copy of the arithmetic.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use thiserror::Error;

use crate::model::{Family, Subnet};

/// A block of addresses that is cut into subnets of one size, Docker's `default-address-pools`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool {
    base: IpNet,
    size: u8,
}

/// Why a base and a size are no [`Pool`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PoolError {
    #[error("pool {base} cannot be cut into subnets of /{size}: write a size from {min} to {max}")]
    Size { base: IpNet, size: u8, min: u8, max: u8 },
    #[error("pool {base} has host bits: write {network}")]
    HostBits { base: IpNet, network: IpNet },
}

/// The pools that networks without a subnet take theirs from, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pools {
    ipv4: Vec<Pool>,
    ipv6: Vec<Pool>,
}

/// Why an address cannot be given to an endpoint or a gateway.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AddressError {
    #[error("address {address} is outside subnet {subnet}: choose one inside")]
    OutsideSubnet { address: IpAddr, subnet: IpNet },
    #[error("address {address} is the network or broadcast address of {subnet}: choose another")]
    NotForHosts { address: IpAddr, subnet: IpNet },
    #[error("address {address} is the gateway of {subnet}: choose another")]
    Gateway { address: IpAddr, subnet: IpNet },
    #[error("address {address} is reserved as --aux-address {name}: choose another")]
    Auxiliary { address: IpAddr, name: String },
    #[error("address {address} is already in use in {subnet}: choose another")]
    Taken { address: IpAddr, subnet: IpNet },
    #[error("no free address is left in {range}: disconnect an endpoint or use a larger range")]
    Exhausted { range: IpNet },
}

impl Pool {
    /// A pool of subnets with prefix length `size`.
    ///
    /// # Errors
    /// Where the base is not a whole prefix, or subnets of that size do not fit or hold no endpoint.
    pub fn new(base: IpNet, size: u8) -> Result<Self, PoolError> {
        let (min, max) = (base.prefix_len(), longest_subnet(Family::of_net(&base)));
        if base != base.trunc() {
            return Err(PoolError::HostBits { base, network: base.trunc() });
        }
        if size < min || size > max {
            return Err(PoolError::Size { base, size, min, max });
        }
        Ok(Self { base, size })
    }

    /// The first subnet that overlaps none of `taken`.
    fn free_subnet(&self, taken: &[IpNet]) -> Option<IpNet> {
        let family = Family::of_net(&self.base);
        let (mut next, end) = bounds(&self.base);
        loop {
            let subnet = IpNet::new(address(family, next), self.size).ok()?.trunc();
            let last = bounds(&subnet).1;
            // Past whatever is in the way at once: a pool may be cut into more subnets than can be
            // tried one by one.
            let past = match taken.iter().find(|net| overlap(net, &subnet)) {
                None => return Some(subnet),
                Some(net) => last.max(bounds(net).1),
            };
            next = past.checked_add(1).filter(|&next| next <= end)?;
            let step = subnet_len(family, self.size);
            next = next.checked_next_multiple_of(step).filter(|&next| next <= end)?;
        }
    }
}

impl Pools {
    /// The configured pools; a family without one keeps its default, which for IPv6 is cut from the
    /// host's own prefix.
    pub fn new(configured: &[Pool], ula: Ipv6Net) -> Self {
        let of = |family| {
            let pools = configured.iter().filter(|pool| Family::of_net(&pool.base) == family);
            pools.copied().collect::<Vec<_>>()
        };
        let (mut ipv4, mut ipv6) = (of(Family::Ipv4), of(Family::Ipv6));
        if ipv4.is_empty() {
            ipv4 = DEFAULT_IPV4.map(default_pool).to_vec();
        }
        if ipv6.is_empty() {
            ipv6 = vec![Pool { base: IpNet::V6(ula), size: 64 }];
        }
        Self { ipv4, ipv6 }
    }

    /// The first subnet of the family's pools that overlaps none of `taken`.
    pub fn free_subnet(&self, family: Family, taken: &[IpNet]) -> Option<IpNet> {
        let pools = match family {
            Family::Ipv4 => &self.ipv4,
            Family::Ipv6 => &self.ipv6,
        };
        pools.iter().find_map(|pool| pool.free_subnet(taken))
    }
}

/// 172.17.0.0/16 to 172.31.0.0/16 one by one, then 192.168.0.0/16 in pieces of /20.
///
/// Source: moby `daemon/libnetwork/ipamutils/utils.go`.
const DEFAULT_IPV4: [(Ipv4Addr, u8, u8); 5] = [
    (Ipv4Addr::new(172, 17, 0, 0), 16, 16),
    (Ipv4Addr::new(172, 18, 0, 0), 15, 16),
    (Ipv4Addr::new(172, 20, 0, 0), 14, 16),
    (Ipv4Addr::new(172, 24, 0, 0), 13, 16),
    (Ipv4Addr::new(192, 168, 0, 0), 16, 20),
];

fn default_pool((addr, prefix_len, size): (Ipv4Addr, u8, u8)) -> Pool {
    Pool { base: IpNet::V4(Ipv4Net::new_assert(addr, prefix_len)), size }
}

/// The host's own prefix of unique local addresses (RFC 4193 section 3.1), given its global id.
pub fn ula_prefix([a, b, c, d, e]: [u8; 5]) -> Ipv6Net {
    let octets = [0xfd, a, b, c, d, e, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    Ipv6Net::new_assert(Ipv6Addr::from(octets), 48)
}

/// The global id of a host's own prefix; none where it is no such prefix.
pub fn ula_global_id(prefix: Ipv6Net) -> Option<[u8; 5]> {
    let [_, a, b, c, d, e, ..] = prefix.addr().octets();
    let id = [a, b, c, d, e];
    (ula_prefix(id) == prefix).then_some(id)
}

/// Whether two prefixes share an address.
pub fn overlap(a: &IpNet, b: &IpNet) -> bool {
    a.contains(b) || b.contains(a)
}

/// Prefixes whose addresses no container can have, or that mean another host for each: "this network", loopback,
/// multicast and class E of IPv4 (RFC 6890, RFC 1112), of IPv6 the beginning, where loopback and addresses of IPv4
/// are, link-local addresses and multicast (RFC 4291).
pub const NOT_FOR_HOSTS: [IpNet; 7] = [
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 8)),
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8)),
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(224, 0, 0, 0), 4)),
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(240, 0, 0, 0), 4)),
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 80)),
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10)),
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8)),
];

/// Whether containers can have every address of a prefix.
pub fn is_unicast(net: &IpNet) -> bool {
    !NOT_FOR_HOSTS.iter().any(|other| overlap(other, net))
}

/// A prefix of the same family that is one for hosts.
pub fn example(net: &IpNet) -> &'static str {
    match Family::of_net(net) {
        Family::Ipv4 => "10.1.0.0/16",
        Family::Ipv6 => "fd12:3456:789a::/64",
    }
}

/// The longest prefix that still has room for a gateway and an endpoint: an IPv4 subnet of two
/// addresses needs no network and broadcast address (RFC 3021), an IPv6 one keeps its first address
/// for the subnet-router anycast (RFC 4291 section 2.6.1).
pub fn longest_subnet(family: Family) -> u8 {
    match family {
        Family::Ipv4 => 31,
        Family::Ipv6 => 126,
    }
}

/// The gateway of a subnet whose user named none: the first address that dynamic ones come from.
///
/// # Errors
/// Where every address of the range is set aside.
pub fn default_gateway(
    subnet: &IpNet,
    ip_range: Option<&IpNet>,
    aux: &BTreeSet<IpAddr>,
) -> Result<IpAddr, AddressError> {
    let range = ip_range.unwrap_or(subnet);
    let (first, last) = bounds(range);
    first_free(subnet, first, last, |address| aux.contains(&address))
        .ok_or(AddressError::Exhausted { range: *range })
}

/// The next address for an endpoint, after `last` and then round from the start.
///
/// # Errors
/// Where none is left.
pub fn next_free(
    subnet: &Subnet,
    taken: &BTreeSet<IpAddr>,
    last: Option<IpAddr>,
) -> Result<IpAddr, AddressError> {
    let range = subnet.ip_range.as_ref().unwrap_or(&subnet.subnet);
    let (first, end) = bounds(range);
    let after = |last: IpAddr| number(&last).checked_add(1);
    let start = last.filter(|last| range.contains(last)).and_then(after).unwrap_or(first);
    let is_taken = |address| taken.contains(&address) || reservation(subnet, address).is_some();
    first_free(&subnet.subnet, start, end, is_taken)
        .or_else(|| first_free(&subnet.subnet, first, end.min(start), is_taken))
        .ok_or(AddressError::Exhausted { range: *range })
}

/// Checks an address that a user chose for an endpoint.
///
/// # Errors
/// Where it is not one of the subnet's, set aside, or in use.
pub fn check_static(
    subnet: &Subnet,
    taken: &BTreeSet<IpAddr>,
    address: IpAddr,
) -> Result<(), AddressError> {
    check_host_address(&subnet.subnet, address)?;
    if let Some(error) = reservation(subnet, address) {
        return Err(error);
    }
    if taken.contains(&address) {
        return Err(AddressError::Taken { address, subnet: subnet.subnet });
    }
    Ok(())
}

/// Checks that an address lies in a subnet and can belong to a host.
///
/// # Errors
/// Where it lies outside, or is the subnet's network or broadcast address.
pub fn check_host_address(subnet: &IpNet, address: IpAddr) -> Result<(), AddressError> {
    if !subnet.contains(&address) {
        return Err(AddressError::OutsideSubnet { address, subnet: *subnet });
    }
    if !is_for_hosts(subnet, number(&address)) {
        return Err(AddressError::NotForHosts { address, subnet: *subnet });
    }
    Ok(())
}

fn reservation(subnet: &Subnet, address: IpAddr) -> Option<AddressError> {
    if subnet.gateway == Some(address) {
        return Some(AddressError::Gateway { address, subnet: subnet.subnet });
    }
    let (name, _) = subnet.aux_addresses.iter().find(|(_, aux)| **aux == address)?;
    Some(AddressError::Auxiliary { address, name: name.clone() })
}

fn first_free(
    subnet: &IpNet,
    first: u128,
    last: u128,
    is_taken: impl Fn(IpAddr) -> bool,
) -> Option<IpAddr> {
    let family = Family::of_net(subnet);
    (first..=last)
        .filter(|&number| is_for_hosts(subnet, number))
        .map(|number| address(family, number))
        .find(|&address| !is_taken(address))
}

fn is_for_hosts(subnet: &IpNet, number: u128) -> bool {
    let (first, last) = bounds(subnet);
    match Family::of_net(subnet) {
        Family::Ipv4 if subnet.prefix_len() >= 31 => true,
        Family::Ipv4 => number != first && number != last,
        Family::Ipv6 => number != first,
    }
}

fn bounds(net: &IpNet) -> (u128, u128) {
    (number(&net.network()), number(&net.broadcast()))
}

fn subnet_len(family: Family, prefix_len: u8) -> u128 {
    let bits = match family {
        Family::Ipv4 => 32,
        Family::Ipv6 => 128,
    };
    1_u128.checked_shl(bits - u32::from(prefix_len)).unwrap_or(u128::MAX)
}

fn number(address: &IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(u32::from(*address)),
        IpAddr::V6(address) => u128::from(*address),
    }
}

/// The inverse of [`number`]; the callers stay within the family's prefixes.
fn address(family: Family, number: u128) -> IpAddr {
    match family {
        Family::Ipv4 => IpAddr::V4(Ipv4Addr::from(number as u32)),
        Family::Ipv6 => IpAddr::V6(Ipv6Addr::from(number)),
    }
}

#[cfg(test)]
mod tests;
