//! Frames that nobody meant: each meets one reason, and one that is not translated leaves as it came.

use anyhow::{Result, ensure};
use netd_common::{names, reason::Reason};
use netd_tests::{
    family::Family,
    packet::{ACK, Kind, Packet, SYN},
};

use crate::{
    expect::translates,
    host::{
        At, DNS, FROM_UPLINK, Host, NET_A, TO_UPLINK, UPLINK, WEB, end, from_endpoint, inside,
        on_a_host, port, to_endpoint,
    },
};

const PLACES: [At; 5] = [
    FROM_UPLINK,
    TO_UPLINK,
    from_endpoint(NET_A, 2),
    to_endpoint(NET_A, 2, UPLINK),
    to_endpoint(NET_A, 2, port(NET_A, 3)),
];

/// What each hook translates or lets pass, in each protocol.
fn packets(family: Family) -> Vec<Packet> {
    let (client, own) = (end(family.client(), 40_000), end(inside(family, NET_A, 2), 5000));
    let mut packets = vec![
        Packet::new(Kind::Tcp(SYN), client, end(family.host(), WEB)),
        Packet::new(Kind::Udp, client, end(family.host(), DNS)),
        Packet::new(Kind::Tcp(ACK), own, end(family.remote(), 443)),
        Packet::new(Kind::Udp, own, end(family.remote(), 53)),
        Packet::new(Kind::EchoRequest, own, end(family.remote(), 0)),
    ];
    let back = packets[2..].iter().map(|packet| packet.from(end(family.host(), 5000)).reply());
    packets.extend(back.collect::<Vec<_>>());
    packets
}

/// Begins the packets' flows.
fn begin_flows(host: &mut Host, family: Family) -> Result<()> {
    for packet in packets(family) {
        host.meets(FROM_UPLINK, &packet.frame())?;
        host.meets(TO_UPLINK, &packet.frame())?;
    }
    host.look_again()?;
    ensure!(host.halves().len() == 10, "{:#?}", host.halves());
    Ok(())
}

#[test]
fn a_packet_cut_anywhere_is_dropped() -> Result<()> {
    on_a_host(|host, family| {
        begin_flows(host, family)?;
        for packet in packets(family) {
            let frame = packet.frame();
            // The kernel refuses to try a program on less than an IP header; see `devices`.
            for (len, at) in
                (packet.transport_offset()..frame.len()).flat_map(|len| PLACES.map(|at| (len, at)))
            {
                // Of what is no container's nothing more is read where it leaves.
                let is_others =
                    at.program == names::TO_UPLINK && packet.src.ip() != inside(family, NET_A, 2);
                let reason = if is_others { Reason::NotOurs } else { Reason::Malformed };
                host.judges(&[("cut", at, frame[..len].to_vec(), reason)])?;
            }
        }
        Ok(())
    })
}

#[test]
fn any_byte_may_be_wrong() -> Result<()> {
    on_a_host(|host, family| {
        begin_flows(host, family)?;
        for packet in packets(family) {
            let frame = packet.frame();
            for (offset, wrong) in (12..frame.len()).flat_map(|at| [(at, 0), (at, 0xff)]) {
                let mut frame = frame.clone();
                frame[offset] = wrong;
                for at in PLACES {
                    host.meets(at, &frame)?;
                }
            }
        }
        Ok(())
    })
}

#[test]
fn lengths_that_lie_are_malformed() -> Result<()> {
    on_a_host(|host, family| {
        let client = end(family.client(), 1);
        let tcp = Packet::new(Kind::Tcp(SYN), client, end(family.host(), WEB));
        let udp = Packet::new(Kind::Udp, client, end(family.host(), DNS));
        let l4 = tcp.transport_offset();
        let mut rows = vec![
            ("udp length below its header", &udp, l4 + 4, vec![0, 7]),
            ("udp length beyond the packet", &udp, l4 + 4, vec![0, 16]),
            ("tcp header length below the least", &tcp, l4 + 12, vec![0x40]),
            ("tcp header length beyond the packet", &tcp, l4 + 12, vec![0xf0]),
            ("another version", &tcp, 14, vec![0x55]),
        ];
        rows.extend(match family {
            Family::V4 => [
                ("header length below the least", &tcp, 14, vec![0x44]),
                ("header length beyond the packet", &tcp, 14, vec![0x4f]),
                ("total length below the header", &tcp, 16, vec![0, 19]),
                ("total length beyond the packet", &tcp, 16, vec![0, 48]),
            ],
            Family::V6 => [
                ("payload length beyond the packet", &tcp, 18, vec![0, 28]),
                ("payload length inside the header", &tcp, 18, vec![0, 19]),
                ("payload length of zero", &tcp, 18, vec![0, 0]),
                ("payload length of all ones", &tcp, 18, vec![0xff, 0xff]),
            ],
        });
        for (row, packet, offset, bytes) in rows {
            let mut frame = packet.frame();
            frame[offset..offset + bytes.len()].copy_from_slice(&bytes);
            host.judges(&[(row, FROM_UPLINK, frame, Reason::Malformed)])?;
        }
        Ok(())
    })
}

#[test]
fn all_ones_and_all_zeros_are_never_translated() -> Result<()> {
    on_a_host(|host, _| {
        for (byte, len) in
            [0, 0xff].into_iter().flat_map(|byte| (54..120).map(move |len| (byte, len)))
        {
            for ethertype in [[0x08, 0x00], [0x86, 0xdd], [byte, byte]] {
                let mut frame = vec![byte; len];
                frame[12..14].copy_from_slice(&ethertype);
                for at in PLACES {
                    let (reason, _) = host.meets(at, &frame)?;
                    ensure!(!translates(reason), "{reason:?}");
                }
            }
        }
        Ok(())
    })
}

/// Linux tracks port 0 as any other; netd gives the flow a port that replies can be told by.
#[test]
fn port_zero_is_translated_to_another() -> Result<()> {
    on_a_host(|host, family| {
        // Identifiers have no classes.
        for (kind, least) in [(Kind::Udp, 1024), (Kind::EchoRequest, 1)] {
            let own = end(inside(family, NET_A, 2), 0);
            let packet = Packet::new(kind, own, end(family.remote(), 0));
            let (reason, after) = host.meets(TO_UPLINK, &packet.frame())?;
            let outside = packet.from(end(family.host(), 0)).with_source_port_of(&after);
            ensure!(reason == Reason::Masqueraded && after == outside.frame(), "{after:02x?}");
            ensure!(outside.src.port() >= least, "{outside:?}");
            host.look_again()?;
            let answer = outside.reply();
            host.becomes(FROM_UPLINK, &answer, Reason::MasqueradeReply, &answer.to(own))?;
        }
        Ok(())
    })
}

#[test]
fn headers_with_options_are_translated() -> Result<()> {
    on_a_host(|host, family| {
        if family == Family::V6 {
            return Ok(());
        }
        let packet = Packet::new(Kind::Udp, end(family.client(), 40_000), end(family.host(), DNS));
        // Router alert (RFC 2113), which leaves the transport checksum alone.
        let with_option = |packet: &Packet| {
            let mut frame = packet.frame();
            frame.splice(34..34, [0x94, 4, 0, 0]);
            frame[14] = 0x46;
            frame[17] += 4;
            frame[24..26].fill(0);
            let checksum = netd_tests::packet::checksum(&[&frame[14..38]]);
            frame[24..26].copy_from_slice(&checksum.to_be_bytes());
            frame
        };
        let entering = packet.to(end(inside(family, NET_A, 2), 53));
        let (reason, after) = host.meets(FROM_UPLINK, &with_option(&packet))?;
        ensure!(reason == Reason::Published, "{reason:?}");
        ensure!(after == with_option(&entering), "{after:02x?}");
        Ok(())
    })
}

/// The host would send its errors along it, to a container of any network.
#[test]
fn a_source_route_is_refused() -> Result<()> {
    on_a_host(|host, family| {
        let own = end(inside(family, NET_A, 2), 5000);
        let mut frame = Packet::new(Kind::Udp, own, end(family.remote(), 53)).frame();
        if family == Family::V6 {
            // RFC 5095 has done away with them.
            return Ok(());
        }
        frame.splice(34..34, [131, 7, 4, 198, 51, 100, 7, 0]);
        frame[14] = 0x47;
        frame[17] += 8;
        host.judges(&[("loose", from_endpoint(NET_A, 2), frame, Reason::SourceRoute)])
    })
}
