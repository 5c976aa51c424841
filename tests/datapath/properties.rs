//! What holds of every packet that the loaded programs translate, whatever is in it (dataplane.md D.6): random
//! packets by both data paths, looked at byte by byte, with checksums summed up in full.

use std::net::IpAddr;

use anyhow::{Context as _, Result, ensure};
use netd_common::{
    config::DatapathConfig,
    expiry::BATCH,
    network::UplinkFlags,
    reason::{Reason, Verdict},
};
use netd_tests::{
    family::Family,
    hostile::random::Random,
    packet::{ACK, FIN, Kind, OTHER_MAC, Packet, RST, SYN},
};

use crate::{
    expect::translates,
    fast::forwarding,
    frame,
    host::{
        DNS, FROM_UPLINK, Host, NET_A, NET_B, OPEN, RANGE, ROUTED, TO_UPLINK, WEB, bridge_mac, end,
        from_endpoint, inside, on_a_fast_host, on_a_host,
    },
};

const SEED: u64 = 4;
/// Each takes some milliseconds, most of them to read the tables.
const PACKETS: u32 = 200;

const KINDS: [Kind; 8] = [
    Kind::Tcp(SYN),
    Kind::Tcp(ACK),
    Kind::Tcp(FIN | ACK),
    Kind::Tcp(RST),
    Kind::Udp,
    Kind::Udp,
    Kind::UdpWithoutChecksum,
    Kind::EchoRequest,
];
const CONTAINERS: [(u16, u8); 4] = [(NET_A, 2), (NET_A, 3), (ROUTED, 2), (OPEN, 2)];

#[test]
fn random_packets_are_translated_faithfully_through_the_stack() -> Result<()> {
    on_a_host(|host, family| Attempt { host, family, is_fast: false }.hold())
}

#[test]
fn random_packets_are_translated_faithfully_past_the_stack() -> Result<()> {
    on_a_fast_host(|host, family| {
        forwarding(host, family, UplinkFlags::ETHERNET)?;
        Attempt { host, family, is_fast: true }.hold()
    })
}

/// Random packets on a host, by one data path.
struct Attempt<'a> {
    host: &'a mut Host,
    family: Family,
    is_fast: bool,
}

/// Which way a packet goes.
#[derive(Clone, Copy, Debug)]
enum Way {
    In,
    /// From a container: its network and number.
    Out(u16, u8),
}

impl Attempt<'_> {
    fn hold(&mut self) -> Result<()> {
        let mut translated = 0;
        for number in 0..PACKETS {
            let mut random = Random::of_packet(SEED, number);
            let (way, packet) = self.packet(&mut random);
            let is_translated = self.try_one(&mut random, way, &packet);
            let context = || format!("packet {number}, {way:?}: {packet:?}");
            translated += u32::from(is_translated.with_context(context)?);
            self.flows_are_whole().with_context(context)?;
        }
        ensure!(translated > PACKETS / 4, "only {translated} were translated");
        self.silence_ends_all()
    }

    /// A packet from outside to the host or a container, or from a container to anywhere.
    fn packet(&self, random: &mut Random) -> (Way, Packet) {
        let (family, kind) = (self.family, random.pick(&KINDS));
        let (network, n) = random.pick(&CONTAINERS);
        let (far, own) =
            (random.pick(&[family.client(), family.remote()]), inside(family, network, n));
        let port = random.pick(&[40_000, 40_001, 53]);
        let (way, src, to, dport) = if random.one_in(2) {
            let to = random.pick(&[family.host(), family.host(), own]);
            (Way::In, far, to, random.pick(&[WEB, DNS, RANGE + 3, 80]))
        } else {
            let to = random.pick(&[far, far, far, inside(family, NET_B, 2)]);
            (Way::Out(network, n), own, to, random.pick(&[443, 53]))
        };
        let dport = if kind == Kind::EchoRequest { 0 } else { dport };
        let len = random.below(64);
        let payload = (0..len).map(|_| random.byte()).collect();
        let packet = Packet::new(kind, end(src, port), end(to, dport));
        (way, Packet { payload, ..packet.with_ttl(random.pick(&[64, 2])) })
    }

    /// Sends a packet, perhaps with a bit that is wrong: whether it was translated.
    fn try_one(&mut self, random: &mut Random, way: Way, packet: &Packet) -> Result<bool> {
        let mut before = self.frame(way, packet);
        let is_broken = random.one_in(4);
        if is_broken {
            let at = packet.transport_offset() + 4;
            let at = at + random.below(before.len() - at);
            before[at] ^= 1 << random.below(8);
        }
        let Some((reason, after)) = self.send(way, &before)? else { return Ok(false) };
        self.is_faithful(way, &before, &after).with_context(|| format!("{reason:?}"))?;
        if !is_broken && packet.kind != Kind::Tcp(RST) {
            self.comes_back(way, packet, &after).with_context(|| format!("{reason:?}"))?;
        }
        Ok(true)
    }

    fn frame(&self, way: Way, packet: &Packet) -> Vec<u8> {
        match way {
            Way::Out(network, _) if self.is_fast => {
                packet.frame_for(bridge_mac(network), OTHER_MAC)
            }
            Way::In | Way::Out(..) => packet.frame(),
        }
    }

    /// Sends a frame through the hooks on its way: what comes out, if it was translated.
    fn send(&mut self, way: Way, frame: &[u8]) -> Result<Option<(Reason, Vec<u8>)>> {
        let at = match way {
            Way::In => FROM_UPLINK,
            Way::Out(network, n) => from_endpoint(network, n),
        };
        let (mut reason, mut after) = self.host.meets(at, frame)?;
        let is_between = self.is_for_other_network(way, frame);
        ensure!(!is_between || reason.verdict() == Verdict::Drop, "{reason:?}: between networks");
        if reason == Reason::ContainerToOutside {
            (reason, after) = self.host.meets(TO_UPLINK, &after)?;
        }
        Ok(translates(reason).then_some((reason, after)))
    }

    fn is_for_other_network(&self, way: Way, frame: &[u8]) -> bool {
        let other = inside(self.family, NET_B, 2);
        matches!(way, Way::Out(..)) && frame::ends(self.family, frame).1 == other
    }

    /// Checksums are right exactly if they were, hops are one less where it was redirected, nothing else has
    /// changed but addresses and ports, and no container of a masqueraded network is seen outside.
    fn is_faithful(&self, way: Way, before: &[u8], after: &[u8]) -> Result<()> {
        let family = self.family;
        let are_right = |bytes| frame::are_checksums_right(family, bytes);
        ensure!(are_right(before) == are_right(after), "checksums: {before:02x?}\n{after:02x?}");
        let hops = |bytes| frame::hops(family, bytes);
        ensure!(hops(before) - hops(after) == u8::from(self.is_fast), "hops");
        let rest = |bytes| frame::without_what_nat_writes(family, bytes);
        ensure!(rest(before) == rest(after), "{before:02x?}\n{after:02x?}");
        let is_masqueraded = matches!(way, Way::Out(NET_A, _));
        let source = frame::ends(family, after).0;
        ensure!(!is_masqueraded || source == family.host(), "{source} leaves");
        Ok(())
    }

    /// What answers the packet that came out becomes what answers the one that was sent, byte for byte.
    fn comes_back(&mut self, way: Way, packet: &Packet, after: &[u8]) -> Result<()> {
        let answer = frame::read(packet, after).reply();
        let back = match way {
            Way::In => self.owner(answer.src.ip()).context("a container")?,
            Way::Out(..) => Way::In,
        };
        let (reason, came) = self.send(back, &self.frame(back, &answer))?.context("no answer")?;
        let expected = packet.reply().with_ttl(answer.ttl - u8::from(self.is_fast)).datagram();
        ensure!(came[frame::ETHERNET..] == expected, "{reason:?}: {came:02x?}\n{expected:02x?}");
        Ok(())
    }

    fn owner(&self, addr: IpAddr) -> Option<Way> {
        let mut containers = CONTAINERS.into_iter();
        let owner = containers.find(|&(network, n)| inside(self.family, network, n) == addr)?;
        Some(Way::Out(owner.0, owner.1))
    }

    /// Each half has another that leads back to it; so no two flows share a reply tuple.
    fn flows_are_whole(&mut self) -> Result<()> {
        self.host.look_again()?;
        let halves = self.host.halves();
        for half in &halves {
            let is_peer = |other: &&_| half.is_peer(other);
            ensure!(halves.iter().filter(is_peer).count() == 1, "{half:?} of {halves:#?}");
        }
        Ok(())
    }

    /// After the longest timer without a packet nothing is left.
    fn silence_ends_all(&mut self) -> Result<()> {
        let config = DatapathConfig { timeout_secs: [1; _], ..DatapathConfig::DEFAULT };
        self.host.datapath.configure(&config)?;
        self.host.datapath.age_flows(10)?;
        let halves = self.host.halves();
        ensure!(!halves.is_empty(), "there are no flows");
        for batch in halves.chunks(BATCH) {
            self.host.datapath.expire(batch)?;
        }
        self.host.look_again()?;
        ensure!(self.host.halves().is_empty(), "{:#?}", self.host.halves());
        Ok(())
    }
}
