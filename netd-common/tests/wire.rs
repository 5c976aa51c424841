//! `from_wire`: which frames end before they are packets, and that no other table is asked.

#![expect(clippy::unwrap_used, reason = "what a test cannot build is a failed test")]

use std::{
    cell::Cell,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    ops::ControlFlow,
};

use bytemuck::Pod;
use etherparse::{PacketBuilder, PacketBuilderStep, ip_number};
use netd_common::{
    address::{Address, Port},
    conntrack::{CtEntry, CtKey, NewFlow, Scope},
    engine::from_wire,
    fragment::{Datagram, FirstFragment, FragmentKey},
    header::proto,
    network::{AcceptedMark, BridgePort, Endpoint, LinkKey, Network},
    packet::{Frame, Headers},
    parse::Ip,
    published::{PublishedPort, PublishedPortKey},
    reason::Reason,
    tables::{FamilyTables, Flow, InsertError, Route, Socket, SocketTuple, Tables, Work},
};
use proptest::{collection::vec, prelude::*};

const HOST_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const OTHER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];

/// A frame as it came in, on a device with [`HOST_MAC`].
struct Bytes(Vec<u8>);

impl Headers for Bytes {
    fn len_bytes(&self) -> u32 {
        self.0.len() as u32
    }

    fn ethertype(&self) -> u16 {
        self.load(12).map_or(0, u16::from_be_bytes)
    }

    fn network_offset(&self) -> u32 {
        14
    }

    fn load<T: Pod>(&self, offset: u32) -> Option<T> {
        let bytes = self.0.get(offset as usize..)?.get(..size_of::<T>())?;
        Some(bytemuck::pod_read_unaligned(bytes))
    }
}

impl Frame for Bytes {
    fn is_to_this_host(&self) -> bool {
        self.0.starts_with(&HOST_MAC)
    }
}

/// A host of [`host`]'s addresses with one network, whose subnet is that of [`container`]. Whatever else
/// is asked is a mistake.
#[derive(Default)]
struct Host {
    /// The source and port of a flow that is known.
    flow: Cell<Option<(IpAddr, u16)>>,
}

#[derive(Clone, Copy)]
struct NoEntry;

const NOT_ASKED: &str = "this is the classifier's to ask";

impl Tables for Host {
    fn now_secs(&self) -> u32 {
        unreachable!("{NOT_ASKED}")
    }
    fn timer_secs(&self, _: u32) -> u32 {
        unreachable!("{NOT_ASKED}")
    }
    fn secret(&self) -> [u64; 2] {
        unreachable!("{NOT_ASKED}")
    }
    fn is_configured(&self, _: u32) -> bool {
        unreachable!("{NOT_ASKED}")
    }
    fn repeat(&self, _: u32, _: impl FnMut(u32) -> ControlFlow<()>) {
        unreachable!("{NOT_ASKED}")
    }
    fn network(&self, _: u16) -> Option<&Network> {
        unreachable!("{NOT_ASKED}")
    }
    fn bridge_port(&self, _: u32) -> Option<BridgePort> {
        unreachable!("{NOT_ASKED}")
    }
    fn network_of_bridge(&self, _: u32) -> Option<u16> {
        unreachable!("{NOT_ASKED}")
    }
    fn is_trusted(&self, _: u32, _: u16) -> bool {
        unreachable!("{NOT_ASKED}")
    }
    fn accepted_mark(&self, _: u16) -> Option<&AcceptedMark> {
        unreachable!("{NOT_ASKED}")
    }
    fn is_linked(&self, _: &LinkKey) -> bool {
        unreachable!("{NOT_ASKED}")
    }
    fn may_enter(&self, _: u16, _: u16) -> bool {
        unreachable!("{NOT_ASKED}")
    }
    fn is_reserved(&self, _: Port) -> bool {
        unreachable!("{NOT_ASKED}")
    }
    fn host_flows_seen_secs(&self) -> u32 {
        unreachable!("{NOT_ASKED}")
    }
    fn set_host_flows_seen(&self, _: u32) {
        unreachable!("{NOT_ASKED}")
    }
    fn generation(&self, _: u32) -> u32 {
        unreachable!("{NOT_ASKED}")
    }
    fn count_received(&self, _: u32, _: u32) {
        unreachable!("{NOT_ASKED}")
    }
    fn count_sent(&self, _: u32, _: u32) {
        unreachable!("{NOT_ASKED}")
    }
    fn count_flow(&self, _: u32) {
        unreachable!("{NOT_ASKED}")
    }
    fn flow_count(&self, _: u32) -> u32 {
        unreachable!("{NOT_ASKED}")
    }
    fn add_to_flow_count(&self, _: u32, _: i64) {
        unreachable!("{NOT_ASKED}")
    }
    fn flow_limit(&self, _: u32) -> u32 {
        unreachable!("{NOT_ASKED}")
    }
    fn max_flows(&self) -> u32 {
        unreachable!("{NOT_ASKED}")
    }
    fn hold_fragment(&self, _: Datagram) -> bool {
        unreachable!("{NOT_ASKED}")
    }
    fn release_fragments(&self, _: Datagram) -> bool {
        unreachable!("{NOT_ASKED}")
    }
}

impl<A: Address> FamilyTables<A> for Host {
    type Flow = NoEntry;

    fn network_of(&self, addr: A) -> Option<u16> {
        match addr.into() {
            IpAddr::V4(addr) => addr.octets().starts_with(&[10, 77, 1]).then_some(1),
            IpAddr::V6(addr) => addr.octets().starts_with(&[0xfd, 0x77]).then_some(1),
        }
    }
    fn is_host_address(&self, addr: A) -> bool {
        [host(true), host(false)].contains(&addr.into())
    }
    fn is_bridge_address(&self, _: A) -> bool {
        unreachable!("{NOT_ASKED}")
    }
    fn flow(&self, key: &CtKey<A>) -> Option<NoEntry> {
        assert_eq!(key.scope, Scope::Uplink as u8);
        let (src, port) = self.flow.get()?;
        (key.src.into() == src && key.sport == Port::new(port)).then_some(NoEntry)
    }
    fn insert_flow(&self, _: &CtKey<A>, _: &CtEntry<A>) -> Result<(), InsertError> {
        unreachable!("{NOT_ASKED}")
    }
    fn remove_flow(&self, _: &CtKey<A>) {
        unreachable!("{NOT_ASKED}")
    }
    fn remember_young_flow(&self, _: u32, _: &CtKey<A>) {
        unreachable!("{NOT_ASKED}")
    }
    fn recall_young_flow(&self, _: u32, _: &mut CtKey<A>) -> bool {
        unreachable!("{NOT_ASKED}")
    }
    fn first_fragment(&self, _: &FragmentKey<A>) -> Option<FirstFragment> {
        unreachable!("{NOT_ASKED}")
    }
    fn remember_first_fragment(&self, _: &FragmentKey<A>, _: &FirstFragment) {
        unreachable!("{NOT_ASKED}")
    }
    fn with_work<R>(&self, _: impl FnOnce(&mut Work<A>) -> R) -> Option<R> {
        unreachable!("{NOT_ASKED}")
    }
    fn describe_flow(&self, _: impl FnOnce(&mut NewFlow<A>)) {
        unreachable!("{NOT_ASKED}")
    }
    fn with_description<R>(&self, _: impl FnOnce(&mut NewFlow<A>) -> R) -> Option<R> {
        unreachable!("{NOT_ASKED}")
    }
    fn insert_pair(&self) -> Result<(), Reason> {
        unreachable!("{NOT_ASKED}")
    }
    fn published(&self, _: &PublishedPortKey<A>) -> Option<&PublishedPort<A>> {
        unreachable!("{NOT_ASKED}")
    }
    fn published_range(&self, _: &PublishedPortKey<A>) -> Option<&PublishedPort<A>> {
        unreachable!("{NOT_ASKED}")
    }
    fn endpoint(&self, _: A) -> Option<Endpoint> {
        unreachable!("{NOT_ASKED}")
    }
    fn masquerade_source(&self, _: u32, _: A) -> Option<A> {
        unreachable!("{NOT_ASKED}")
    }
    fn socket(&self, _: u32, _: u8, _: &SocketTuple<A>) -> Option<Socket> {
        unreachable!("{NOT_ASKED}")
    }
    fn route(&self, _: u32, _: &Ip<A>, _: u32) -> Route<'_> {
        unreachable!("{NOT_ASKED}")
    }
}

impl<A: Address> Flow<A> for NoEntry {
    fn entry(&self) -> &CtEntry<A> {
        unreachable!("{NOT_ASKED}")
    }
    fn last_seen_secs(&self) -> u32 {
        unreachable!("{NOT_ASKED}")
    }
    fn replace_last_seen(&self, _: u32, _: u32) -> bool {
        unreachable!("{NOT_ASKED}")
    }
    fn set_seen(&self, _: u8) {
        unreachable!("{NOT_ASKED}")
    }
    fn set_peer_seen(&self, _: u8) {
        unreachable!("{NOT_ASKED}")
    }
    fn count(&self, _: u32) {
        unreachable!("{NOT_ASKED}")
    }
}

fn pick(is_v4: bool, v4: [u8; 4], v6: Ipv6Addr) -> IpAddr {
    if is_v4 { Ipv4Addr::from(v4).into() } else { v6.into() }
}

fn host(is_v4: bool) -> IpAddr {
    pick(is_v4, [192, 0, 2, 1], Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1))
}

fn client(is_v4: bool) -> IpAddr {
    pick(is_v4, [192, 0, 2, 2], Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 2))
}

/// Somebody whom the host forwards packets to.
fn other(is_v4: bool) -> IpAddr {
    pick(is_v4, [198, 51, 100, 7], Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 7))
}

fn container(is_v4: bool) -> IpAddr {
    pick(is_v4, [10, 77, 1, 2], Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 2))
}

fn loopback(is_v4: bool) -> IpAddr {
    pick(is_v4, [127, 1, 2, 3], Ipv6Addr::LOCALHOST)
}

fn group(is_v4: bool) -> IpAddr {
    pick(is_v4, [224, 0, 0, 251], Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0xfb))
}

fn ip(src: IpAddr, dst: IpAddr) -> PacketBuilderStep<etherparse::IpHeaders> {
    let ethernet = PacketBuilder::ethernet2(OTHER_MAC, HOST_MAC);
    match (src, dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => ethernet.ipv4(src.octets(), dst.octets(), 64),
        (IpAddr::V6(src), IpAddr::V6(dst)) => ethernet.ipv6(src.octets(), dst.octets(), 64),
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => panic!("two families"),
    }
}

fn udp(src: IpAddr, dst: IpAddr) -> Vec<u8> {
    let mut frame = Vec::new();
    ip(src, dst).udp(4000, 53).write(&mut frame, b"payload").unwrap();
    frame
}

fn tcp(src: IpAddr, dst: IpAddr) -> Vec<u8> {
    let mut frame = Vec::new();
    ip(src, dst).tcp(4000, 80, 1, 1000).syn().write(&mut frame, b"payload").unwrap();
    frame
}

fn echo(src: IpAddr, dst: IpAddr) -> Vec<u8> {
    let mut frame = Vec::new();
    let ip = ip(src, dst);
    if src.is_ipv4() {
        ip.icmpv4_echo_request(1, 1).write(&mut frame, b"payload").unwrap();
    } else {
        ip.icmpv6_echo_request(1, 1).write(&mut frame, b"payload").unwrap();
    }
    frame
}

fn judge(frame: Vec<u8>) -> Result<(), Reason> {
    from_wire(&Bytes(frame), &Host::default())
}

/// Makes a frame from one address to another.
type Make = fn(IpAddr, IpAddr) -> Vec<u8>;

const MAKERS: [Make; 3] = [tcp, udp, echo];

#[test]
fn good_frames_go_on_whomever_they_are_for() {
    for is_v4 in [true, false] {
        for make in MAKERS {
            for dst in [host(is_v4), other(is_v4), container(is_v4), group(is_v4)] {
                assert_eq!(judge(make(client(is_v4), dst)), Ok(()), "{dst}");
            }
        }
    }
    let arp = [&HOST_MAC[..], &OTHER_MAC, &[0x08, 0x06], &[0; 28]].concat();
    assert_eq!(judge(arp), Ok(()));
    assert_eq!(judge(Vec::new()), Ok(()));
}

#[test]
fn loopback_addresses_end_here() {
    for is_v4 in [true, false] {
        for make in MAKERS {
            let expected = Err(Reason::LoopbackAddress);
            assert_eq!(judge(make(loopback(is_v4), host(is_v4))), expected);
            assert_eq!(judge(make(client(is_v4), loopback(is_v4))), expected);
            assert_eq!(judge(make(loopback(is_v4), group(is_v4))), expected);
        }
    }
}

#[test]
fn a_containers_address_as_a_source_ends_here() {
    for is_v4 in [true, false] {
        for make in MAKERS {
            for dst in [host(is_v4), other(is_v4), container(is_v4)] {
                assert_eq!(judge(make(container(is_v4), dst)), Err(Reason::SpoofedSource), "{dst}");
            }
            // The classifier does not look at who sends to a group.
            assert_eq!(judge(make(container(is_v4), group(is_v4))), Ok(()));
        }
    }
}

#[test]
fn a_flow_older_than_the_network_is_left_to_the_classifier() {
    for is_v4 in [true, false] {
        let tables = Host { flow: Cell::new(Some((container(is_v4), 4000))) };
        let judge = |frame| from_wire(&Bytes(frame), &tables);
        assert_eq!(judge(tcp(container(is_v4), host(is_v4))), Ok(()));
        tables.flow.set(Some((container(is_v4), 4001)));
        assert_eq!(judge(tcp(container(is_v4), host(is_v4))), Err(Reason::SpoofedSource));
    }
}

/// Every length below the whole one breaks a length field.
#[test]
fn a_frame_cut_anywhere_is_malformed() {
    for is_v4 in [true, false] {
        for make in MAKERS {
            for dst in [host(is_v4), other(is_v4)] {
                let frame = make(client(is_v4), dst);
                for len in 14..frame.len() {
                    assert_eq!(judge(frame[..len].to_vec()), Err(Reason::Malformed), "{len}");
                }
            }
        }
    }
}

#[test]
fn a_broken_transport_header_is_judged_where_the_host_is_meant() {
    for is_v4 in [true, false] {
        let l4 = if is_v4 { 34 } else { 54 };
        let rows: [(Make, usize, &[u8]); 4] = [
            (udp, l4 + 4, &[0, 7]),
            (udp, l4 + 4, &[0, 16]),
            (tcp, l4 + 12, &[0x40]),
            (tcp, l4 + 12, &[0xf0]),
        ];
        for (make, at, bytes) in rows {
            let broken = |dst| {
                let mut frame = make(client(is_v4), dst);
                frame[at..at + bytes.len()].copy_from_slice(bytes);
                judge(frame)
            };
            assert_eq!(broken(host(is_v4)), Err(Reason::Malformed), "{at} {bytes:?}");
            for dst in [other(is_v4), container(is_v4), group(is_v4)] {
                assert_eq!(broken(dst), Ok(()), "{dst} {at} {bytes:?}");
            }
        }
    }
}

#[test]
fn fragments_and_other_protocols_go_on() {
    for is_v4 in [true, false] {
        // Too little for a header of SCTP.
        for (proto, judged) in [(ip_number::GRE, Ok(())), (ip_number::SCTP, Err(Reason::Malformed))]
        {
            let mut other = Vec::new();
            ip(client(is_v4), host(is_v4)).write(&mut other, proto, b"payload").unwrap();
            assert_eq!(judge(other), judged);
        }
    }
    let mut fragment = udp(client(true), host(true));
    // Its payload is not the beginning of anything.
    fragment[20..22].copy_from_slice(&[0, 1]);
    fragment[34..].fill(0xff);
    assert_eq!(judge(fragment), Ok(()));
    let mut fragment = udp(client(false), host(false));
    fragment[20] = proto::IPV6_FRAGMENT;
    assert_eq!(judge(fragment), Ok(()));
}

#[test]
fn what_is_sent_to_another_mac_address_goes_on_whatever_is_in_it() {
    for is_v4 in [true, false] {
        for mac in [OTHER_MAC, [0xff; 6], [1, 0, 0x5e, 0, 0, 1]] {
            for mut frame in [
                udp(container(is_v4), host(is_v4)),
                udp(loopback(is_v4), host(is_v4)),
                udp(client(is_v4), host(is_v4))[..40].to_vec(),
            ] {
                frame[..6].copy_from_slice(&mac);
                assert_eq!(judge(frame), Ok(()), "{mac:?}");
            }
        }
    }
}

#[test]
fn tagged_frames_go_on() {
    for tags in [&[0x81, 0, 0, 5][..], &[0x81, 0, 0, 0], &[0x88, 0xa8, 0, 5, 0x81, 0, 0, 6]] {
        let mut frame = udp(container(true), host(true));
        frame.splice(12..12, tags.iter().copied());
        assert_eq!(judge(frame), Ok(()), "{tags:?}");
    }
}

proptest! {
    #[test]
    fn no_bytes_are_too_strange(
        ethertype in prop_oneof![Just([0x08, 0x00]), Just([0x86, 0xdd]), any::<[u8; 2]>()],
        version in prop_oneof![Just(0x45), Just(0x60), any::<u8>()],
        rest in vec(any::<u8>(), 0..120),
    ) {
        let frame = [&HOST_MAC[..], &OTHER_MAC, &ethertype, &[version], &rest].concat();
        if let Err(reason) = judge(frame) {
            prop_assert!(
                [Reason::Malformed, Reason::LoopbackAddress, Reason::SpoofedSource].contains(&reason)
            );
        }
    }
}
