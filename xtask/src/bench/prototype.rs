//! The plainest programs for the hops of the fast path, on the host of a testbed: what netd's fast path
//! could reach if its tables and checks cost nothing.

use std::{net::IpAddr, path::Path};

use anyhow::{Context as _, Result};
use aya::{
    Ebpf, EbpfLoader,
    programs::{LinkOrder, SchedClassifier, TcAttachType, tc::TcAttachOptions},
};

use super::{address::Family, netns::Namespace};

/// Programs that end when this is dropped.
pub(super) struct Prototype {
    _ebpf: Ebpf,
}

/// The devices that the programs sit on and send to.
pub(super) struct Devices<'a> {
    pub(super) uplink: &'a str,
    /// The host's end of the container's link.
    pub(super) bridge_port: &'a str,
}

/// Publishes one port.
///
/// # Errors
/// Fails if the programs cannot be loaded or attached.
pub(super) fn publish(
    object: &Path,
    host: &Namespace,
    devices: &Devices<'_>,
    family: Family,
    port: u16,
) -> Result<Prototype> {
    let Devices { uplink, bridge_port } = devices;
    let mut ebpf = EbpfLoader::new()
        .override_global("HOST", &bytes(family.host()), true)
        .override_global("CONTAINER", &bytes(family.container()), true)
        .override_global("PORT", &port.to_be(), true)
        .override_global("UPLINK", &host.ifindex(uplink)?, true)
        .override_global("BRIDGE_PORT", &host.ifindex(bridge_port)?, true)
        .load_file(object)
        .with_context(|| format!("cannot load {}", object.display()))?;
    for (program, ifname) in [("from_uplink", uplink), ("from_endpoint", bridge_port)] {
        host.inside(|| attach(&mut ebpf, program, ifname))?
            .with_context(|| format!("cannot attach {program} to {ifname}"))?;
    }
    Ok(Prototype { _ebpf: ebpf })
}

/// By TCX: such a link is a file descriptor, so it ends with us wherever we are then. A clsact filter
/// would be taken away by its device's number, in whatever namespace drops it.
fn attach(ebpf: &mut Ebpf, name: &str, ifname: &str) -> Result<()> {
    let program: &mut SchedClassifier =
        ebpf.program_mut(name).context("there is no such program")?.try_into()?;
    program.load()?;
    let options = TcAttachOptions::TcxOrder(LinkOrder::default());
    program.attach_with_options(ifname, TcAttachType::Ingress, options)?;
    Ok(())
}

/// An address as it lies in a packet, followed by zeros.
fn bytes(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => {
            let mut bytes = [0; 16];
            bytes[..4].copy_from_slice(&address.octets());
            bytes
        }
        IpAddr::V6(address) => address.octets(),
    }
}
