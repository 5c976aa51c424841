//! What holds for every packet that is translated, whatever is in it (dataplane.md D.6, 2, 3 and 8).

use netd_common::reason::Reason;
use proptest::prelude::*;

use crate::{
    checksums,
    family::{Family, in_both_datapaths},
    message::{ACK, Kind, Message, PSH, SYN},
    place::{At, FROM_UPLINK, Hook, INWARDS, OUTWARDS, TO_UPLINK, from_endpoint},
    runs::translates,
    scene::{DNS, Datapath, NET_A, Scene, WEB},
};

in_both_datapaths! {
    a_reply_to_what_was_translated_is_a_reply_to_what_was_sent,
    checksums_are_right_afterwards_exactly_if_they_were_before,
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![
        Just(Kind::Tcp(SYN)),
        Just(Kind::Tcp(ACK)),
        Just(Kind::Tcp(PSH | ACK)),
        Just(Kind::Udp),
        Just(Kind::UdpWithoutChecksum),
        Just(Kind::EchoRequest),
    ]
}

fn payload() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 0..64)
}

/// A container's message to anywhere, or anyone's to a published port.
fn message<A: Family>(
    kind: Kind,
    is_published: bool,
    far: ([u8; 16], u16),
    port: u16,
    payload: Vec<u8>,
) -> (At, Message<A>) {
    let far = (A::from_bytes(far.0), far.1);
    let message = if is_published && kind != Kind::EchoRequest {
        let port = if matches!(kind, Kind::Tcp(_)) { WEB } else { DNS };
        (INWARDS, Message::new(kind, far, (A::host(1), port)))
    } else {
        let far = if kind == Kind::EchoRequest { (far.0, 0) } else { far };
        (OUTWARDS, Message::new(kind, (A::inside(NET_A, 2), port), far))
    };
    (message.0, Message { payload, ..message.1 })
}

fn a_reply_to_what_was_translated_is_a_reply_to_what_was_sent<A: Family>(datapath: Datapath) {
    proptest!(|(kind in kind(), is_published: bool, far: ([u8; 16], u16), port: u16, payload in payload())| {
        let scene = Scene::on(datapath);
        let (at, message) = message::<A>(kind, is_published, far, port, payload);
        // Nobody has such an address to be answered at.
        prop_assume!(!message.src.0.is_multicast());
        let (reason, after) = scene.run(at, &message);
        prop_assume!(translates(reason));
        // The message again: the second packet of a flow is translated as the first.
        prop_assert_eq!(scene.run(at, &message), (reason, after.clone()));
        prop_assert_eq!(&after.payload, &message.payload);
        let (back, expected) = if at.hook == Hook::Inwards {
            (OUTWARDS, Reason::PublishedReply)
        } else {
            (INWARDS, Reason::MasqueradeReply)
        };
        let reply = Message { payload: message.payload.clone(), ..after.reply() };
        let wanted = Message { payload: message.payload.clone(), ..message.reply() };
        // Byte for byte: `Scene::run` and `Message::frame` make it so.
        prop_assert_eq!(scene.run(back, &reply), (expected, wanted));
    });
}

fn checksums_are_right_afterwards_exactly_if_they_were_before<A: Family>(datapath: Datapath) {
    proptest!(|(
        kind in kind(), is_published: bool, far: ([u8; 16], u16), port: u16, payload in payload(),
        broken: Option<(prop::sample::Index, u8)>,
    )| {
        let scene = Scene::on(datapath);
        let (at, message) = message::<A>(kind, is_published, far, port, payload);
        let mut frame = message.frame();
        let len = frame.len();
        if let Some((offset, value)) = broken {
            frame[14 + offset.index(len - 14)] = value;
        }
        let at = match (at.hook, datapath) {
            (Hook::Inwards, _) => FROM_UPLINK,
            (_, Datapath::Stack) => TO_UPLINK,
            (_, Datapath::Fast) => from_endpoint(NET_A, 2),
        };
        let mut packet = at.packet(frame.clone());
        let reason = scene.judge(at.hook, &mut packet);
        prop_assume!(translates(reason));
        let (before, after) = (&frame[..], &packet.frame[..]);
        prop_assert_eq!(checksums::of_ip_header(before), checksums::of_ip_header(after));
        prop_assert_eq!(checksums::of_transport(before), checksums::of_transport(after));
        // From the first byte that is no port and no checksum on, nothing has changed.
        let payload_offset = len - message.payload.len();
        prop_assert_eq!(&before[payload_offset..], &after[payload_offset..]);
        if broken.is_none() {
            prop_assert!(checksums::of_ip_header(after) && checksums::of_transport(after));
        }
    });
}
