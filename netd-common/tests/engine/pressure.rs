//! Who has a place in the table: limits, a table that runs full, and what other CPUs do meanwhile.

use netd_common::{
    conntrack::{CtFlags, Scope},
    counters::{FlowCount, YOUNG_FLOWS},
    engine::{self, Expiry},
    reason::Reason,
    tables::Tables as _,
};

use crate::{
    family::{Family, in_both_datapaths},
    message::{ACK, Kind, Message, RST, SYN},
    place::{INWARDS, OUTWARDS, slot},
    scene::{DNS, Datapath, NET_A, NET_B, Scene, WEB},
};

in_both_datapaths! {
    an_endpoint_has_no_more_flows_than_it_may,
    a_network_has_no_more_flows_than_it_may,
    flows_that_end_make_room_below_a_limit,
    a_full_table_gives_the_place_of_the_oldest_flow_that_is_not_set_up,
    a_full_table_keeps_what_is_set_up,
    a_flood_leaves_set_up_flows_and_new_ones_alone,
    the_fuller_the_table_the_shorter_a_flow_lives_that_is_not_set_up,
    without_tcp_loose_nothing_is_picked_up,
    a_forged_reset_does_not_end_a_connection_in_use,
    repeated_resets_and_syns_keep_nothing_alive,
    a_flow_that_another_cpu_ends_is_counted_once,
    a_flow_that_another_cpu_begins_is_counted_once,
    a_flow_that_is_refreshed_while_it_is_judged_lives,
}

/// A message of the `n`th client to a published port.
fn web<A: Family>(n: u16, flags: u8) -> Message<A> {
    Message::new(
        Kind::Tcp(flags),
        (A::outside((n >> 8) as u8), 40_000 + (n & 0xff)),
        (A::host(1), WEB),
    )
}

fn answer<A: Family>(n: u16, flags: u8) -> Message<A> {
    web::<A>(n, flags).to((A::inside(NET_A, 2), 80)).reply().with_kind(Kind::Tcp(flags))
}

fn call<A: Family>(network: u16, container: u8, port: u16) -> Message<A> {
    Message::new(Kind::Udp, (A::inside(network, container), port), (A::outside(9), 53))
}

fn open<A: Family>(scene: &Scene, n: u16) {
    scene.translated::<A>(INWARDS, &web(n, SYN), Reason::Published);
    scene.translated::<A>(OUTWARDS, &answer(n, SYN | ACK), Reason::PublishedReply);
    scene.translated::<A>(INWARDS, &web(n, ACK), Reason::Published);
}

fn live<A: Family>(scene: &Scene) -> u32 {
    let live = scene.tables.flow_count(A::FLOW_COUNTS.live);
    assert_eq!(scene.halves::<A>().len(), 2 * live as usize);
    live
}

fn with_room_for(datapath: Datapath, flows: u32) -> Scene {
    let mut scene = Scene::on(datapath);
    scene.tables.config.max_flows = flows;
    scene
}

fn an_endpoint_has_no_more_flows_than_it_may<A: Family>(datapath: Datapath) {
    let mut scene = Scene::on(datapath);
    scene.tables.flow_limits.insert(slot(NET_A, 2), 2);
    scene.translated::<A>(OUTWARDS, &call(NET_A, 2, 1), Reason::Masqueraded);
    scene.translated::<A>(INWARDS, &web(1, SYN), Reason::Published);
    scene.stays::<A>(OUTWARDS, &call(NET_A, 2, 2), Reason::EndpointFlowLimit);
    scene.stays::<A>(INWARDS, &web(2, SYN), Reason::EndpointFlowLimit);
    // What there is goes on, and so does a neighbour.
    scene.translated::<A>(OUTWARDS, &call(NET_A, 2, 1), Reason::Masqueraded);
    scene.translated::<A>(OUTWARDS, &call(NET_A, 3, 2), Reason::Masqueraded);
    assert_eq!(live::<A>(&scene), 3);
}

fn a_network_has_no_more_flows_than_it_may<A: Family>(datapath: Datapath) {
    let mut scene = Scene::on(datapath);
    scene.tables.flow_limits.insert(FlowCount::of_network(NET_A), 2);
    scene.translated::<A>(OUTWARDS, &call(NET_A, 2, 1), Reason::Masqueraded);
    scene.translated::<A>(OUTWARDS, &call(NET_A, 3, 1), Reason::Masqueraded);
    scene.stays::<A>(OUTWARDS, &call(NET_A, 3, 2), Reason::NetworkFlowLimit);
    scene.stays::<A>(INWARDS, &web(1, SYN), Reason::NetworkFlowLimit);
    scene.translated::<A>(OUTWARDS, &call(NET_B, 2, 2), Reason::Masqueraded);
    assert_eq!(live::<A>(&scene), 3);
}

fn flows_that_end_make_room_below_a_limit<A: Family>(datapath: Datapath) {
    let mut scene = Scene::on(datapath);
    scene.tables.flow_limits.insert(slot(NET_A, 2), 1);
    for is_forced in [false, true, false] {
        scene.translated::<A>(OUTWARDS, &call(NET_A, 2, 1), Reason::Masqueraded);
        scene.stays::<A>(OUTWARDS, &call(NET_A, 2, 2), Reason::EndpointFlowLimit);
        if !is_forced {
            scene.wait(30);
        }
        let (key, _) = scene.halves::<A>()[0];
        assert_eq!(engine::expire(&scene.tables, &key, is_forced), Expiry::Removed);
        assert_eq!(live::<A>(&scene), 0);
        assert_eq!(scene.tables.flow_count(slot(NET_A, 2)), 0);
        assert_eq!(scene.tables.flow_count(FlowCount::of_network(NET_A)), 0);
    }
}

fn a_full_table_gives_the_place_of_the_oldest_flow_that_is_not_set_up<A: Family>(
    datapath: Datapath,
) {
    let scene = with_room_for(datapath, 3);
    open::<A>(&scene, 0);
    scene.translated::<A>(INWARDS, &web(1, SYN), Reason::Published);
    scene.translated::<A>(INWARDS, &web(2, SYN), Reason::Published);
    scene.translated::<A>(INWARDS, &web(3, SYN), Reason::Published);
    assert_eq!(live::<A>(&scene), 3);
    assert_eq!(scene.tables.flow_count(A::FLOW_COUNTS.displaced), 1);
    let clients: Vec<u16> = scene
        .halves::<A>()
        .iter()
        .filter(|(key, _)| key.scope == Scope::Uplink as u8)
        .map(|(key, _)| key.sport.number() - 40_000)
        .collect();
    assert!([0, 2, 3].iter().all(|n| clients.contains(n)), "{clients:?}");
}

fn a_full_table_keeps_what_is_set_up<A: Family>(datapath: Datapath) {
    let scene = with_room_for(datapath, 3);
    (0..3).for_each(|n| open::<A>(&scene, n));
    for _ in 0..3 {
        scene.stays::<A>(INWARDS, &web(3, SYN), Reason::ConntrackFull);
        scene.stays::<A>(OUTWARDS, &call(NET_A, 2, 1), Reason::ConntrackFull);
    }
    (0..3).for_each(|n| drop(scene.translated::<A>(INWARDS, &web(n, ACK), Reason::Published)));
    // Closing, it gives way, once expiry has found it.
    scene.translated::<A>(INWARDS, &web(1, RST), Reason::Published);
    scene.wait(5);
    for (key, _) in scene.halves::<A>() {
        engine::expire(&scene.tables, &key, false);
    }
    scene.translated::<A>(INWARDS, &web(3, SYN), Reason::Published);
    assert_eq!(live::<A>(&scene), 3);
}

fn a_flood_leaves_set_up_flows_and_new_ones_alone<A: Family>(datapath: Datapath) {
    let scene = with_room_for(datapath, 100);
    (0..20).for_each(|n| open::<A>(&scene, n));
    for n in 1000..6000 {
        scene.translated::<A>(INWARDS, &web(n, SYN), Reason::Published);
        if n % 100 == 0 {
            // A new client, and a container that asks somebody outside.
            open::<A>(&scene, 20 + n / 100 % 10);
            let outside = scene.translated::<A>(OUTWARDS, &call(NET_B, 2, n), Reason::Masqueraded);
            scene.translated(INWARDS, &outside.reply(), Reason::MasqueradeReply);
        }
    }
    (0..30).for_each(|n| drop(scene.translated::<A>(INWARDS, &web(n, ACK), Reason::Published)));
    assert_eq!(live::<A>(&scene), 100);
    assert!(scene.tables.flow_count(A::FLOW_COUNTS.displaced) > 4_900);
    assert!(scene.tables.flow_count(A::FLOW_COUNTS.begun) < YOUNG_FLOWS);
}

fn the_fuller_the_table_the_shorter_a_flow_lives_that_is_not_set_up<A: Family>(datapath: Datapath) {
    // One flow in a table of so many; an unanswered SYN has 120 seconds.
    for (room, secs) in [(2, 120), (1, 5)] {
        let scene = with_room_for(datapath, room);
        scene.translated::<A>(INWARDS, &web(1, SYN), Reason::Published);
        let (key, _) = scene.halves::<A>()[0];
        scene.wait(secs - 1);
        assert_eq!(engine::expire(&scene.tables, &key, false), Expiry::Live, "{room}");
        scene.wait(1);
        assert_eq!(engine::expire(&scene.tables, &key, false), Expiry::Removed, "{room}");
    }
    // Three of four.
    let scene = with_room_for(datapath, 4);
    (1..4).for_each(|n| drop(scene.translated::<A>(INWARDS, &web(n, SYN), Reason::Published)));
    let (key, _) = scene.halves::<A>()[0];
    scene.wait(59);
    assert_eq!(engine::expire(&scene.tables, &key, false), Expiry::Live);
    scene.wait(1);
    assert_eq!(engine::expire(&scene.tables, &key, false), Expiry::Removed);
    // What is set up has its time.
    let scene = with_room_for(datapath, 1);
    open::<A>(&scene, 1);
    scene.wait(431_999);
    let (key, _) = scene.halves::<A>()[0];
    assert_eq!(engine::expire(&scene.tables, &key, false), Expiry::Live);
}

fn without_tcp_loose_nothing_is_picked_up<A: Family>(datapath: Datapath) {
    for is_loose in [true, false] {
        let mut scene = Scene::on(datapath);
        if !is_loose {
            scene.tables.config.flags &= !netd_common::config::ConfigFlags::TCP_LOOSE;
        }
        let call = call::<A>(NET_A, 2, 5000).with_kind(Kind::Tcp(ACK));
        if is_loose {
            scene.translated::<A>(INWARDS, &web(1, ACK), Reason::Published);
            scene.translated(OUTWARDS, &call, Reason::Masqueraded);
        } else {
            scene.stays::<A>(INWARDS, &web(1, ACK), Reason::NotOurs);
            scene.stays(OUTWARDS, &call, Reason::NoFlow);
        }
        // Neither begins with what is neither a SYN nor a lone ACK.
        for flags in [SYN | ACK, RST, RST | ACK, 1 | ACK, 0] {
            scene.stays::<A>(INWARDS, &web(2, flags), Reason::NotOurs);
            let call = call.from((call.src.0, 5001)).with_kind(Kind::Tcp(flags));
            scene.stays(OUTWARDS, &call, Reason::NoFlow);
        }
    }
}

fn a_forged_reset_does_not_end_a_connection_in_use<A: Family>(datapath: Datapath) {
    for is_outside in [true, false] {
        let scene = Scene::on(datapath);
        open::<A>(&scene, 1);
        scene.wait(1);
        if is_outside {
            scene.translated::<A>(INWARDS, &web(1, RST), Reason::Published);
            scene.wait(9);
            scene.translated::<A>(INWARDS, &web(1, ACK), Reason::Published);
        } else {
            scene.translated::<A>(OUTWARDS, &answer(1, RST), Reason::PublishedReply);
            scene.wait(9);
            scene.translated::<A>(OUTWARDS, &answer(1, ACK), Reason::PublishedReply);
        }
        scene.wait(431_999);
        scene.translated::<A>(INWARDS, &web(1, ACK), Reason::Published);
        assert!(scene.halves::<A>().iter().all(|half| half.1.created_secs == 1_000));
    }
}

fn repeated_resets_and_syns_keep_nothing_alive<A: Family>(datapath: Datapath) {
    let scene = Scene::on(datapath);
    open::<A>(&scene, 1);
    scene.translated::<A>(INWARDS, &web(1, RST), Reason::Published);
    scene.wait(9);
    scene.translated::<A>(INWARDS, &web(1, RST), Reason::Published);
    scene.wait(1);
    scene.stays::<A>(INWARDS, &web(1, RST), Reason::NotOurs);

    scene.translated::<A>(INWARDS, &web(2, SYN), Reason::Published);
    scene.wait(119);
    scene.translated::<A>(INWARDS, &web(2, SYN), Reason::Published);
    scene.wait(1);
    scene.stays::<A>(OUTWARDS, &answer(2, SYN | ACK), Reason::NoFlow);
}

fn a_flow_that_another_cpu_ends_is_counted_once<A: Family>(datapath: Datapath) {
    // Between the halves of one in the making; and between its making and its first use.
    let scene = Scene::on(datapath);
    let end_all = |tables: &crate::tables::HostTables| {
        let keys: Vec<_> = A::store(tables).flows.borrow().keys().copied().collect();
        for key in keys {
            engine::expire(tables, &key, true);
        }
    };
    *scene.tables.after_insertion.borrow_mut() = Some(Box::new(end_all));
    scene.stays::<A>(INWARDS, &web(1, SYN), Reason::ConntrackRace);
    assert_eq!(live::<A>(&scene), 0);
    // Two CPUs that expire the same flow, by one half each.
    scene.translated::<A>(INWARDS, &web(1, SYN), Reason::Published);
    let halves = scene.halves::<A>();
    let removed =
        halves.iter().map(|(key, _)| engine::expire(&scene.tables, key, true)).collect::<Vec<_>>();
    assert_eq!(removed, [Expiry::Removed, Expiry::Gone]);
    assert_eq!(live::<A>(&scene), 0);
}

fn a_flow_that_another_cpu_begins_is_counted_once<A: Family>(datapath: Datapath) {
    // The other CPU runs wholly between this one's two insertions, and takes another source port.
    let scene = Scene::on(datapath);
    let call = call::<A>(NET_A, 2, 5000);
    let original = scene.translated(OUTWARDS, &call, Reason::Masqueraded);
    let theirs = scene.halves::<A>();
    A::store(&scene.tables).flows.borrow_mut().clear();
    scene.tables.flow_counts.borrow_mut().clear();
    *scene.tables.between_halves.borrow_mut() = Some(Box::new(move |tables| {
        for (key, entry) in theirs {
            if entry.flags & CtFlags::REPLY == 0 {
                let half = Box::leak(Box::new(std::cell::Cell::new(entry)));
                A::store(tables).flows.borrow_mut().insert(key, half);
            }
        }
        // What the other CPU has counted.
        for index in [slot(NET_A, 2), FlowCount::of_network(NET_A), A::FLOW_COUNTS.live] {
            tables.add_to_flow_count(index, 1);
        }
    }));
    assert_eq!(scene.run(OUTWARDS, &call).1, original);
    assert_eq!(scene.tables.flow_count(A::FLOW_COUNTS.live), 1);
    assert_eq!(scene.tables.flow_count(slot(NET_A, 2)), 1);
}

/// The daemon names a flow that a packet refreshes before the kernel looks again.
fn a_flow_that_is_refreshed_while_it_is_judged_lives<A: Family>(datapath: Datapath) {
    let scene = Scene::on(datapath);
    let query = Message::<A>::new(Kind::Udp, (A::outside(7), 1), (A::host(1), DNS));
    scene.translated::<A>(INWARDS, &query, Reason::Published);
    let (key, _) = scene.halves::<A>()[0];
    scene.wait(29);
    scene.translated::<A>(INWARDS, &query, Reason::Published);
    scene.wait(1);
    assert_eq!(engine::expire(&scene.tables, &key, false), Expiry::Live);
    assert_eq!(live::<A>(&scene), 1);
}
