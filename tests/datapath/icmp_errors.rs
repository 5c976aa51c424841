//! ICMP errors about flows, as the kernel's packets carry them: beyond what is read of others' headers.

use std::net::IpAddr;

use anyhow::Result;
use netd_common::reason::Reason;
use netd_tests::{
    family::Family,
    packet::{Kind, Packet, SYN},
};

use crate::{
    expect::flow,
    host::{
        DNS, FROM_UPLINK, HOST_TO_UPLINK, Host, NET_A, NET_B, TO_UPLINK, UPLINK, WEB, end,
        from_endpoint, inside, on_a_fast_host, on_a_host, to_endpoint,
    },
};

/// Destination unreachable, and a redirect, which only IPv4 counts among errors (RFC 792, RFC 4443).
fn unreachable(family: Family) -> Kind {
    Kind::Icmp(family.pick(3, 1))
}

const REDIRECT: Kind = Kind::Icmp(5);

/// What `src` says of a packet that it has received, with all of it or as little as RFC 792 asks for.
fn about(packet: &Packet, src: IpAddr, transport_len: usize) -> Packet {
    let family = Family::of(src);
    let error = Packet::new(unreachable(family), end(src, 0), end(packet.src.ip(), 0));
    let mut payload = packet.datagram();
    payload.truncate(family.pick(20, 40) + transport_len);
    Packet { payload, ..error }
}

/// A container's call with what leaves of it.
fn call(host: &mut Host, family: Family, kind: Kind) -> Result<(Packet, Packet)> {
    let port = if kind == Kind::EchoRequest { 0 } else { 443 };
    let call = Packet::new(kind, end(inside(family, NET_A, 2), 50_000), end(family.remote(), port));
    let outside = call.from(end(family.host(), 50_000));
    host.begins(TO_UPLINK, &call, Reason::Masqueraded, &outside, &flow(false, &call, &outside))?;
    Ok((call, outside))
}

/// A client's request with what reaches the container of it.
fn request(host: &mut Host, family: Family, kind: Kind) -> Result<(Packet, Packet)> {
    let (port, own) = if kind == Kind::Udp { (DNS, 53) } else { (WEB, 80) };
    let request = Packet::new(kind, end(family.client(), 40_000), end(family.host(), port));
    let entering = request.to(end(inside(family, NET_A, 2), own));
    let begun = flow(true, &request, &entering);
    host.begins(FROM_UPLINK, &request, Reason::Published, &entering, &begun)?;
    Ok((request, entering))
}

#[test]
fn errors_are_translated_with_what_they_quote() -> Result<()> {
    on_a_host(|host, family| {
        let translated = Reason::IcmpErrorOfFlow;
        let router = family.client();
        for kind in [Kind::Tcp(SYN), Kind::Udp, Kind::EchoRequest] {
            let (call, outside) = call(host, family, kind)?;
            for len in [8, 100] {
                let entering = about(&call, router, len);
                host.becomes(FROM_UPLINK, &about(&outside, router, len), translated, &entering)?;
                host.stays(to_endpoint(NET_A, 2, UPLINK), &entering, Reason::FlowToContainer)?;
            }
        }
        for kind in [Kind::Tcp(SYN), Kind::Udp] {
            let (request, entering) = request(host, family, kind)?;
            for len in [8, 100] {
                let leaving = about(&request, family.host(), len);
                let error = about(&entering, entering.dst.ip(), len);
                host.stays(from_endpoint(NET_A, 2), &error, Reason::ContainerToOutside)?;
                host.becomes(TO_UPLINK, &error, translated, &leaving)?;
                // The host's own.
                host.becomes(
                    HOST_TO_UPLINK,
                    &about(&entering, family.host(), len),
                    translated,
                    &leaving,
                )?;
            }
            let answer = about(&request.reply(), router, 100);
            host.becomes(FROM_UPLINK, &answer, translated, &about(&entering.reply(), router, 100))?;
        }
        Ok(())
    })
}

#[test]
fn on_the_fast_path_an_error_is_handed_over() -> Result<()> {
    on_a_fast_host(|host, family| {
        let request =
            Packet::new(Kind::Tcp(SYN), end(family.client(), 40_000), end(family.host(), WEB));
        host.meets(FROM_UPLINK, &request.frame())?;
        let error = about(&request.reply(), family.client(), 8);
        let (reason, _) = host.meets(FROM_UPLINK, &error.frame())?;
        anyhow::ensure!(reason == Reason::IcmpErrorOfFlowRedirected, "{reason:?}");
        Ok(())
    })
}

#[test]
fn what_is_forged_broken_or_misleading_goes_nowhere() -> Result<()> {
    on_a_host(|host, family| {
        let (_, outside) = call(host, family, Kind::Udp)?;
        let (_, entering) = request(host, family, Kind::Tcp(SYN))?;
        let router = family.client();
        let error = about(&outside, router, 100);
        let astray = error.to(end(inside(family, NET_A, 2), 0)).frame();
        let stranger = about(&entering, inside(family, NET_B, 2), 100).frame();
        let other = about(&outside.from(end(family.host(), 9)), router, 100).frame();
        host.judges(&[
            ("to another", FROM_UPLINK, astray, Reason::ForgedIcmpError),
            ("by another", from_endpoint(NET_B, 2), stranger, Reason::ForgedIcmpError),
            ("the host's own", FROM_UPLINK, other, Reason::IcmpErrorToHost),
        ])?;
        if family == Family::V4 {
            let mut broken = error.clone();
            // The quoted time to live.
            broken.payload[8] ^= 1;
            let redirect = error.with_kind(REDIRECT).frame();
            host.judges(&[
                ("a broken quote", FROM_UPLINK, broken.frame(), Reason::BrokenQuote),
                ("a redirect", FROM_UPLINK, redirect, Reason::IcmpRedirect),
            ])?;
        }
        Ok(())
    })
}
