//! From a notification's bytes to a [`HostEvent`].
//!
//! Only headers and the attributes in question are parsed, so one that a newer kernel adds or
//! writes differently loses no event.

use netlink_packet_core::{NetlinkBuffer, NlasIterator, parse_string, parse_u32};
use netlink_packet_route::{AddressFamily, link::LinkHeader, neighbour::NeighbourHeader};

use super::{HostEvent, netfilter::SUBSYSTEM};

/// Message types and attributes of linux/rtnetlink.h, linux/if_link.h and linux/netconf.h.
const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const RTM_DELNEIGH: u16 = 29;
const RTM_NEWRULE: u16 = 32;
const RTM_DELRULE: u16 = 33;
const RTM_NEWQDISC: u16 = 36;
const RTM_DELQDISC: u16 = 37;
const RTM_NEWTFILTER: u16 = 44;
const RTM_DELTFILTER: u16 = 45;
const RTM_NEWNETCONF: u16 = 80;
const IFLA_IFNAME: u16 = 3;
const TCA_KIND: u16 = 1;
const NETCONFA_FORWARDING: u16 = 2;

/// The fixed parts of struct ifinfomsg, struct netconfmsg and struct tcmsg, padded to four bytes.
const IFINFOMSG_LEN: usize = 16;
const NETCONFMSG_LEN: usize = 4;
const TCMSG_LEN: usize = 20;

/// How many events are told apart.
const MOST_EVENTS: usize = 256;

/// Reads the events of a datagram into a batch.
pub(super) fn read_datagram(mut datagram: &[u8], batch: &mut Vec<HostEvent>) {
    while let Ok(message) = NetlinkBuffer::new_checked(datagram) {
        if let Some(event) = read_event(message.message_type(), message.payload()) {
            add(event, batch);
        }
        let aligned = (message.length() as usize).next_multiple_of(4);
        datagram = datagram.get(aligned..).unwrap_or_default();
    }
}

/// Adds an event unless it repeats one that still says the same. Very many are as good as an overrun: to read
/// everything again takes less time.
pub fn add(event: HostEvent, batch: &mut Vec<HostEvent>) {
    if batch.contains(&HostEvent::Overrun) {
        return;
    }
    if event == HostEvent::Overrun || batch.len() >= MOST_EVENTS {
        *batch = vec![HostEvent::Overrun];
        return;
    }
    if let HostEvent::LinkGone { ifindex, .. } = event {
        batch.retain(|earlier| *earlier != HostEvent::LinkChanged { ifindex });
    }
    if !batch.contains(&event) {
        batch.push(event);
    }
}

fn read_event(message_type: u16, payload: &[u8]) -> Option<HostEvent> {
    match message_type {
        RTM_NEWLINK | RTM_DELLINK => read_link_event(message_type, payload),
        RTM_DELNEIGH => {
            let ifindex = NeighbourHeader::parse(payload).ok()?.ifindex;
            Some(HostEvent::NeighbourGone { ifindex })
        }
        RTM_NEWQDISC | RTM_DELQDISC => read_qdisc_event(payload),
        RTM_NEWTFILTER | RTM_DELTFILTER => {
            Some(HostEvent::ClassifiersChanged { ifindex: tc_ifindex(payload)? })
        }
        _ if message_type >> 8 == u16::from(SUBSYSTEM) => Some(HostEvent::FirewallChanged),
        RTM_NEWADDR | RTM_DELADDR => Some(HostEvent::AddressesChanged),
        RTM_NEWROUTE | RTM_DELROUTE => Some(HostEvent::RoutesChanged),
        RTM_NEWRULE | RTM_DELRULE => Some(HostEvent::RulesChanged),
        RTM_NEWNETCONF => is_forwarding_change(payload).then_some(HostEvent::SysctlsChanged),
        _ => None,
    }
}

fn tc_ifindex(payload: &[u8]) -> Option<u32> {
    parse_u32(payload.get(4..8)?).ok()
}

/// Those that classifiers hang on queue nothing.
fn read_qdisc_event(payload: &[u8]) -> Option<HostEvent> {
    let ifindex = tc_ifindex(payload)?;
    let mut attributes = NlasIterator::new(payload.get(TCMSG_LEN..)?).flatten();
    let kind = attributes.find(|attribute| attribute.kind() == TCA_KIND)?;
    Some(match &*parse_string(kind.value()).ok()? {
        "clsact" | "ingress" => HostEvent::ClassifiersChanged { ifindex },
        _ => HostEvent::QdiscChanged { ifindex },
    })
}

fn read_link_event(message_type: u16, payload: &[u8]) -> Option<HostEvent> {
    let header = LinkHeader::parse(payload).ok()?;
    let ifindex = header.index;
    // With AF_BRIDGE, RTM_DELLINK says that a link has left its bridge.
    if message_type == RTM_NEWLINK || header.interface_family != AddressFamily::Unspec {
        return Some(HostEvent::LinkChanged { ifindex });
    }
    let attributes = NlasIterator::new(payload.get(IFINFOMSG_LEN..)?);
    let name = attributes
        .flatten()
        .find(|attribute| attribute.kind() == IFLA_IFNAME)
        .and_then(|attribute| parse_string(attribute.value()).ok())
        .unwrap_or_default();
    Some(HostEvent::LinkGone { ifindex, name })
}

/// A change carries the device and what changed; a new device carries every value that it has,
/// which is no news.
fn is_forwarding_change(payload: &[u8]) -> bool {
    let attributes = NlasIterator::new(payload.get(NETCONFMSG_LEN..).unwrap_or_default());
    let kinds: Vec<u16> = attributes.flatten().map(|attribute| attribute.kind()).collect();
    kinds.len() == 2 && kinds.contains(&NETCONFA_FORWARDING)
}

#[cfg(test)]
mod tests {
    use netlink_packet_core::Emitable;
    use netlink_packet_route::link::{LinkAttribute, LinkMessage};

    use super::{
        AddressFamily, HostEvent, RTM_DELLINK, RTM_NEWLINK, RTM_NEWNETCONF, add, read_event,
    };

    fn link(family: AddressFamily) -> Vec<u8> {
        let mut message = LinkMessage::default();
        message.header.interface_family = family;
        message.header.index = 7;
        message.attributes.push(LinkAttribute::Mtu(1500));
        message.attributes.push(LinkAttribute::IfName("veth7".to_owned()));
        let mut payload = vec![0; message.buffer_len()];
        message.emit(&mut payload);
        payload
    }

    #[test]
    fn a_deleted_link_is_gone_but_one_that_left_its_bridge_is_not() {
        let gone = HostEvent::LinkGone { ifindex: 7, name: "veth7".to_owned() };
        let changed = HostEvent::LinkChanged { ifindex: 7 };
        assert_eq!(read_event(RTM_DELLINK, &link(AddressFamily::Unspec)), Some(gone));
        assert_eq!(read_event(RTM_DELLINK, &link(AddressFamily::Bridge)), Some(changed.clone()));
        assert_eq!(read_event(RTM_NEWLINK, &link(AddressFamily::Unspec)), Some(changed));
    }

    #[test]
    fn only_a_change_of_forwarding_counts_among_the_sysctls() {
        let ifindex = [8, 0, 1, 0, 0xff, 0xff, 0xff, 0xff];
        let forwarding = [8, 0, 2, 0, 1, 0, 0, 0];
        let rp_filter = [8, 0, 3, 0, 1, 0, 0, 0];
        let header = [2, 0, 0, 0];
        let read = |parts: &[&[u8]]| read_event(RTM_NEWNETCONF, &parts.concat());
        assert_eq!(read(&[&header, &ifindex, &forwarding]), Some(HostEvent::SysctlsChanged));
        assert_eq!(read(&[&header, &ifindex, &rp_filter]), None);
        assert_eq!(read(&[&header, &ifindex, &forwarding, &rp_filter]), None);
    }

    #[test]
    fn truncated_messages_are_ignored() {
        let payload = link(AddressFamily::Unspec);
        assert_eq!(read_event(RTM_DELLINK, &payload[..8]), None);
        assert_eq!(read_event(RTM_NEWNETCONF, &[]), None);
    }

    #[test]
    fn a_batch_says_each_thing_once_and_keeps_a_link_that_came_back() {
        let changed = HostEvent::LinkChanged { ifindex: 7 };
        let gone = HostEvent::LinkGone { ifindex: 7, name: "veth7".to_owned() };
        let mut batch = Vec::new();
        for event in [
            changed.clone(),
            HostEvent::RoutesChanged,
            changed.clone(),
            gone.clone(),
            HostEvent::RoutesChanged,
            changed.clone(),
        ] {
            add(event, &mut batch);
        }
        assert_eq!(batch, [HostEvent::RoutesChanged, gone, changed]);
    }
}
