//! Datagrams as the kernel sends them as they are: with both headers. Pure.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

const UDP: u8 = 17;
const UDP_BYTES: usize = 8;
const IPV4_BYTES: usize = 20;
const IPV6_BYTES: usize = 40;

/// As usual for a packet of the host's own.
const TTL: u8 = 64;

/// A datagram from one to another of the same family; none where they are not, or it is too long.
pub(super) fn datagram(from: SocketAddr, to: SocketAddr, payload: &[u8]) -> Option<Vec<u8>> {
    match (from, to) {
        (SocketAddr::V4(from), SocketAddr::V4(to)) => ipv4(from, to, payload),
        (SocketAddr::V6(from), SocketAddr::V6(to)) => ipv6(from, to, payload),
        _ => None,
    }
}

/// RFC 791 section 3.1. The kernel fills in the checksum, and the identification where it is zero (raw(7)).
fn ipv4(from: SocketAddrV4, to: SocketAddrV4, payload: &[u8]) -> Option<Vec<u8>> {
    let len = u16::try_from(IPV4_BYTES + UDP_BYTES + payload.len()).ok()?;
    let mut packet = vec![0x45, 0];
    packet.extend(len.to_be_bytes());
    packet.extend([0, 0, 0, 0, TTL, UDP, 0, 0]);
    packet.extend(from.ip().octets());
    packet.extend(to.ip().octets());
    let pseudo = [from.ip(), to.ip()].map(Ipv4Addr::octets).concat();
    udp(&mut packet, &pseudo, (from.port(), to.port()), payload)?;
    Some(packet)
}

/// RFC 8200 section 3.
fn ipv6(from: SocketAddrV6, to: SocketAddrV6, payload: &[u8]) -> Option<Vec<u8>> {
    let len = u16::try_from(UDP_BYTES + payload.len()).ok()?;
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend(len.to_be_bytes());
    packet.extend([UDP, TTL]);
    packet.extend(from.ip().octets());
    packet.extend(to.ip().octets());
    let pseudo = [from.ip(), to.ip()].map(Ipv6Addr::octets).concat();
    udp(&mut packet, &pseudo, (from.port(), to.port()), payload)?;
    debug_assert_eq!(packet.len(), IPV6_BYTES + usize::from(len));
    Some(packet)
}

/// RFC 768; the checksum over the pseudo header of RFC 8200 section 8.1, whose sum is RFC 768's for IPv4.
fn udp(
    packet: &mut Vec<u8>,
    addresses: &[u8],
    (from, to): (u16, u16),
    payload: &[u8],
) -> Option<()> {
    let len = u16::try_from(UDP_BYTES + payload.len()).ok()?;
    let head = [from.to_be_bytes(), to.to_be_bytes(), len.to_be_bytes()].concat();
    let sum = [addresses, &head, payload].into_iter().map(sum).sum::<u64>();
    let sum = sum + u64::from(UDP) + u64::from(len);
    let folded = (0..4).fold(sum, |sum, _| (sum & 0xffff) + (sum >> 16));
    let checksum = match !(folded as u16) {
        // Zero says that there is none.
        0 => 0xffff,
        checksum => checksum,
    };
    packet.extend(head);
    packet.extend(checksum.to_be_bytes());
    packet.extend(payload);
    Some(())
}

fn sum(bytes: &[u8]) -> u64 {
    let words = bytes.chunks(2);
    words
        .map(|word| u64::from(u16::from_be_bytes([word[0], word.get(1).copied().unwrap_or(0)])))
        .sum()
}

#[cfg(test)]
mod tests {
    use super::{datagram, sum};

    #[track_caller]
    fn check(from: &str, to: &str, payload: &[u8], header: usize) {
        let packet = datagram(from.parse().unwrap(), to.parse().unwrap(), payload).unwrap();
        assert_eq!(packet.len(), header + 8 + payload.len());
        assert_eq!(&packet[header + 8..], payload);
        // A receiver's sum over what is covered is all ones (RFC 1071).
        let addresses = if header == 20 { &packet[12..20] } else { &packet[8..40] };
        let mut covered = sum(addresses) + sum(&packet[header..]);
        covered += 17 + (8 + payload.len()) as u64;
        while covered > 0xffff {
            covered = (covered & 0xffff) + (covered >> 16);
        }
        assert_eq!(covered, 0xffff, "{from} {to}");
    }

    #[test]
    fn datagrams_have_right_checksums() {
        for payload in [&b""[..], b"a", b"hello", &[0xff; 1000]] {
            check("127.0.0.1:5000", "127.0.0.1:40000", payload, 20);
            check("[::1]:5000", "[::1]:40000", payload, 40);
        }
        assert_eq!(datagram("127.0.0.1:1".parse().unwrap(), "[::1]:1".parse().unwrap(), b""), None);
        let long = vec![0; 65_530];
        assert_eq!(
            datagram("127.0.0.1:1".parse().unwrap(), "127.0.0.2:1".parse().unwrap(), &long),
            None
        );
    }
}
