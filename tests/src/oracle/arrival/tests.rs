use super::*;
use crate::oracle::{
    datagram::Datagram,
    message::{echo, error_about, tcp, udp},
};

const PAIRS: [(&str, &str); 2] =
    [("192.0.2.1:1000", "192.0.2.2:80"), ("[2001:db8::1]:1000", "[2001:db8::2]:80")];

fn packets() -> Vec<Datagram> {
    PAIRS
        .iter()
        .flat_map(|(src, dst)| {
            let (src, dst) = (src.parse().unwrap(), dst.parse().unwrap());
            [tcp(7, src, dst, 2, 0, 0), udp(7, src, dst), echo(7, src, dst.ip())]
        })
        .collect()
}

fn arrival(bytes: &[u8]) -> Arrival {
    Arrival { edge: Edge::Web, bytes: bytes.to_vec() }
}

#[test]
fn what_is_written_is_right_and_read_back() {
    for packet in packets() {
        let seen = arrival(&packet.bytes());
        assert_eq!(seen.faults(), [""; 0], "{seen}");
        assert_eq!(seen.number(), Some(7));
        assert_eq!(seen.source_port(), Some(1000));
        assert_eq!(seen.parts().addresses, (packet.src, packet.dst));
    }
}

#[test]
fn every_byte_that_changes_is_a_fault_or_a_difference() {
    for packet in packets() {
        let whole = packet.bytes();
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            let Some(changed) = Arrival::of_frame(
                Edge::Web,
                &[&[0; 12][..], if packet.src.is_ipv4() { &[8, 0] } else { &[0x86, 0xdd] }, &bytes]
                    .concat(),
            ) else {
                continue;
            };
            let is_same = changed.normalised(7, None) == arrival(&whole).normalised(7, None);
            // The traffic class and the upper bits of the flow label are not looked at.
            let is_ignored = packet.src.is_ipv6() && at < 2;
            assert!(is_ignored || !is_same || !changed.faults().is_empty(), "{at}: {changed}");
        }
    }
}

#[test]
fn an_allocated_port_is_all_that_is_made_equal() {
    for (src, dst) in PAIRS {
        let (src, dst) = (src.parse().unwrap(), dst.parse().unwrap());
        let other = |port| std::net::SocketAddr::new(std::net::SocketAddr::ip(&src), port);
        let [a, b, own] = [2000, 3000, 1000]
            .map(|port| arrival(&udp(7, other(port), dst).bytes()).normalised(7, Some(1000)));
        assert_eq!(a, b);
        assert_ne!(a, own);
    }
}

#[test]
fn an_error_belongs_to_the_case_that_it_quotes() {
    for packet in packets() {
        for quoted in [48, 200] {
            let seen = arrival(&packet.bytes());
            let error = error_about(&seen, 9, packet.dst, (3, 3), quoted);
            let error = arrival(&error.bytes());
            assert_eq!(error.number(), Some(7));
            assert_eq!(error.faults(), [""; 0], "{error}");
            let wrong = error.bytes.len() - 1;
            let mut bytes = error.bytes.clone();
            bytes[wrong] ^= 1;
            assert!(!faults(&bytes).is_empty());
        }
    }
}
