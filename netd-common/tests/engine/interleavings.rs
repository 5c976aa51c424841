//! Two CPUs at the same flows: what one does comes in at every call that the other makes to the connection
//! table, and the other way round. Whatever the moment, no flow that has been answered for is lost, no two
//! share a reply tuple, and no half stays alone for longer than its life.

use std::{cell::RefCell, collections::HashSet, rc::Rc};

use netd_common::{
    address::Port,
    config::{ConfigFlags, Timeout},
    conntrack::{CtKey, Scope},
    engine,
    network::NetworkFlags,
    parse::Rare,
    reason::{Reason, Verdict},
    tables::Tables as _,
};

use crate::{
    family::{Family, in_both_datapaths},
    message::{ACK, Kind, Message, RST, SYN},
    place::{At, FROM_UPLINK, Hook, INWARDS, OUTWARDS, TO_UPLINK, from_endpoint},
    scene::{Datapath, NET_A, Scene, WEB, WEB_TOO},
    tables::HostTables,
};

in_both_datapaths! {
    the_same_flow_begins_on_two_cpus,
    two_flows_that_want_one_port_begin_on_two_cpus,
    two_flows_with_one_reply_tuple_are_published_on_two_cpus,
    a_flow_begins_while_another_is_expired,
    a_flow_is_refreshed_while_it_is_expired,
    a_port_is_taken_over_while_its_owner_comes_back,
    a_port_is_taken_over_while_its_owner_is_expired,
    a_connection_is_reopened_while_its_last_packet_comes,
    one_source_port_calls_two_on_two_cpus,
    a_mapping_is_used_while_it_is_expired,
}

/// More calls than anything here makes.
const ENOUGH: u32 = 500;

/// What a CPU does.
#[derive(Clone, Debug)]
enum Act<A> {
    /// A packet is judged.
    Send(Message<A>),
    /// The daemon has the flow of a packet looked at.
    Expire(Message<A>),
    /// It has all looked at that there is.
    ExpireAll,
}

/// What became of a packet: nothing, or the message that came out.
type Sent<A> = Option<(Reason, Message<A>)>;

impl<A: Family> Act<A> {
    fn run(&self, tables: &HostTables, datapath: Datapath) -> Sent<A> {
        match self {
            Self::Send(message) => {
                let at = place(message, datapath);
                let mut packet = at.packet(message.frame());
                // It judges both common and rare packets.
                let reason = tables.ask_alone::<Rare<A>>(at.hook, &mut packet).unwrap();
                let is_out = reason.verdict() != Verdict::Drop;
                is_out.then(|| (reason, Message::read(&packet.frame)))
            }
            Self::Expire(message) => {
                engine::expire(tables, &key(message), false);
                None
            }
            Self::ExpireAll => {
                let mut keys: Vec<_> = A::store(tables).flows.borrow().keys().copied().collect();
                keys.sort_by_key(|key| format!("{key:?}"));
                for key in keys {
                    engine::expire(tables, &key, false);
                }
                None
            }
        }
    }
}

/// Where a packet is translated.
fn place<A: Family>(message: &Message<A>, datapath: Datapath) -> At {
    let container = (2..4).find(|&n| message.src.0 == A::inside(NET_A, n));
    match (container, datapath) {
        (None, _) => FROM_UPLINK,
        (Some(_), Datapath::Stack) => TO_UPLINK,
        (Some(n), Datapath::Fast) => from_endpoint(NET_A, n),
    }
}

fn key<A: Family>(message: &Message<A>) -> CtKey<A> {
    let is_inside = (2..4).any(|n| message.src.0 == A::inside(NET_A, n));
    CtKey {
        src: message.src.0,
        dst: message.dst.0,
        sport: Port::new(message.src.1),
        dport: Port::new(message.dst.1),
        proto: message.proto(),
        scope: if is_inside { Scope::Endpoint } else { Scope::Uplink } as u8,
        zone: 0,
    }
}

/// Tries two acts at once, at every moment and with either of them being the one that is interrupted.
fn at_every_moment<A: Family>(
    datapath: Datapath,
    prepare: impl Fn(&mut Scene),
    one: &Act<A>,
    other: &Act<A>,
) {
    for (slow, quick) in [(one, other), (other, one)] {
        for moment in 0.. {
            assert!(moment < ENOUGH, "there is no end to {slow:?}");
            let mut scene = Scene::on(datapath);
            prepare(&mut scene);
            let came_out = Rc::new(RefCell::new(None));
            let (act, out) = (quick.clone(), came_out.clone());
            let interruption =
                move |tables: &HostTables| *out.borrow_mut() = act.run(tables, datapath);
            *scene.tables.at_call.borrow_mut() = Some((moment, Box::new(interruption)));
            let first = slow.run(&scene.tables, datapath);
            if scene.tables.at_call.take().is_some() {
                break;
            }
            let second = came_out.take();
            let context = format!("{quick:?} at call {moment} of {slow:?}");
            for (act, sent) in [(slow, first), (quick, second)] {
                if let Act::Send(message) = act {
                    is_not_lost(&scene, message, sent, &context);
                }
            }
            tables_are_whole::<A>(&scene, &context);
        }
    }
}

/// A packet that came out is answered, and the answer finds the way back.
fn is_not_lost<A: Family>(scene: &Scene, message: &Message<A>, sent: Sent<A>, context: &str) {
    let Some((reason, after)) = sent else { return };
    let (answer, back) = (after.reply(), place(message, scene.datapath).hook != Hook::FromUplink);
    let expected = answer.from(message.dst).to(message.src);
    let (judged, came_back) = scene.run(if back { INWARDS } else { OUTWARDS }, &answer);
    assert_eq!(came_back, expected, "{context}: lost: {message:?}: {reason:?}, then {judged:?}");
}

fn tables_are_whole<A: Family>(scene: &Scene, context: &str) {
    let mut replies = HashSet::new();
    for (key, entry) in scene.halves::<A>().iter().filter(|half| !half.1.is_reply()) {
        assert!(replies.insert(entry.peer_key(key)), "{context}: a shared reply tuple: {key:?}");
    }
    scene.wait(6);
    for (key, _) in scene.halves::<A>() {
        engine::expire(&scene.tables, &key, false);
    }
    let halves = scene.halves::<A>();
    let keys: HashSet<_> = halves.iter().map(|half| half.0).collect();
    for (key, entry) in &halves {
        assert!(keys.contains(&entry.peer_key(key)), "{context}: a lone half: {key:?}");
    }
}

fn call<A: Family>(n: u8) -> Message<A> {
    Message::new(Kind::Udp, (A::inside(NET_A, n), 5000), (A::outside(9), 53))
}

fn web<A: Family>(port: u16) -> Message<A> {
    Message::new(Kind::Tcp(SYN), (A::outside(7), 40_000), (A::host(1), port))
}

/// A flow whose only packet was just so long ago that it is over.
fn over<A: Family>(message: Message<A>) -> impl Fn(&mut Scene) {
    move |scene| {
        Act::Send(message.clone()).run(&scene.tables, scene.datapath).unwrap();
        scene.wait(if message.proto() == 6 { 120 } else { 30 });
    }
}

fn the_same_flow_begins_on_two_cpus<A: Family>(datapath: Datapath) {
    for message in [call::<A>(2), web(WEB)] {
        let act = Act::Send(message);
        at_every_moment(datapath, |_| {}, &act, &act);
    }
}

fn two_flows_that_want_one_port_begin_on_two_cpus<A: Family>(datapath: Datapath) {
    at_every_moment::<A>(datapath, |_| {}, &Act::Send(call(2)), &Act::Send(call(3)));
}

fn two_flows_with_one_reply_tuple_are_published_on_two_cpus<A: Family>(datapath: Datapath) {
    at_every_moment::<A>(datapath, |_| {}, &Act::Send(web(WEB)), &Act::Send(web(WEB_TOO)));
}

fn a_flow_begins_while_another_is_expired<A: Family>(datapath: Datapath) {
    let (begin, expire) = (Act::Send(call(3)), Act::Expire(call(2)));
    at_every_moment::<A>(datapath, over::<A>(call(2)), &begin, &expire);
}

fn a_flow_is_refreshed_while_it_is_expired<A: Family>(datapath: Datapath) {
    for message in [call::<A>(2), web(WEB)] {
        let (refresh, expire) = (Act::Send(message.clone()), Act::Expire(message.clone()));
        at_every_moment(datapath, over::<A>(message), &refresh, &expire);
    }
}

fn a_port_is_taken_over_while_its_owner_comes_back<A: Family>(datapath: Datapath) {
    at_every_moment::<A>(datapath, over::<A>(call(2)), &Act::Send(call(3)), &Act::Send(call(2)));
    let (thief, owner) = (Act::Send(web(WEB_TOO)), Act::Send(web(WEB)));
    at_every_moment::<A>(datapath, over::<A>(web(WEB)), &thief, &owner);
}

fn a_port_is_taken_over_while_its_owner_is_expired<A: Family>(datapath: Datapath) {
    let (thief, expire) = (Act::Send(web(WEB_TOO)), Act::Expire(web(WEB)));
    at_every_moment::<A>(datapath, over::<A>(web(WEB)), &thief, &expire);
}

fn a_connection_is_reopened_while_its_last_packet_comes<A: Family>(datapath: Datapath) {
    let closed = |scene: &mut Scene| {
        for flags in [SYN, ACK, RST] {
            Act::Send(web::<A>(WEB).with_kind(Kind::Tcp(flags))).run(&scene.tables, datapath);
        }
    };
    let last = Act::Send(web::<A>(WEB).with_kind(Kind::Tcp(ACK)));
    at_every_moment(datapath, closed, &Act::Send(web(WEB)), &last);
}

/// The source ports of the first network are given independently of destinations.
fn with_mappings(scene: &mut Scene) {
    scene.tables.config.flags |= ConfigFlags::MAPPINGS;
    scene.set(NET_A, NetworkFlags::ENDPOINT_INDEPENDENT);
}

fn one_source_port_calls_two_on_two_cpus<A: Family>(datapath: Datapath) {
    let (one, other) = (call::<A>(2), call(2).to((A::outside(200), 53)));
    at_every_moment(datapath, with_mappings, &Act::Send(one), &Act::Send(other));
}

fn a_mapping_is_used_while_it_is_expired<A: Family>(datapath: Datapath) {
    let prepare = |scene: &mut Scene| {
        with_mappings(scene);
        Act::Send(call::<A>(2)).run(&scene.tables, scene.datapath).unwrap();
        scene.wait(scene.tables.timeout_secs(Timeout::Mapping));
    };
    for message in [call(2), call(2).to((A::outside(10), 53)), call(3)] {
        at_every_moment(datapath, prepare, &Act::Send(message), &Act::ExpireAll);
    }
}
