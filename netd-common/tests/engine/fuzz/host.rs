//! The host of one input: the scene with its settings turned about, and what may happen on it.

use netd_common::{
    address::{V4, V6},
    engine::{self, Expiry},
    network::{FamilyFlags, NetworkFlags},
    nptv6::OutsidePrefix,
    packet::Headers as _,
    parse::Rare,
    tables::FamilyTables,
};

use super::{frames, input::Input, travel};
use crate::{
    family::Family,
    message::Message,
    packet::HostPacket,
    place::{
        At, FROM_UPLINK, Hook, TO_UPLINK, bridge, endpoint_of, from_bridge, from_endpoint, port,
        slot, to_bridge, to_endpoint,
    },
    scene::{Datapath, NETWORKS, SECOND_UPLINK, Scene, UPLINK},
    tables::{HostRoute, HostTables, Interruption, Uplink},
};

/// The scene, and what is remembered of the packets on it.
pub(super) struct FuzzedHost {
    pub(super) scene: Scene,
    /// Whether a half has been taken away alone, so that there may be others.
    pub(super) has_lone_halves: bool,
    /// The last frame that came out of a hook, of either family.
    last: Vec<u8>,
}

const WAITS: [u32; 8] = [0, 1, 5, 11, 31, 121, 301, 432_000];

impl FuzzedHost {
    pub(super) fn new(input: &mut Input<'_>) -> Self {
        let mut scene = Scene::on(input.pick(&[Datapath::Stack, Datapath::Fast]));
        for _ in 0..input.below(6) {
            turn(&mut scene, input);
        }
        Self { scene, has_lone_halves: false, last: Vec::new() }
    }

    /// Lets something happen.
    pub(super) fn step(&mut self, input: &mut Input<'_>) {
        let is_v6 = input.one_in(2);
        match input.below(16) {
            0 => self.scene.wait(input.pick(&WAITS)),
            1 => self.scene.bump_generation(slot(input.pick(&NETWORKS), input.pick(&[2, 3]))),
            2 => self.scene.bump_generation(input.below(11).try_into().unwrap()),
            3 if is_v6 => self.disturb::<V6>(input),
            3 => self.disturb::<V4>(input),
            4 if is_v6 => self.interrupt::<V6>(input),
            4 => self.interrupt::<V4>(input),
            _ if is_v6 => self.send::<V6>(input),
            _ => self.send::<V4>(input),
        }
    }

    /// Expires or loses halves as they come.
    fn disturb<A: Family>(&mut self, input: &mut Input<'_>) {
        let mut keys: Vec<_> = self.scene.halves::<A>().into_iter().map(|half| half.0).collect();
        keys.sort_by_key(|key| (key.sport.number(), key.dport.number(), key.scope, key.proto));
        let Some(key) = keys.get(input.below(keys.len().clamp(1, 256))) else { return };
        if input.one_in(4) {
            self.has_lone_halves = true;
            self.scene.tables.remove_flow(key);
        } else {
            let _: Expiry = engine::expire(&self.scene.tables, key, input.one_in(8));
        }
    }

    /// Another CPU comes in while a packet is judged.
    fn interrupt<A: Family>(&mut self, input: &mut Input<'_>) {
        let act = input.below(4);
        // What that CPU takes away may be a half that this one is about to complete.
        self.has_lone_halves |= act == 0;
        let interruption: Interruption = match act {
            0 => Box::new(|tables| {
                tables.v4.flows.borrow_mut().clear();
                tables.v6.flows.borrow_mut().clear();
            }),
            1 => {
                let (at, message) = (place(input), frames::message::<A>(input));
                let mut packet = at.packet(frames::shaped(input, &message));
                Box::new(move |tables| _ = tables.ask_alone::<Rare<A>>(at.hook, &mut packet))
            }
            2 => Box::new(|tables| tables.now_secs.set(tables.now_secs.get() + 6)),
            _ => Box::new(|tables| {
                expire_all::<V4>(tables);
                expire_all::<V6>(tables);
            }),
        };
        let tables = &self.scene.tables;
        match input.below(4) {
            0 => *tables.between_halves.borrow_mut() = Some(interruption),
            1 => *tables.after_insertion.borrow_mut() = Some(interruption),
            _ => *tables.at_call.borrow_mut() = Some((input.byte().into(), interruption)),
        }
    }

    fn send<A: Family>(&mut self, input: &mut Input<'_>) {
        let at = place(input);
        let frame = match input.below(8) {
            0 => frames::raw(input),
            1 | 2 => match frames::error_about::<A>(input, &self.last) {
                Some(frame) => frame,
                None => return,
            },
            3 if !self.last.is_empty() => self.last.clone(),
            4 => self.answer::<A>(input),
            _ => {
                let message = frames::message::<A>(input);
                frames::shaped(input, &message)
            }
        };
        let mut packet = at.packet(frame);
        packet.has_memory = !input.one_in(64);
        packet.is_to_this_host = !input.one_in(64);
        packet.segment_len = if input.one_in(16) { input.number().into() } else { 0 };
        let is_at_uplink = matches!(at.hook, Hook::FromUplink | Hook::ToUplink);
        if is_at_uplink && packet.frame.len() >= 14 && input.one_in(16) {
            packet = packet.without_ethernet();
            let reason = self.scene.judge(at.hook, &mut packet);
            assert!(packet.redirection.is_none(), "{reason:?}");
            return;
        }
        self.last = travel(self, None, at, packet);
    }

    /// A packet of a flow that there is, from either side.
    fn answer<A: Family>(&self, input: &mut Input<'_>) -> Vec<u8> {
        let mut keys: Vec<_> = self.scene.halves::<A>().into_iter().map(|half| half.0).collect();
        keys.sort_by_key(|key| (key.sport.number(), key.dport.number(), key.scope, key.proto));
        let message = frames::message::<A>(input);
        let Some(key) = keys.get(input.below(keys.len().clamp(1, 256))) else {
            return message.frame();
        };
        let (src, dst) = ((key.src, key.sport.number()), (key.dst, key.dport.number()));
        let message = Message { src, dst, ..message };
        frames::shaped(input, &message)
    }
}

/// Has the daemon look at every half that there is.
fn expire_all<A: Family>(tables: &HostTables) {
    let keys: Vec<_> = A::store(tables).flows.borrow().keys().copied().collect();
    for key in keys {
        engine::expire(tables, &key, false);
    }
}

/// Changes a setting of the host.
fn turn(scene: &mut Scene, input: &mut Input<'_>) {
    let number = input.pick(&NETWORKS);
    let network = scene.tables.networks.get_mut(&number).unwrap();
    match input.below(11) {
        0 => {
            network.flags ^= input.pick(&[
                NetworkFlags::INTERNAL,
                NetworkFlags::ICC,
                NetworkFlags::FAST,
                NetworkFlags::STRICT_SOURCE,
                NetworkFlags::ICC_STRICT,
                NetworkFlags::ENDPOINT_INDEPENDENT,
                NetworkFlags::PRESENT,
            ])
        }
        1 | 2 => {
            let flag = input.pick(&[
                FamilyFlags::MASQUERADE,
                FamilyFlags::ROUTED,
                FamilyFlags::UNPROTECTED,
                // A bit that there may be one day.
                1 << 5,
            ]);
            network.v4.flags ^= flag;
            network.v6.flags ^= flag;
        }
        3 => network.mtu = input.number(),
        4 => {
            scene.tables.isolation_sets.insert((number, input.pick(&NETWORKS)));
        }
        5 => {
            scene.tables.trusted.insert((UPLINK, number));
        }
        6 => scene.tables.config.flags ^= 1 << input.below(8),
        7 => scene.tables.capacity.set(input.below(16)),
        8 => lead_elsewhere::<V4>(scene, input),
        9 => translate_prefix(scene, number),
        _ => lead_elsewhere::<V6>(scene, input),
    }
}

/// Gives a network an outside prefix.
fn translate_prefix(scene: &mut Scene, number: u16) {
    let network = scene.tables.networks.get_mut(&number).unwrap();
    let prefix = V6::new("2001:db8:ff00:1::".parse().unwrap());
    network.v6.flags |= FamilyFlags::PREFIX_TRANSLATED;
    network.outside = OutsidePrefix::new(network.v6.subnet, prefix);
    scene.tables.v6.subnets.push((prefix, network.v6.mask, number));
}

fn lead_elsewhere<A: Family>(scene: &mut Scene, input: &mut Input<'_>) {
    let uplink = Uplink::ethernet(UPLINK, A::outside(1));
    let second = Uplink { ifindex: SECOND_UPLINK, mtu: input.number().into(), ..uplink };
    let without_ethernet = Uplink { flags: netd_common::network::UplinkFlags::PRESENT, ..uplink };
    let store = A::store_mut(&mut scene.tables);
    store.default_route = match input.below(5) {
        0 => HostRoute::Elsewhere,
        1 => HostRoute::Nowhere,
        2 => HostRoute::Uplink(second),
        _ => HostRoute::Uplink(without_ethernet),
    };
    for n in 0..input.below(4) as u16 {
        store.host_sockets.borrow_mut().insert((input.pick(&[6, 17]), 5000 + n));
    }
}

/// Where a packet is.
pub(super) fn place(input: &mut Input<'_>) -> At {
    let (network, n) = (input.pick(&NETWORKS), input.pick(&[2, 3]));
    let ingress = input.pick(&[UPLINK, 0, bridge(network), port(network, 3), port(1, 2)]);
    match input.below(10) {
        0..3 => FROM_UPLINK,
        3..6 => from_endpoint(network, n),
        6 => At { ingress: input.pick(&[bridge(network), 0, UPLINK]), ..TO_UPLINK },
        7 => to_endpoint(network, n, ingress),
        8 => from_bridge(network),
        _ => to_bridge(network, ingress),
    }
}

/// Where a packet from an endpoint that the host forwards to the world comes next.
pub(super) fn to_uplink_of(at: At) -> At {
    At { ingress: bridge(endpoint_of(at.ifindex).0), ..TO_UPLINK }
}

/// The port of the container that a packet is for, seen by one that came in on `ingress`.
pub(super) fn port_of_destination(scene: &Scene, packet: &HostPacket, ingress: u32) -> Option<At> {
    let found = match packet.ethertype() {
        0x0800 => port_of::<V4>(scene, packet, 30),
        0x86dd => port_of::<V6>(scene, packet, 38),
        _ => None,
    };
    found.map(|(network, n)| to_endpoint(network, n, ingress))
}

fn port_of<A: Family>(scene: &Scene, packet: &HostPacket, offset: u32) -> Option<(u16, u8)> {
    let dst: A = packet.load(offset)?;
    A::store(&scene.tables).endpoints.get(&dst).map(|endpoint| endpoint_of(endpoint.ifindex))
}
