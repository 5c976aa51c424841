//! What a host that offers everything answers.

use std::net::{IpAddr, SocketAddr};

use super::{
    arrival::Arrival,
    datagram::{Datagram, SCTP, TCP, UDP},
    mark,
    message::{PSH, icmp, other, sctp, tcp, udp},
};
use crate::packet::{ACK, FIN, RST, SYN};

/// The answers to a packet; none to a reset, an answer of ICMP or a later piece.
pub fn answer(to: &Arrival, number: u16) -> Vec<Vec<u8>> {
    let (parts, body) = (to.parts(), to.body());
    let (src, dst) = parts.addresses;
    let word =
        |at: usize| body.get(at..at + 2).map_or(0, |word| u16::from_be_bytes([word[0], word[1]]));
    let (here, there) = (SocketAddr::new(dst, word(2)), SocketAddr::new(src, word(0)));
    let packet = match parts.proto {
        _ if parts.is_later || parts.is_piece => return Vec::new(),
        TCP => tcp_answer(to, number, here, there),
        UDP => Some(udp(number, here, there)),
        SCTP => Some(sctp(number, here, there)),
        1 | 58 => icmp_answer(number, (dst, src), (body[0], word(4))),
        proto => Some(other(number, dst, src, proto)),
    };
    packet.iter().map(Datagram::bytes).collect()
}

fn icmp_answer(number: u16, ends: (IpAddr, IpAddr), (kind, id): (u8, u16)) -> Option<Datagram> {
    match kind {
        8 => Some(icmp(number, ends, (0, 0), id)),
        13 => Some(icmp(number, ends, (14, 0), id)),
        128 => Some(icmp(number, ends, (129, 0), id)),
        _ => None,
    }
}

fn tcp_answer(to: &Arrival, number: u16, here: SocketAddr, there: SocketAddr) -> Option<Datagram> {
    let body = to.body();
    let long = |at: usize| {
        body.get(at..at + 4).map_or(0, |b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]))
    };
    let flags = *body.get(13)?;
    if flags & RST != 0 {
        return None;
    }
    let taken = body.len() as u32 - 20 + u32::from(flags & (SYN | FIN) != 0);
    let ack = long(4).wrapping_add(taken);
    let (own_flags, seq) = match flags & (SYN | ACK) {
        SYN => (SYN | ACK, mark::seq(number, 128)),
        _ => (ACK | PSH, long(8)),
    };
    Some(tcp(number, here, there, own_flags, seq, ack))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::{arrival::Edge, message::syn};

    #[test]
    fn a_connection_goes_on_by_answers() {
        let (src, dst) = ("192.0.2.2:1000".parse().unwrap(), "192.0.2.1:80".parse().unwrap());
        let arrival = |bytes| Arrival { edge: Edge::Web, bytes };
        let syn = arrival(syn(7, src, dst).bytes());
        let syn_ack = arrival(answer(&syn, 7).remove(0));
        assert_eq!(syn_ack.body()[13], SYN | ACK);
        let data = arrival(answer(&syn_ack, 7).remove(0));
        let ack = |of: &Arrival| of.body()[8..12].to_vec();
        assert_eq!(ack(&syn_ack), mark::seq(7, 1).to_be_bytes());
        assert_eq!(ack(&data), mark::seq(7, 129).to_be_bytes());
        assert_eq!(data.body()[13], ACK | PSH);
    }
}
