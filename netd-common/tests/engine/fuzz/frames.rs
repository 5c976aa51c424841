//! Frames: whole ones with a wrong byte here or there, every shape that IP allows, and nonsense.

use super::input::Input;
use crate::{
    family::Family,
    message::{ACK, End, FIN, Kind, Message, RST, SYN},
    scene::{DNS, NETWORKS, RANGE, WEB, WEB_TOO},
};

const ETHERNET: usize = 14;
const IPV6_FRAGMENT: u8 = 44;
/// Hop-by-hop, routing, authentication and destination options.
const IPV6_EXTENSIONS: [u8; 4] = [0, 43, 51, 60];

const KINDS: [Kind; 16] = [
    Kind::Udp,
    Kind::Tcp(SYN),
    Kind::Tcp(ACK),
    Kind::Tcp(SYN | ACK),
    Kind::Tcp(FIN | ACK),
    Kind::Tcp(RST),
    Kind::UdpWithoutChecksum,
    Kind::EchoRequest,
    Kind::EchoReply,
    Kind::Icmp(3),
    Kind::Icmp(135),
    // INIT, DATA and SHUTDOWN.
    Kind::Sctp(1),
    Kind::Sctp(0),
    Kind::Sctp(7),
    // Nonsense in SCTP's place, and GRE.
    Kind::Other(132),
    Kind::Other(47),
];

/// Anything at all, most likely of an ethertype that is looked at.
pub(super) fn raw(input: &mut Input<'_>) -> Vec<u8> {
    let ethertype = match input.below(8) {
        0..4 => [0x08, 0x00],
        4..7 => [0x86, 0xdd],
        _ => [input.byte(), input.byte()],
    };
    let len = usize::from(input.byte());
    let mut frame = [&[0; 12][..], &ethertype, input.bytes(len)].concat();
    if input.one_in(32) {
        frame.truncate(input.below(ETHERNET));
    }
    frame
}

/// A message between any two ends.
pub(super) fn message<A: Family>(input: &mut Input<'_>) -> Message<A> {
    let kind = input.pick(&KINDS);
    let (src, dst) = (end::<A>(input), end::<A>(input));
    let len = input.below(40);
    let mut message = Message::new(kind, src, dst);
    message.payload = input.bytes(len).to_vec();
    message
}

fn end<A: Family>(input: &mut Input<'_>) -> End<A> {
    let addr = match input.below(16) {
        0..4 => A::outside(input.pick(&[7, 9, 200])),
        4..8 => A::host(input.pick(&[1, 2, 9])),
        8..14 => A::inside(input.pick(&NETWORKS), input.pick(&[2, 3, 1, 99])),
        14 => input.pick(&[A::LOOPBACK, A::LINK_LOCAL, A::MULTICAST, A::UNSPECIFIED]),
        _ => A::from_bytes(std::array::from_fn(|_| input.byte())),
    };
    let ports = [WEB, DNS, RANGE + 3, WEB_TOO, 80, 53, 5000, 40_000, 0];
    (addr, if input.one_in(8) { input.number() } else { input.pick(&ports) })
}

/// The message's frame in any shape that its IP header may give it.
pub(super) fn shaped<A: Family>(input: &mut Input<'_>, message: &Message<A>) -> Vec<u8> {
    let is_v4 = A::ICMP == 1;
    let mut frame = if matches!(message.kind, Kind::Tcp(_)) && input.one_in(8) {
        let mss = input.number().to_be_bytes();
        message.with_tcp_options(&[2, 4, mss[0], mss[1]])
    } else {
        message.frame_with(input.pick(&[64, 2, 1, 0]))
    };
    for _ in 0..input.below(4) {
        match (input.below(4), is_v4) {
            (0, true) => set_fragment(&mut frame, input.number()),
            (1, true) => add_option(&mut frame, input),
            (0, false) => {
                let word = input.number().to_be_bytes();
                let id = input.below(3) as u8;
                add_extension(&mut frame, IPV6_FRAGMENT, &[word[0], word[1], 0, 0, 0, id]);
            }
            (1, false) => {
                let kind = input.pick(&IPV6_EXTENSIONS);
                add_extension(&mut frame, kind, &[1, 4, 0, 0, 0, 0]);
            }
            _ => change(&mut frame, input),
        }
    }
    frame
}

/// An ICMP error about a frame, as a router or the receiver would send it.
pub(super) fn error_about<A: Family>(input: &mut Input<'_>, frame: &[u8]) -> Option<Vec<u8>> {
    let kinds: &[u8] = if A::ICMP == 1 { &[3, 11, 12, 4, 5] } else { &[1, 2, 3, 4] };
    let (kind, from) = (input.pick(kinds), end::<A>(input));
    let quoted = frame.get(ETHERNET..)?;
    let source = quoted.get(A::SOURCE_OFFSET as usize..)?.get(..A::BITS as usize / 8)?;
    let mut bytes = [0; 16];
    bytes[..source.len()].copy_from_slice(source);
    let mut message = Message::new(Kind::Icmp(kind), from, (A::from_bytes(bytes), 0));
    let len = if input.one_in(4) { input.below(64) } else { quoted.len() };
    message.payload = quoted[..len.min(quoted.len())].to_vec();
    Some(message.frame())
}

fn set_fragment(frame: &mut [u8], word: u16) {
    if let Some(field) = frame.get_mut(20..22) {
        field.copy_from_slice(&word.to_be_bytes());
        sum_ipv4_header(frame);
    }
}

fn add_option(frame: &mut Vec<u8>, input: &mut Input<'_>) {
    // Nothing, router alert, record route, loose source route.
    let option = input.pick(&[[1, 1, 1, 0], [148, 4, 0, 0], [7, 3, 4, 0], [131, 3, 4, 0]]);
    if frame.len() < 34 || frame[14] & 0xf == 0xf {
        return;
    }
    frame.splice(34..34, option);
    frame[14] += 1;
    let len = u16::from_be_bytes([frame[16], frame[17]]).wrapping_add(4);
    frame[16..18].copy_from_slice(&len.to_be_bytes());
    sum_ipv4_header(frame);
}

/// Puts an extension header of eight bytes right behind the IPv6 header.
fn add_extension(frame: &mut Vec<u8>, kind: u8, body: &[u8; 6]) {
    if frame.len() < 54 {
        return;
    }
    let next = std::mem::replace(&mut frame[20], kind);
    frame.splice(54..54, [&[next, 0][..], body].concat());
    let len = u16::from_be_bytes([frame[18], frame[19]]).wrapping_add(8);
    frame[18..20].copy_from_slice(&len.to_be_bytes());
}

/// Makes a byte wrong, or the frame too short or too long.
fn change(frame: &mut Vec<u8>, input: &mut Input<'_>) {
    match input.below(4) {
        0 | 1 if frame.len() > ETHERNET => {
            let offset = ETHERNET + input.below((frame.len() - ETHERNET).min(256));
            frame[offset] = input.byte();
        }
        2 => frame.truncate(frame.len() - input.below(frame.len().clamp(1, 256))),
        _ => frame.extend_from_slice(input.bytes(8)),
    }
}

fn sum_ipv4_header(frame: &mut [u8]) {
    let end = 14 + usize::from(frame[14] & 0xf) * 4;
    if end < 34 || frame.len() < end {
        return;
    }
    frame[24..26].fill(0);
    let words =
        frame[14..end].chunks(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])));
    let sum: u32 = words.sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = !(((sum & 0xffff) + (sum >> 16)) as u16);
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
}
