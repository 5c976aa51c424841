//! `from_wire`, which judges frames before they are packets: what it drops, `from_uplink` drops too, and
//! each is counted once.

use anyhow::{Context as _, Result, ensure};
use netd_common::{
    names,
    reason::{Reason, Verdict},
};
use netd_tests::{
    family::Family,
    packet::{ACK, HOST_MAC, Kind, OTHER_MAC, Packet, SYN},
    prog::WIRE,
};

use crate::host::{DNS, FROM_UPLINK, Host, NET_A, TO_UPLINK, WEB, end, inside, on_a_host};

/// The most that the kernel tries a program on in one buffer is less than this.
const LARGE_BYTES: usize = 9000;

/// Runs the program on a frame: why it is dropped, if it is.
fn judge(host: &mut Host, frame: &[u8]) -> Result<Option<Reason>> {
    host.datapath.add_uplink_mac(WIRE, HOST_MAC)?;
    if host.datapath.run_on_frame(names::FROM_WIRE, frame)? == Verdict::Drop {
        return host.count(frame.len()).map(Some);
    }
    ensure!(host.datapath.counters()? == host.counters, "what goes on is not counted");
    Ok(None)
}

/// As [`judge`], and sees to it that the classifier agrees.
fn judge_alike(host: &mut Host, frame: &[u8]) -> Result<Option<Reason>> {
    let judged = judge(host, frame)?;
    if let Some(reason) = judged {
        let (by_classifier, _) = host.meets(FROM_UPLINK, frame)?;
        ensure!(reason == by_classifier, "{reason:?}, and {by_classifier:?}: {frame:02x?}");
    }
    Ok(judged)
}

/// From the client to whatever there is.
fn packets(family: Family) -> Vec<Packet> {
    let client = end(family.client(), 40_000);
    let web = Packet::new(Kind::Tcp(SYN), client, end(family.host(), WEB));
    let ends = [end(inside(family, NET_A, 2), 80), end(family.remote(), 443), web.dst];
    let to_all = |packet: Packet| ends.map(|dst| packet.to(dst));
    let kinds = [
        Kind::Tcp(ACK),
        Kind::UdpWithoutChecksum,
        Kind::EchoRequest,
        Kind::EchoReply,
        Kind::Sctp(1),
        Kind::Other(47),
    ];
    let dns = Packet::new(Kind::Udp, client, end(family.host(), DNS));
    let others = kinds.into_iter().map(|kind| web.with_kind(kind));
    [web.clone(), dns].into_iter().chain(others).flat_map(to_all).collect()
}

#[test]
fn good_frames_go_on_and_hostile_ones_do_not() -> Result<()> {
    on_a_host(|host, family| {
        for packet in packets(family) {
            ensure!(judge(host, &packet.frame())?.is_none(), "{packet:?}");
            let container = end(inside(family, NET_A, 3), 40_000);
            let loopback = end(family.loopback(), 40_000);
            for (packet, reason) in [
                (packet.from(container), Reason::SpoofedSource),
                (packet.from(loopback), Reason::LoopbackAddress),
                (packet.to(loopback), Reason::LoopbackAddress),
            ] {
                let judged = judge_alike(host, &packet.frame()).context(format!("{packet:?}"))?;
                ensure!(judged == Some(reason), "{judged:?} of {packet:?}");
            }
        }
        Ok(())
    })
}

#[test]
fn a_frame_cut_anywhere_is_dropped_as_the_classifier_drops_it() -> Result<()> {
    on_a_host(|host, family| {
        for packet in packets(family) {
            let frame = packet.frame();
            // The kernel tries no classifier on less than an IP header.
            for len in packet.transport_offset()..frame.len() {
                let judged = judge_alike(host, &frame[..len])?;
                ensure!(judged == Some(Reason::Malformed), "{judged:?} at {len} of {packet:?}");
            }
            for len in 14..packet.transport_offset() {
                ensure!(judge(host, &frame[..len])? == Some(Reason::Malformed), "{len}");
            }
        }
        Ok(())
    })
}

/// With flows in the table, so that the classifier has every way to let a packet pass.
#[test]
fn no_wrong_byte_makes_the_two_disagree() -> Result<()> {
    on_a_host(|host, family| {
        let own = end(inside(family, NET_A, 2), 5000);
        let call = Packet::new(Kind::Udp, own, end(family.remote(), 53));
        host.meets(TO_UPLINK, &call.frame())?;
        let reply = call.from(end(family.host(), 5000)).reply();
        for packet in packets(family).into_iter().chain([reply]) {
            let frame = packet.frame();
            for (offset, wrong) in (12..frame.len()).flat_map(|at| [(at, 0), (at, 10), (at, 0xff)])
            {
                let mut frame = frame.clone();
                frame[offset] = wrong;
                judge_alike(host, &frame).context(format!("{wrong:02x} at {offset}"))?;
            }
        }
        Ok(())
    })
}

#[test]
fn frames_for_another_mac_address_go_on() -> Result<()> {
    on_a_host(|host, family| {
        let web = Packet::new(Kind::Tcp(SYN), end(family.client(), 1), end(family.host(), WEB));
        let spoofed = web.from(end(inside(family, NET_A, 3), 1)).frame();
        ensure!(judge(host, &spoofed)? == Some(Reason::SpoofedSource));
        for mac in [OTHER_MAC, [0xff; 6], [0x33, 0x33, 0, 0, 0, 1]] {
            let mut frame = spoofed.clone();
            frame[..6].copy_from_slice(&mac);
            ensure!(judge(host, &frame)?.is_none(), "{mac:02x?}");
        }
        Ok(())
    })
}

#[test]
fn large_frames_lie_in_several_buffers_and_are_judged_by_the_first() -> Result<()> {
    on_a_host(|host, family| {
        let mut udp = Packet::new(Kind::Udp, end(family.client(), 1), end(family.host(), DNS));
        udp.payload = vec![7; LARGE_BYTES];
        ensure!(judge(host, &udp.frame())?.is_none());
        let spoofed = udp.from(end(inside(family, NET_A, 3), 1)).frame();
        ensure!(judge(host, &spoofed)? == Some(Reason::SpoofedSource));
        let cut = &udp.frame()[..LARGE_BYTES];
        ensure!(judge(host, cut)? == Some(Reason::Malformed));
        Ok(())
    })
}
