//! The end of flows in the kernel: timers, generations, the expiry program.

use anyhow::{Result, ensure};
use netd_common::{config::DatapathConfig, expiry::BATCH, reason::Reason};
use netd_tests::{
    family::Family,
    packet::{ACK, FIN, Kind, Packet, RST, SYN},
};

use crate::{
    expect::flow,
    host::{
        DNS, FROM_UPLINK, Host, NET_A, TO_UPLINK, UDP_SECS, UPLINK, WEB, WEB_SLOT, end, inside,
        on_a_host, slot, to_endpoint,
    },
};

/// A container's packet and what it leaves as.
fn call(family: Family, sport: u16) -> (Packet, Packet) {
    let own = end(inside(family, NET_A, 2), sport);
    let packet = Packet::new(Kind::Udp, own, end(family.remote(), 53));
    let outside = packet.from(end(family.host(), sport));
    (packet, outside)
}

fn begin(host: &mut Host, (packet, outside): &(Packet, Packet)) -> Result<()> {
    let begun = flow(false, packet, outside);
    host.begins(TO_UPLINK, packet, Reason::Masqueraded, outside, &begun)
}

/// A connection to the published port, opened; the request's ends and the container's.
fn connect(host: &mut Host, family: Family) -> Result<(Packet, Packet)> {
    let request =
        Packet::new(Kind::Tcp(SYN), end(family.client(), 40_000), end(family.host(), WEB));
    let entering = request.to(end(inside(family, NET_A, 2), 80));
    let begun = flow(true, &request, &entering);
    host.begins(FROM_UPLINK, &request, Reason::Published, &entering, &begun)?;
    let answer = entering.reply();
    host.becomes(TO_UPLINK, &answer, Reason::PublishedReply, &answer.from(request.dst))?;
    let (ack, entering_ack) =
        (request.with_kind(Kind::Tcp(ACK)), entering.with_kind(Kind::Tcp(ACK)));
    host.becomes(FROM_UPLINK, &ack, Reason::Published, &entering_ack)?;
    Ok((request, entering))
}

#[test]
fn expiry_removes_what_is_over_and_nothing_else() -> Result<()> {
    on_a_host(|host, family| {
        let (old, young) = (call(family, 5000), call(family, 5001));
        begin(host, &old)?;
        let halves = host.halves();
        ensure!(host.datapath.expire(&halves)? == (2, 0), "a live flow was removed");
        host.datapath.age_flows(UDP_SECS)?;
        begin(host, &young)?;
        // Either half names the flow: the second one finds it gone.
        let halves = host.halves();
        ensure!(host.datapath.expire(&halves)? == (4, 1));
        host.look_again()?;
        let mut left = flow(false, &young.0, &young.1);
        left.sort();
        ensure!(host.halves() == left, "{:#?}", host.halves());
        Ok(())
    })
}

#[test]
fn a_whole_batch_is_expired_in_one_run() -> Result<()> {
    on_a_host(|host, family| {
        for n in 0..BATCH as u16 / 2 {
            begin(host, &call(family, 5000 + n))?;
        }
        host.datapath.age_flows(UDP_SECS)?;
        let halves = host.halves();
        ensure!(halves.len() == BATCH);
        ensure!(host.datapath.expire(&halves)? == (BATCH as u32, BATCH as u32 / 2));
        ensure!(host.datapath.halves()?.is_empty());
        Ok(())
    })
}

#[test]
fn a_flow_that_is_over_takes_no_packets_before_it_is_expired() -> Result<()> {
    on_a_host(|host, family| {
        let (packet, outside) = call(family, 5000);
        begin(host, &(packet.clone(), outside.clone()))?;
        host.datapath.age_flows(UDP_SECS)?;
        let gone = flow(false, &packet, &outside);
        host.run(FROM_UPLINK, &outside.reply().frame(), Reason::NotOurs, &[], &gone)?;
        begin(host, &(packet, outside))
    })
}

#[test]
fn a_lone_half_is_a_leftover_after_five_seconds() -> Result<()> {
    on_a_host(|host, family| {
        for lost in 0..2 {
            let flow_of = call(family, 5000 + lost);
            begin(host, &flow_of)?;
            let halves = flow(false, &flow_of.0, &flow_of.1);
            let (lost, left) = (halves[usize::from(lost)], halves[usize::from(1 - lost)]);
            host.datapath.remove_half(&lost)?;
            ensure!(host.datapath.expire(&[left])? == (1, 0), "it may be in the making");
            host.datapath.age_flows(6)?;
            ensure!(host.datapath.expire(&[left])? == (1, 1));
            host.look_again()?;
            ensure!(host.halves().is_empty());
        }
        Ok(())
    })
}

#[test]
fn a_flow_ends_with_its_published_port_and_with_its_endpoint() -> Result<()> {
    on_a_host(|host, family| {
        for (owner, generation) in [(WEB_SLOT, 1), (slot(NET_A, 2), 1)] {
            let (request, entering) = connect(host, family)?;
            host.datapath.set_generation(owner, generation)?;
            host.stays(to_endpoint(NET_A, 2, UPLINK), &entering, Reason::Unsolicited)?;
            let gone = flow(true, &request, &entering);
            let answer = entering.reply().with_kind(Kind::Tcp(FIN | ACK)).frame();
            let after = host.run(TO_UPLINK, &answer, Reason::NoFlow, &[], &gone)?;
            ensure!(after == answer);
        }
        // With a port that is still published the next connection begins.
        connect(host, family).map(drop)
    })
}

#[test]
fn a_syn_reopens_a_connection_that_has_closed() -> Result<()> {
    on_a_host(|host, family| {
        let (request, entering) = connect(host, family)?;
        // Not while it is open: no half is begun or ended.
        host.becomes(FROM_UPLINK, &request, Reason::Published, &entering)?;
        let reset = request.with_kind(Kind::Tcp(RST));
        host.becomes(FROM_UPLINK, &reset, Reason::Published, &entering.with_kind(reset.kind))?;
        host.becomes(FROM_UPLINK, &request, Reason::Published, &entering)?;
        // Were it the old flow, it would be reset and over ten seconds later.
        host.datapath.age_flows(11)?;
        host.look_again()?;
        let halves = host.halves();
        ensure!(host.datapath.expire(&halves)? == (2, 0));
        Ok(())
    })
}

#[test]
fn a_client_of_two_published_ports_of_one_container_keeps_both() -> Result<()> {
    on_a_host(|host, family| {
        let client = end(family.client(), 40_000);
        let container = end(inside(family, NET_A, 2), 53);
        let first = Packet::new(Kind::Udp, client, end(family.host(), DNS));
        let begun = flow(true, &first, &first.to(container));
        host.begins(FROM_UPLINK, &first, Reason::Published, &first.to(container), &begun)?;
        // The same container port by another of the host's addresses: the replies would be the same.
        let second = first.to(end(inside(family, NET_A, 1), DNS));
        let (reason, after) = host.meets(FROM_UPLINK, &second.frame())?;
        let entering = second.to(container).with_source_port_of(&after);
        ensure!(reason == Reason::Published && after == entering.frame(), "{after:02x?}");
        ensure!(entering.src.ip() == client.ip() && entering.src.port() != client.port());
        host.look_again()?;
        for (request, seen) in [(&first, first.to(container)), (&second, entering)] {
            let answer = seen.reply();
            let leaving = answer.from(request.dst).to(request.src);
            host.becomes(TO_UPLINK, &answer, Reason::PublishedReply, &leaving)?;
        }
        Ok(())
    })
}

/// As where another CPU removes it at once: with no time to live, it is over when the packet looks again.
#[test]
fn a_flow_that_is_gone_before_its_first_packet_finds_it_is_a_race_lost() -> Result<()> {
    on_a_host(|host, family| {
        let config = DatapathConfig { timeout_secs: [0; _], ..DatapathConfig::DEFAULT };
        host.datapath.configure(&config)?;
        let web = Packet::new(Kind::Tcp(SYN), end(family.client(), 1), end(family.host(), WEB));
        host.judges(&[("gone again", FROM_UPLINK, web.frame(), Reason::ConntrackRace)])
    })
}
