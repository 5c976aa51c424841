//! Every transition of TCP, packet by packet, and the other protocols' states.

use std::{string::String, vec::Vec};

use proptest::prelude::*;

use super::{
    FlowState::{
        Close, CloseWait, Established, FinWait, LastAck, SynRecv, SynSent, SynSent2, TimeWait,
        Unacknowledged,
    },
    *,
};
use crate::header::proto::{ICMP, SCTP, TCP, UDP};

const P: u8 = Seen::PACKET;
const SYN: u8 = P | Seen::SYN;
const SYN_ACK: u8 = SYN | Seen::ACK;
const ACK: u8 = P | Seen::ACK;
const FIN: u8 = ACK | Seen::FIN;
const RST: u8 = P | Seen::RST;
const RST_ACK: u8 = RST | Seen::ACK;

/// Both directions of a flow, as its two entries keep them: `[original, reply]`.
#[derive(Clone, Copy, Default)]
struct Halves {
    seen: [u8; 2],
    peer_seen: [u8; 2],
}

impl Halves {
    /// A packet of the original direction, or of the other one, as `flow::find` takes it.
    fn take(&mut self, is_reply: bool, packet: u8) {
        let (own, other) = (usize::from(is_reply), usize::from(!is_reply));
        self.seen[own] = Seen::after(self.seen[own], self.peer_seen[own], packet);
        self.peer_seen[other] |= self.seen[own] & Seen::FIN;
    }

    fn state(self, proto: u8) -> FlowState {
        FlowState::of(proto, self.seen[0], self.seen[1])
    }
}

/// Sends packets, `>` of the original direction and `<` of the other, each with the state after it.
#[track_caller]
fn check(packets: &[(char, u8, FlowState)]) {
    let mut halves = Halves::default();
    let mut sent = Vec::new();
    for &(direction, packet, expected) in packets {
        halves.take(direction == '<', packet);
        sent.push((direction, packet));
        assert_eq!(halves.state(TCP), expected, "{sent:02x?}");
    }
}

const OPEN: [(char, u8, FlowState); 3] =
    [('>', SYN, SynSent), ('<', SYN_ACK, SynRecv), ('>', ACK, Established)];

#[track_caller]
fn check_open(packets: &[(char, u8, FlowState)]) {
    check(&[&OPEN, packets].concat());
    // It is the same whoever began.
    let mirrored =
        |&(direction, packet, state)| (if direction == '>' { '<' } else { '>' }, packet, state);
    let mirrored: Vec<_> = packets.iter().map(mirrored).collect();
    check(&[&OPEN, &mirrored[..]].concat());
}

#[test]
fn a_connection_opens() {
    check(&OPEN);
    // Sent again, nothing changes.
    check(&[
        ('>', SYN, SynSent),
        ('>', SYN, SynSent),
        ('<', SYN_ACK, SynRecv),
        ('<', SYN_ACK, SynRecv),
    ]);
    check(&[OPEN[0], OPEN[1], ('>', SYN, SynRecv), OPEN[2], ('<', SYN_ACK, Established)]);
}

/// RFC 5382 REQ-2a, RFC 9293 section 3.5.
#[test]
fn both_sides_open_at_once() {
    check(&[
        ('>', SYN, SynSent),
        ('<', SYN, SynSent2),
        ('>', SYN_ACK, SynSent2),
        ('<', SYN_ACK, Established),
        ('>', ACK, Established),
    ]);
    check(&[
        ('>', SYN, SynSent),
        ('<', SYN, SynSent2),
        ('<', SYN_ACK, SynRecv),
        ('>', ACK, Established),
    ]);
}

#[test]
fn a_connection_closes_one_side_after_the_other() {
    check_open(&[
        ('>', FIN, FinWait),
        ('>', FIN, FinWait),
        ('<', ACK, CloseWait),
        // The other side goes on for as long as it likes.
        ('<', ACK, CloseWait),
        ('>', ACK, CloseWait),
        ('<', FIN, LastAck),
        ('<', FIN, LastAck),
        ('>', ACK, TimeWait),
        ('>', ACK, TimeWait),
    ]);
    // With the acknowledgement in the FIN.
    check_open(&[('>', FIN, FinWait), ('<', FIN, LastAck), ('>', ACK, TimeWait)]);
}

#[test]
fn both_sides_close_at_once() {
    check_open(&[
        ('>', FIN, FinWait),
        ('<', FIN, LastAck),
        ('>', ACK, TimeWait),
        ('<', ACK, TimeWait),
    ]);
}

/// Before both sides have acknowledged something a FIN is nobody's.
#[test]
fn a_fin_does_not_close_what_is_not_open() {
    check(&[('>', SYN, SynSent), ('>', FIN, SynSent), ('<', SYN_ACK, CloseWait)]);
    check(&[OPEN[0], OPEN[1], ('<', FIN, SynRecv), ('>', ACK, CloseWait)]);
}

/// RFC 7857 section 2.2 and Figure 1: a reset is translated, and a packet after it brings back the state.
#[test]
fn a_reset_holds_until_its_sender_goes_on() {
    for reset in [RST, RST_ACK] {
        check_open(&[
            ('>', reset, Close),
            // What was on its way does not count, nor do more resets.
            ('<', ACK, Close),
            ('>', reset, Close),
            ('>', SYN, Close),
            ('>', ACK, Established),
            ('<', ACK, Established),
        ]);
        check_open(&[
            ('>', reset, Close),
            ('<', reset, Close),
            ('>', ACK, Close),
            ('<', ACK, Established),
        ]);
        check_open(&[('>', FIN, FinWait), ('<', reset, Close), ('<', ACK, CloseWait)]);
        check(&[('>', SYN, SynSent), ('<', reset, Close)]);
        check(&[('>', SYN, SynSent), ('>', reset, Close)]);
    }
}

#[test]
fn a_connection_is_picked_up_in_the_middle() {
    check(&[('>', ACK, Unacknowledged), ('>', ACK, Unacknowledged), ('<', ACK, Established)]);
    check(&[
        ('>', ACK, Unacknowledged),
        ('<', FIN, FinWait),
        ('>', FIN, LastAck),
        ('<', ACK, TimeWait),
    ]);
    check(&[('>', ACK, Unacknowledged), ('<', RST, Close)]);
}

#[test]
fn what_is_neither_tcp_nor_sctp_is_assured_once_it_goes_on() {
    for proto in [UDP, ICMP, 47] {
        assert_eq!(FlowState::of(proto, P, 0), FlowState::Unreplied);
        assert_eq!(FlowState::of(proto, P | Seen::LATER, 0), FlowState::Unreplied);
        assert_eq!(FlowState::of(proto, P, P), FlowState::Replied);
        assert_eq!(FlowState::of(proto, P | Seen::LATER, P), FlowState::Assured);
        assert_eq!(FlowState::of(proto, P, P | Seen::LATER), FlowState::Assured);
    }
}

/// RFC 9260 section 4, in the states of `nf_conntrack_proto_sctp.c`.
#[test]
fn an_association_is_set_up_and_shut_down() {
    let [init, init_ack, echo, cookie_ack] = [1, 2, 10, 11];
    let [shutdown, shutdown_ack, complete, abort, heartbeat, data] = [7, 8, 14, 6, 4, 0];
    let check = |chunks: &[(char, u8, FlowState)]| {
        let mut halves = Halves::default();
        for &(direction, chunk, expected) in chunks {
            halves.take(direction == '<', Seen::of_chunk(chunk));
            assert_eq!(halves.state(SCTP), expected, "{chunk} of {chunks:?}");
        }
    };
    let set_up = [
        ('>', init, FlowState::CookieWait),
        ('<', init_ack, FlowState::CookieWait),
        ('>', echo, FlowState::CookieEchoed),
        ('<', cookie_ack, Established),
        ('>', data, Established),
    ];
    let shut_down = [
        ('>', shutdown, FlowState::ShutdownSent),
        ('<', shutdown_ack, FlowState::ShutdownAckSent),
        ('>', complete, FlowState::Closed),
    ];
    check(&[&set_up[..], &shut_down].concat());
    check(&[&set_up[..], &[('<', shutdown, FlowState::ShutdownRecd)]].concat());
    check(&[&set_up[..], &[('<', abort, FlowState::Closed)]].concat());
    check(&[('>', heartbeat, FlowState::HeartbeatSent), ('<', 5, Established)]);
}

#[test]
fn what_is_set_up_does_not_give_way() {
    let stays: Vec<_> = FlowState::ALL
        .iter()
        .filter(|state| !state.gives_way())
        .map(|state| state.name())
        .collect();
    let expected = [
        "ESTABLISHED",
        "FIN_WAIT",
        "CLOSE_WAIT",
        "ASSURED",
        "SHUTDOWN_SENT",
        "SHUTDOWN_RECD",
        "MAPPING",
    ];
    assert_eq!(stays, expected);
    assert!(FlowState::ALL.iter().all(|state| !state.is_closing() || state.gives_way()));
}

/// TCP as a machine that goes from state to state, written from the transitions that conntrack's table
/// allows between packets that real stacks send.
#[derive(Clone, Copy, Default)]
struct Machine {
    acked: [bool; 2],
    syn: [bool; 2],
    fin: [bool; 2],
    knows_of_fin: [bool; 2],
    reset: [bool; 2],
}

impl Machine {
    fn take(&mut self, is_reply: bool, packet: u8) {
        let (own, other) = (usize::from(is_reply), usize::from(!is_reply));
        let has = |flag: u8| packet & flag != 0;
        self.reset[own] = has(Seen::RST) || self.reset[own] && !has(Seen::ACK);
        self.knows_of_fin[own] |= has(Seen::ACK) && self.fin[other];
        self.acked[own] |= has(Seen::ACK);
        self.syn[own] |= has(Seen::SYN);
        self.fin[own] |= has(Seen::FIN);
    }

    fn state(self) -> &'static str {
        match (self.reset, self.acked, self.fin) {
            ([false, false], [true, true], [false, false]) => "ESTABLISHED",
            ([false, false], [true, true], [true, true]) => match self.knows_of_fin {
                [true, true] => "TIME_WAIT",
                _ => "LAST_ACK",
            },
            ([false, false], [true, true], _) => match self.knows_of_fin {
                [false, false] => "FIN_WAIT",
                _ => "CLOSE_WAIT",
            },
            ([false, false], acked, _) => match (self.syn, acked[1]) {
                ([_, true], false) => "SYN_SENT2",
                ([_, true], true) => "SYN_RECV",
                ([true, false], _) => "SYN_SENT",
                ([false, false], _) => "UNACKNOWLEDGED",
            },
            _ => "CLOSE",
        }
    }
}

proptest! {
    #[test]
    fn flags_and_machine_agree(packets in proptest::collection::vec((any::<bool>(), 0..32_u8), 0..24)) {
        let (mut halves, mut machine) = (Halves::default(), Machine::default());
        let mut sent = String::new();
        for (is_reply, packet) in packets {
            let packet = packet & Seen::TCP | P;
            halves.take(is_reply, packet);
            machine.take(is_reply, packet);
            sent += &std::format!("{is_reply} {packet:02x}, ");
            prop_assert_eq!(halves.state(TCP).name(), machine.state(), "{}", sent);
        }
    }
}
