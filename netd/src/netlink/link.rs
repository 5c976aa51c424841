//! Links: reading them, plugging a veth into a bridge, deleting.

use std::time::Duration;

use netlink_packet_core::NLM_F_REQUEST;
use netlink_packet_route::{
    RouteNetlinkMessage,
    link::{
        LinkAttribute, LinkExtentMask, LinkFlags, LinkInfo, LinkLayerType, LinkMessage, LinkXdp,
        State, XdpAttached,
    },
};
use nix::errno::Errno;
use rtnetlink::{LinkMessageBuilder, LinkUnspec};
use tokio::time::{Instant, sleep};

use super::{Netlink, NetlinkError, Request};

/// The loopback device of every network namespace (the kernel's LOOPBACK_IFINDEX).
pub const LOOPBACK_IFINDEX: u32 = 1;

/// How long a link is waited for that has all it needs.
const OPERATIONAL_WITHIN: Duration = Duration::from_secs(3);
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(1);

/// IFNAMSIZ without the terminating zero.
const IFNAME_BYTES: usize = 15;

/// A network device as the kernel describes it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Link {
    pub ifindex: u32,
    pub name: String,
    /// The hardware address, where it is an Ethernet one.
    pub mac: Option<[u8; 6]>,
    pub mtu: u32,
    /// The kernel's word for its kind, as in `ip link add type KIND`; none for a hardware device.
    pub kind: Option<String>,
    /// The ifindex of the bridge, bond or VRF that it belongs to.
    pub controller: Option<u32>,
    /// The ifindex of the device that it is made on, as a VLAN is, or of a veth's other end. It may be in
    /// another namespace.
    pub below: Option<u32>,
    /// The number of the namespace that `below` is in, where that is another one.
    pub below_netns: Option<u32>,
    /// How its packets are queued, the kernel's word for the discipline at the root.
    pub qdisc: Option<String>,
    /// Whether it was set up; says nothing about the cable.
    pub up: bool,
    /// Whether the kernel has seen that the other end is up too: before, it drops what the link is to send.
    pub operational: bool,
    pub loopback: bool,
    /// Whether its packets start with an Ethernet header.
    pub ethernet: bool,
    /// The XDP program that it carries.
    pub xdp: Option<Xdp>,
}

/// An XDP program on a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Xdp {
    /// The kernel's number for the program.
    pub program: u32,
    /// Whether it runs in the kernel's generic mode, and not in the driver.
    pub is_generic: bool,
}

impl Netlink {
    /// Lists the links of the namespace.
    pub async fn links(&self) -> Result<Vec<Link>, NetlinkError> {
        let messages = self
            .dump(RouteNetlinkMessage::GetLink(without_statistics(LinkMessage::default())))
            .await
            .map_err(|source| NetlinkError::Failed { request: Request::ListLinks, source })?;
        Ok(messages.into_iter().filter_map(read_link).collect())
    }

    /// Reads one link, if it is there; with a thousand links the list takes some 40 ms.
    pub async fn link(&self, ifindex: u32) -> Result<Option<Link>, NetlinkError> {
        self.find_link(LinkMessageBuilder::<LinkUnspec>::new().index(ifindex).build()).await
    }

    /// Finds a link by its name.
    pub async fn link_named(&self, ifname: &str) -> Result<Link, NetlinkError> {
        let link = self.find_link(LinkMessageBuilder::<LinkUnspec>::new().name(ifname).build());
        link.await?.ok_or_else(|| NetlinkError::NoDevice { ifname: ifname.to_owned() })
    }

    /// Waits until a link whose other end is up can send, and is a bridge's port for what it receives: the kernel
    /// gets round to that some time after (`linkwatch`), as late as a second. One that somebody sets down
    /// meanwhile is given up on.
    pub async fn until_operational(&self, ifname: &str) -> Result<Link, NetlinkError> {
        let deadline = Instant::now() + OPERATIONAL_WITHIN;
        loop {
            let link = self.link_named(ifname).await?;
            if link.operational || Instant::now() >= deadline {
                return Ok(link);
            }
            sleep(LOOK_AGAIN_AFTER).await;
        }
    }

    /// Reads a link of another namespace, by the number that this one has for it (`IFLA_TARGET_NETNSID`, Linux 4.19):
    /// a veth's other end, without entering where it is.
    pub async fn link_elsewhere(
        &self,
        netns: u32,
        ifindex: u32,
    ) -> Result<Option<Link>, NetlinkError> {
        let mut message = LinkMessageBuilder::<LinkUnspec>::new().index(ifindex).build();
        let netns = i32::try_from(netns).unwrap_or(i32::MAX);
        message.attributes.push(LinkAttribute::IfNetnsId(netns));
        match self.find_link(message).await {
            // The namespace has gone meanwhile.
            Err(error) if error.is(Errno::EINVAL) => Ok(None),
            found => found,
        }
    }

    async fn find_link(&self, message: LinkMessage) -> Result<Option<Link>, NetlinkError> {
        let message = RouteNetlinkMessage::GetLink(without_statistics(message));
        match self.exchange(message, NLM_F_REQUEST).await {
            Ok(reply) => Ok(reply.messages.into_iter().find_map(read_link)),
            Err(error) if error.raw_os_error() == Some(Errno::ENODEV as i32) => Ok(None),
            Err(source) => Err(NetlinkError::Failed { request: Request::ListLinks, source }),
        }
    }

    /// Makes a link a port of a bridge and sets it up.
    pub async fn plug(&self, host_ifindex: u32, bridge_ifindex: u32) -> Result<(), NetlinkError> {
        let message = LinkMessageBuilder::<LinkUnspec>::new()
            .index(host_ifindex)
            .controller(bridge_ifindex)
            .up()
            .build();
        let request = Request::Plug { ifindex: host_ifindex, bridge_ifindex };
        match self.set_link(message, request).await {
            Err(error) if error.is(Errno::EXFULL) => {
                Err(NetlinkError::BridgeFull { bridge_ifindex })
            }
            result => result,
        }
    }

    /// Sets a link up.
    pub async fn set_up(&self, ifindex: u32) -> Result<(), NetlinkError> {
        let message = LinkMessageBuilder::<LinkUnspec>::new().index(ifindex).up().build();
        self.set_link(message, Request::SetLink { ifindex }).await
    }

    /// Sets the MAC address of a link.
    pub async fn set_mac(&self, ifindex: u32, mac: [u8; 6]) -> Result<(), NetlinkError> {
        let message =
            LinkMessageBuilder::<LinkUnspec>::new().index(ifindex).address(mac.to_vec()).build();
        self.set_link(message, Request::SetLink { ifindex }).await
    }

    /// Deletes a link, with its peer if it has one; one that is gone already is no error.
    pub async fn delete_link(&self, ifindex: u32) -> Result<(), NetlinkError> {
        let message = LinkMessageBuilder::<LinkUnspec>::new().index(ifindex).build();
        let request = Request::DeleteLink { ifindex };
        match self.change(RouteNetlinkMessage::DelLink(message), 0, request).await {
            Err(error) if error.is(Errno::ENODEV) => Ok(()),
            result => result,
        }
    }

    /// Deletes the link of that name and kind. Gone already is as good, and one of another kind is
    /// somebody else's.
    pub async fn delete_named(&self, ifname: &str, kind: &str) -> Result<(), NetlinkError> {
        match self.link_named(ifname).await {
            Ok(link) if link.kind.as_deref() == Some(kind) => self.delete_link(link.ifindex).await,
            Ok(_) | Err(NetlinkError::NoDevice { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    pub(super) async fn set_link(
        &self,
        message: LinkMessage,
        request: Request,
    ) -> Result<(), NetlinkError> {
        self.change(RouteNetlinkMessage::SetLink(message), 0, request).await
    }
}

/// Refuses the names that the kernel refuses, and those with which it does something else: it
/// counts `%d` up, and the sysctls of a device named `all` would be everyone's.
pub(super) fn check_name(ifname: &str) -> Result<(), NetlinkError> {
    let is_forbidden = |c: char| c.is_whitespace() || c.is_control() || "/:%".contains(c);
    let is_reserved = [".", "..", "all", "default"].contains(&ifname);
    let fits = (1..=IFNAME_BYTES).contains(&ifname.len());
    if fits && !is_reserved && !ifname.contains(is_forbidden) {
        Ok(())
    } else {
        Err(NetlinkError::InvalidName { ifname: ifname.to_owned() })
    }
}

/// Statistics are two thirds of what the kernel says about a link.
fn without_statistics(mut message: LinkMessage) -> LinkMessage {
    message.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
    message
}

fn read_link(message: RouteNetlinkMessage) -> Option<Link> {
    let RouteNetlinkMessage::NewLink(LinkMessage { header, attributes, .. }) = message else {
        return None;
    };
    let mut link = Link {
        ifindex: header.index,
        up: header.flags.contains(LinkFlags::Up),
        loopback: header.flags.contains(LinkFlags::Loopback),
        ethernet: header.link_layer_type == LinkLayerType::Ether,
        ..Link::default()
    };
    for attribute in attributes {
        read_attribute(&mut link, attribute);
    }
    Some(link)
}

fn read_attribute(link: &mut Link, attribute: LinkAttribute) {
    if let LinkAttribute::IfName(name) = attribute {
        link.name = name;
    } else if let LinkAttribute::Address(mac) = attribute {
        link.mac = mac.try_into().ok();
    } else if let LinkAttribute::Mtu(mtu) = attribute {
        link.mtu = mtu;
    } else if let LinkAttribute::Qdisc(qdisc) = attribute {
        link.qdisc = Some(qdisc);
    } else if let LinkAttribute::Controller(controller) = attribute {
        link.controller = (controller != 0).then_some(controller);
    } else if let LinkAttribute::OperState(state) = attribute {
        link.operational = state == State::Up;
    } else if let LinkAttribute::Link(below) = attribute {
        link.below = (below != 0).then_some(below);
    } else if let LinkAttribute::LinkNetNsId(netns) = attribute {
        // Negative where the namespace is about to go.
        link.below_netns = u32::try_from(netns).ok();
    } else if let LinkAttribute::Xdp(attributes) = attribute {
        link.xdp = read_xdp(&attributes);
    } else if let LinkAttribute::LinkInfo(infos) = attribute {
        link.kind = infos.into_iter().find_map(|info| {
            if let LinkInfo::Kind(kind) = info { Some(kind.to_string()) } else { None }
        });
    }
}

fn read_xdp(attributes: &[LinkXdp]) -> Option<Xdp> {
    let is_generic = attributes.contains(&LinkXdp::Attached(XdpAttached::SocketBuffer));
    let program = attributes
        .iter()
        .find_map(|attribute| if let LinkXdp::ProgId(id) = attribute { Some(*id) } else { None });
    program.filter(|id| *id != 0).map(|program| Xdp { program, is_generic })
}

#[cfg(test)]
mod tests {
    use super::check_name;

    #[track_caller]
    fn check(ifname: &str, is_valid: bool) {
        assert_eq!(check_name(ifname).is_ok(), is_valid);
    }

    #[test]
    fn names_that_mean_something_else_to_the_kernel_are_refused() {
        check("nd-0123456789ab", true);
        check("eth0.5@x", true);
        check("nd-0123456789abc", false);
        check("", false);
        check("nd%d", false);
        check("a/b", false);
        check("a b", false);
        check("a\0b", false);
        check("..", false);
        check("all", false);
    }
}
