//! What an ICMP error quotes: read as far as it goes, and translated with every checksum (RFC 5508 REQ-3).

use netd_common::reason::Reason;

use crate::{
    checksums,
    family::{Family, in_both_families},
    icmp_error::{IcmpError, ROUTER, becomes, ip_header_len, masqueraded, published},
    message::{Kind, SYN},
    packet::HostPacket,
    place::{FROM_UPLINK, TO_UPLINK, from_endpoint},
    runs::plain,
    scene::{DNS, Datapath, NET_A, Scene},
};

in_both_families! {
    headers_before_the_quoted_transport_header_are_skipped,
    what_follows_the_quote_is_left_alone,
    a_wrong_checksum_stays_wrong,
}

/// Inserts bytes into a quote behind the IP header, and says so in it.
fn with_headers<A: Family>(error: &IcmpError<A>, headers: &[u8], first: u8) -> IcmpError<A> {
    let mut quote = error.quote.clone();
    if A::ICMP == 1 {
        quote[0] += headers.len() as u8 / 4;
        quote[10..12].fill(0);
        quote.splice(20..20, headers.iter().copied());
        let header_len = usize::from(quote[0] & 0xf) * 4;
        let sum: u32 = quote[..header_len]
            .chunks(2)
            .map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])))
            .sum();
        let folded = (sum & 0xffff) + (sum >> 16);
        let checksum = !((folded & 0xffff) + (folded >> 16)) as u16;
        quote[10..12].copy_from_slice(&checksum.to_be_bytes());
    } else {
        quote[6] = first;
        quote.splice(40..40, headers.iter().copied());
    }
    IcmpError { quote, ..error.clone() }
}

fn headers_before_the_quoted_transport_header_are_skipped<A: Family>() {
    let scene = Scene::new();
    let (call, outside) = masqueraded::<A>(&scene, Kind::Udp);
    let error = IcmpError::about(&outside, A::outside(ROUTER));
    let expected = error.translated(error.src, &call);
    let udp = 17;
    let rows: Vec<(Vec<u8>, u8)> = if A::ICMP == 1 {
        vec![(vec![1, 1, 1, 0], 0), ([&[7, 39, 4][..], &[0; 37]].concat(), 0)]
    } else {
        let options =
            |next, len: u8| [&[next, len][..], &vec![0; usize::from(len) * 8 + 6]].concat();
        vec![
            (options(udp, 0), 0),
            (options(udp, 3), 60),
            ([options(43, 1), options(60, 0), options(udp, 2)].concat(), 0),
            // The first fragment.
            (vec![udp, 0, 0, 1, 1, 2, 3, 4], 44),
        ]
    };
    for (headers, first) in rows {
        let (error, expected) =
            (with_headers(&error, &headers, first), with_headers(&expected, &headers, first));
        becomes(&scene, FROM_UPLINK, &error, Reason::IcmpErrorOfFlow, &expected);
    }
    // Another fragment has no ports.
    let mut other = error.clone();
    if A::ICMP == 1 {
        other.quote[7] = 1;
    } else {
        other = with_headers(&error, &[udp, 0, 0, 9, 1, 2, 3, 4], 44);
    }
    becomes(&scene, FROM_UPLINK, &other, Reason::IcmpErrorToHost, &other);
}

/// RFC 4884: a length, zeros up to 128 bytes, and an extension.
fn what_follows_the_quote_is_left_alone<A: Family>() {
    let scene = Scene::new();
    let (call, outside) = masqueraded::<A>(&scene, Kind::Tcp(SYN));
    let error = IcmpError::about(&outside, A::outside(ROUTER)).cut(8);
    let unit = if A::ICMP == 1 { 4 } else { 8 };
    let with_extension = |error: &IcmpError<A>, quoted_len: usize| {
        let mut rest = [0; 4];
        rest[if A::ICMP == 1 { 1 } else { 0 }] = (quoted_len / unit) as u8;
        let padding = vec![0; 128 - error.quote.len()];
        let extension = [0x20, 0, 0, 0, 0, 8, 1, 1, 0, 0, 0x11, 1];
        let quote = [&error.quote[..], &padding, &extension].concat();
        IcmpError { quote, rest, ..error.clone() }
    };
    // By a length that ends before TCP's checksum, that is none.
    let quoted_len = ip_header_len::<A>() + 8;
    let error_with = with_extension(&error, quoted_len);
    let expected = with_extension(&error.translated(error.src, &call), quoted_len);
    becomes(&scene, FROM_UPLINK, &error_with, Reason::IcmpErrorOfFlow, &expected);
}

/// RFC 5508 REQ-3a and REQ-3c.
fn a_wrong_checksum_stays_wrong<A: Family>() {
    let scene = Scene::new();
    let (call, outside) = masqueraded::<A>(&scene, Kind::Tcp(SYN));
    let error = IcmpError::about(&outside, A::outside(ROUTER));
    let mut wrong = error.clone();
    let checksum = ip_header_len::<A>() + 16;
    wrong.quote[checksum] ^= 0x40;
    let packet = scene_frame(&scene, &wrong);
    assert!(checksums::of_ip_header(&packet.frame) && checksums::of_transport(&packet.frame));
    let right = scene_frame(&scene, &error);
    let at = 14 + ip_header_len::<A>() + 8 + checksum;
    assert_ne!(packet.frame[at..at + 2], right.frame[at..at + 2]);
    assert_eq!(call.src.0, A::inside(NET_A, 3));
    if A::ICMP == 1 {
        let mut broken = error;
        broken.quote[8] ^= 1;
        scene.judges(&[("REQ-3a", FROM_UPLINK, broken.frame(), Reason::BrokenQuote)]);
    }
    // A wrong checksum around it is for the receiver to find.
    let mut frame = wrong.frame();
    frame[14 + ip_header_len::<A>() + 2] ^= 0x40;
    let mut packet = FROM_UPLINK.packet(frame);
    assert_eq!(scene.judge(FROM_UPLINK.hook, &mut packet), Reason::IcmpErrorOfFlow);
    assert!(!checksums::of_transport(&packet.frame));
}

#[track_caller]
fn scene_frame<A: Family>(scene: &Scene, error: &IcmpError<A>) -> HostPacket {
    let mut packet = FROM_UPLINK.packet(error.frame());
    assert_eq!(scene.judge(FROM_UPLINK.hook, &mut packet), Reason::IcmpErrorOfFlow);
    packet
}

mod arbitrary {
    //! Whatever is quoted: the error keeps its length and comes to an end, and if it is translated, checksums
    //! are right afterwards exactly if they were before.

    use netd_common::address::{V4, V6};
    use proptest::prelude::*;

    use super::*;

    fn holds<A: Family>(
        datapath: Datapath,
        kind: u8,
        rest: [u8; 4],
        changes: &[(prop::sample::Index, u8)],
        len: usize,
    ) {
        let scene = Scene::on(datapath);
        let (_, outside) = masqueraded::<A>(&scene, Kind::Tcp(SYN));
        let (_, inside) = published::<A>(&scene, Kind::Udp, DNS);
        for (at, message) in
            [(FROM_UPLINK, &outside), (from_endpoint(NET_A, 2), &inside), (TO_UPLINK, &inside)]
        {
            let src = if at.hook == FROM_UPLINK.hook { A::outside(ROUTER) } else { inside.dst.0 };
            let mut error = IcmpError { kind, rest, ..IcmpError::about(message, src) };
            for (index, value) in changes {
                let at = index.index(error.quote.len());
                error.quote[at] = *value;
            }
            error.quote.truncate(len);
            let mut packet = at.packet(error.frame());
            let reason = scene.judge(at.hook, &mut packet);
            assert!(checksums::of_ip_header(&packet.frame), "{reason:?}");
            assert!(checksums::of_transport(&packet.frame), "{reason:?}");
            if A::ICMP == 1 && plain(reason) == Reason::IcmpErrorOfFlow {
                let quote = [&[0; 14], &packet.frame[42..]].concat();
                assert!(checksums::of_ip_header(&quote));
            }
        }
    }

    fn any_kind() -> impl Strategy<Value = u8> {
        prop_oneof![1..=5_u8, 11..=12_u8]
    }

    proptest! {
        #[test]
        fn any_quote_meets_a_reason_v4(
            fast: bool, kind in any_kind(), rest: [u8; 4], len in 0..80_usize,
            changes in proptest::collection::vec(any::<(prop::sample::Index, u8)>(), 0..3),
        ) {
            let datapath = if fast { Datapath::Fast } else { Datapath::Stack };
            holds::<V4>(datapath, kind, rest, &changes, len);
        }

        #[test]
        fn any_quote_meets_a_reason_v6(
            fast: bool, kind in 1..=4_u8, rest: [u8; 4], len in 0..100_usize,
            changes in proptest::collection::vec(any::<(prop::sample::Index, u8)>(), 0..3),
        ) {
            let datapath = if fast { Datapath::Fast } else { Datapath::Stack };
            holds::<V6>(datapath, kind, rest, &changes, len);
        }
    }
}
