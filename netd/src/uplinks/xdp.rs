//! Which uplinks carry the XDP program, and whose frames it may judge. Pure.

use std::collections::BTreeMap;

use thiserror::Error;

use super::{Uplink, is_kind};
use crate::{config::XdpMode, netlink::link::Link};

/// Why an uplink goes without.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NoXdp {
    #[error("a veth pair with XDP loses its segmentation offload")]
    Veth,
    #[error("it has VLAN devices, whose tags a driver may take off before XDP sees the frame")]
    Vlans,
}

/// Checks whether an uplink with Ethernet header is to carry the program.
///
/// # Errors
/// Why not.
pub fn check(mode: XdpMode, uplink: &Uplink, links: &[Link]) -> Result<(), NoXdp> {
    let is_it = |link: &&Link| link.ifindex == uplink.ifindex;
    if mode == XdpMode::Auto && links.iter().any(|link| is_it(&link) && is_kind(link, "veth")) {
        return Err(NoXdp::Veth);
    }
    let is_on_it = |link: &Link| link.below == Some(uplink.ifindex) && is_kind(link, "vlan");
    if links.iter().any(is_on_it) { Err(NoXdp::Vlans) } else { Ok(()) }
}

/// The MAC addresses that frames for this host have on each device: those of uplinks, and of the devices
/// below them, since a bond's frames are received by its ports.
pub fn macs(links: &[Link], is_uplink: impl Fn(u32) -> bool) -> BTreeMap<u32, [u8; 6]> {
    let receives =
        |link: &&Link| is_uplink(link.ifindex) || link.controller.is_some_and(&is_uplink);
    links.iter().filter(receives).filter_map(|link| Some((link.ifindex, link.mac?))).collect()
}
