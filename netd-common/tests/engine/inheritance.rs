//! Flows of another netd's table come into this one, and what that one leaves to the netd that comes after.

use netd_common::{
    config::ConfigFlags,
    conntrack::{CtEntry, CtKey, Seen},
    counters::FlowCount,
    engine::{Inherited, inherit},
    reason::{Reason, Verdict},
};

use crate::{
    family::{Family, in_both_datapaths},
    message::{ACK, Kind, Message, SYN},
    place::{INWARDS, OUTWARDS, slot},
    runs::{changes, plain},
    scene::{Datapath, NET_A, Scene, WEB},
};

in_both_datapaths! {
    flows_go_on_in_another_table,
    flows_learn_what_the_other_table_has_seen,
    what_has_ended_over_there_makes_room,
    a_table_that_is_succeeded_carries_its_flows_and_begins_none,
}

fn call<A: Family>() -> Message<A> {
    Message::new(Kind::Udp, (A::inside(NET_A, 2), 5000), (A::outside(9), 53))
}

fn web<A: Family>(flags: u8) -> Message<A> {
    Message::new(Kind::Tcp(flags), (A::outside(7), 40_000), (A::host(1), WEB))
}

/// Hands all halves over, the reply half first, and tells what became of them.
fn hand_over<A: Family>(from: &Scene, to: &Scene, only_learns: bool) -> Vec<Inherited> {
    let mut halves: Vec<(CtKey<A>, CtEntry<A>)> = from.halves();
    halves.sort_by_key(|(_, entry)| !entry.is_reply());
    halves.iter().map(|(key, entry)| inherit(&to.tables, key, entry, only_learns)).collect()
}

fn counts(scene: &Scene) -> Vec<(u32, i64)> {
    let counts = scene.tables.flow_counts.borrow();
    let indices = [slot(NET_A, 2), FlowCount::of_network(NET_A)];
    indices.map(|index| (index, counts.get(&index).copied().unwrap_or_default())).into()
}

fn flows_go_on_in_another_table<A: Family>(datapath: Datapath) {
    let (old, new) = (Scene::on(datapath), Scene::on(datapath));
    let outside = old.translated::<A>(OUTWARDS, &call(), Reason::Masqueraded);
    let inside = old.translated::<A>(INWARDS, &web(SYN), Reason::Published);
    assert_eq!(hand_over::<A>(&old, &new, false), [Inherited::New; 4]);
    assert_eq!(hand_over::<A>(&old, &new, false), [Inherited::Known; 4]);
    assert_eq!(counts(&new), counts(&old));
    new.becomes(INWARDS, &outside.reply(), Reason::MasqueradeReply, &call().reply());
    let answer = inside.reply().with_kind(Kind::Tcp(SYN | ACK));
    let answered = web::<A>(SYN).reply().with_kind(Kind::Tcp(SYN | ACK));
    new.becomes(OUTWARDS, &answer, Reason::PublishedReply, &answered);
    // Nobody else is given the port.
    let neighbours = call::<A>().from((A::inside(NET_A, 3), 5000));
    let other = new.translated(OUTWARDS, &neighbours, Reason::Masqueraded);
    assert_ne!(other.src, outside.src);
}

fn flows_learn_what_the_other_table_has_seen<A: Family>(datapath: Datapath) {
    let (old, new) = (Scene::on(datapath), Scene::on(datapath));
    let outside = old.translated::<A>(OUTWARDS, &call(), Reason::Masqueraded);
    hand_over::<A>(&old, &new, false);
    for scene in [&old, &new] {
        scene.wait(20);
    }
    old.translated(INWARDS, &outside.reply(), Reason::MasqueradeReply);
    // One that has begun meanwhile does not come to be.
    let later = call::<A>().from((A::inside(NET_A, 3), 6000));
    old.translated(OUTWARDS, &later, Reason::Masqueraded);
    assert_eq!(hand_over::<A>(&old, &new, true), [Inherited::Known; 4]);
    let halves = new.halves::<A>();
    assert_eq!(halves.len(), 2);
    for (_, entry) in halves {
        assert_eq!(entry.last_seen_secs, if entry.is_reply() { 1_020 } else { 1_000 });
        assert_ne!(entry.seen, 0, "{entry:?}");
    }
    new.wait(20);
    new.translated(INWARDS, &outside.reply(), Reason::MasqueradeReply);
    let seen = |scene: &Scene| scene.halves::<A>().iter().fold(0, |all, half| all | half.1.seen);
    assert_eq!(seen(&new) & !Seen::LATER, seen(&old) & !Seen::LATER);
}

fn what_has_ended_over_there_makes_room<A: Family>(datapath: Datapath) {
    let (old, new) = (Scene::on(datapath), Scene::on(datapath));
    old.translated::<A>(OUTWARDS, &call(), Reason::Masqueraded);
    hand_over::<A>(&old, &new, false);
    // Over there the neighbour has the port by now.
    for scene in [&old, &new] {
        scene.wait(30);
    }
    old.expire::<A>();
    let neighbours = call::<A>().from((A::inside(NET_A, 3), 5000));
    let outside = old.translated(OUTWARDS, &neighbours, Reason::Masqueraded);
    assert_eq!(outside.src.1, 5000);
    assert_eq!(hand_over::<A>(&old, &new, true), [Inherited::Refused, Inherited::Known]);
    assert_eq!(hand_over::<A>(&old, &new, false), [Inherited::New; 2]);
    assert_eq!(new.halves::<A>().len(), 2);
    new.becomes(INWARDS, &outside.reply(), Reason::MasqueradeReply, &neighbours.reply());
    // What is older does not come back.
    let older = Scene::on(datapath);
    older.translated::<A>(OUTWARDS, &call(), Reason::Masqueraded);
    assert!(hand_over::<A>(&older, &new, false).iter().all(|it| *it == Inherited::Refused));
    assert_eq!(counts(&new)[1], counts(&old)[1]);
}

fn a_table_that_is_succeeded_carries_its_flows_and_begins_none<A: Family>(datapath: Datapath) {
    let mut scene = Scene::on(datapath);
    let outside = scene.translated::<A>(OUTWARDS, &call(), Reason::Masqueraded);
    scene.tables.config.flags |= ConfigFlags::SUCCEEDED;
    scene.becomes(OUTWARDS, &call(), Reason::Masqueraded, &outside);
    scene.becomes(INWARDS, &outside.reply(), Reason::MasqueradeReply, &call().reply());
    // These go to those that come after; here nobody does.
    scene.stays(INWARDS, &web::<A>(SYN), Reason::NoProgram);
    let other = call::<A>().from((A::inside(NET_A, 3), 6000));
    let (reason, after) = scene.run(OUTWARDS, &other);
    assert_eq!((reason, after), (Reason::NoProgram, other));
    scene.stays(INWARDS, &web::<A>(ACK).to((A::host(1), 22)), Reason::NotOurs);
    assert_eq!(scene.halves::<A>().len(), 2);
}

#[test]
fn a_packet_that_may_be_changed_is_judged_once() {
    for reason in Reason::ALL {
        let may_be_changed = changes(*reason) || reason.verdict() == Verdict::Redirect;
        assert!(!may_be_changed || reason.is_done(), "{reason:?}");
        assert!(!changes(plain(*reason)) || plain(*reason).is_done(), "{reason:?}");
    }
}
