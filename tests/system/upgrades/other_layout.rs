//! A build whose tables are laid out in another way takes over, and gives back, without a flow noticing.

use std::{
    collections::BTreeMap,
    fs,
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
    thread,
};

use netd_tests::{
    clients::{Connection, ask_by, fetch, udp_socket},
    condition::eventually,
    daemon::{binary, other_layout},
    family::Family,
    servers::{self, Server},
    topology::{World, at},
};

use crate::{
    fail_points::points,
    restarts::{Web, knowledge},
};

/// The folders of pins that there are.
fn folders(world: &World) -> Vec<String> {
    let entries = fs::read_dir(world.daemon.bpffs()).into_iter().flatten().flatten();
    let mut names: Vec<_> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort_unstable();
    names
}

/// The flows, with their addresses and ports on both sides: the original direction, and the replies.
fn flows(world: &World) -> BTreeMap<String, String> {
    let rows = world.netd("conntrack ls --json").json();
    let row = |row: &serde_json::Value| {
        let key = format!("{} {}", row["proto"], row["orig"]);
        (key, row["reply"].to_string())
    };
    rows.as_array().unwrap().iter().map(row).collect()
}

/// Connections of a container with the world, which go on all the time.
struct Outwards {
    connections: Vec<Connection>,
    sockets: Vec<std::net::UdpSocket>,
    _echo: Server,
}

impl Outwards {
    /// Those of a container in a world where the client answers at port 80.
    #[track_caller]
    fn new(world: &World, web: &Web) -> Self {
        let inside = &web.container.namespace;
        let echo = servers::udp_echo_at(&world.client, &Family::BOTH.map(Family::remote), 7);
        let connect = |family: Family| Connection::open(inside, at(family.remote(), 80));
        let socket = |family: Family| udp_socket(inside, at(family.remote(), 7)).unwrap();
        let mut this = Self {
            connections: Family::BOTH.map(connect).into(),
            sockets: Family::BOTH.map(socket).into(),
            _echo: echo,
        };
        this.check();
        this
    }

    #[track_caller]
    fn check(&mut self) {
        for (connection, family) in self.connections.iter_mut().zip(Family::BOTH) {
            assert_eq!(connection.fetch().client, family.host());
        }
        for (socket, family) in self.sockets.iter().zip(Family::BOTH) {
            assert_eq!(ask_by(socket, "hello").client, family.host());
        }
    }
}

#[test]
fn flows_keep_their_ports_over_another_layout_and_back() {
    let mut world = World::new();
    let mut web = Web::new(&world);
    let mut outwards = Outwards::new(&world, &web);
    let (mine, before) = (folders(&world), flows(&world));
    let known = knowledge(&world);
    let packets =
        |world: &World| world.netd("port ls web --json").json()[0]["packets"].as_u64().unwrap();
    web.check(&world);
    for (number, program) in (0..4).zip([other_layout(), binary()].iter().cycle()) {
        let carried = packets(&world);
        world.daemon.run_by(program.clone());
        if number < 2 {
            assert!(world.daemon.take_over().success());
        } else {
            world.daemon.kill();
            world.daemon.start();
        }
        let log = world.daemon.log();
        assert!(log.contains("the flows of another layout have been taken over"), "{log}");
        assert!(!log.contains("have no place"), "{log}");
        assert_eq!(folders(&world) == mine, number % 2 == 1, "{:?}", folders(&world));
        assert_eq!(folders(&world).len(), 1);
        assert!(packets(&world) >= carried, "counters begin afresh");
        web.check(&world);
        outwards.check();
        let after = flows(&world);
        for (flow, reply) in &before {
            assert_eq!(after.get(flow), Some(reply), "{flow}");
        }
        assert_eq!(knowledge(&world), known);
    }
    world.netd("port add web 8081:80").ok();
    for family in Family::BOTH {
        fetch(&world.client, at(family.host(), 8081));
    }
}

#[test]
fn connections_begin_while_another_layout_takes_over() {
    let mut world = World::new();
    let web = Web::new(&world);
    let (is_over, count) = (AtomicBool::new(false), AtomicU32::new(0));
    let (client, inside) = (&world.client, &web.container.namespace);
    let daemon = &mut world.daemon;
    thread::scope(|scope| {
        for family in Family::BOTH {
            for (from, to) in [(client, at(family.host(), 8080)), (inside, at(family.remote(), 80))]
            {
                let (is_over, count) = (&is_over, &count);
                scope.spawn(move || {
                    while !is_over.load(Ordering::Relaxed) {
                        fetch(from, to);
                        count.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        }
        for program in [other_layout(), binary(), other_layout(), binary()] {
            let before = count.load(Ordering::Relaxed);
            daemon.run_by(program);
            daemon.take_over();
            eventually("connections begin", || count.load(Ordering::Relaxed) > before + 8);
        }
        is_over.store(true, Ordering::Relaxed);
    });
    web.check_new_flows(&world);
}

#[test]
fn another_layout_is_taken_over_from_wherever_a_daemon_died_on_the_way() {
    let mut world = World::new();
    let mut web = Web::new(&world);
    let mut outwards = Outwards::new(&world, &web);
    let mine = folders(&world);
    let before = flows(&world);
    for (number, point) in (0..).zip(points()) {
        world.daemon.end();
        world.daemon.run_by(other_layout());
        world.daemon.spawn_to_fail(&format!("start:{point}"));
        let was_killed = !world.daemon.is_ready_or_ended();
        // What has begun goes on, daemon or not.
        web.check_old_flows();
        outwards.check();
        if was_killed && number % 2 == 0 {
            world.daemon.start();
            assert_eq!(folders(&world).len(), 1, "killed at step {point}");
            web.check(&world);
            outwards.check();
            world.daemon.end();
        }
        world.daemon.end();
        world.daemon.run_by(binary());
        world.daemon.start();
        assert_eq!(folders(&world), mine, "killed at step {point}");
        web.check(&world);
        outwards.check();
        let after = flows(&world);
        for (flow, reply) in &before {
            assert_eq!(after.get(flow), Some(reply), "{flow}, killed at step {point}");
        }
        if !was_killed {
            return;
        }
    }
}

#[test]
fn whatever_a_daemon_that_died_on_the_way_has_left_is_removed() {
    let mut world = World::new();
    let _web = Web::new(&world);
    world.daemon.end();
    world.daemon.run_by(other_layout());
    let mut both = 0;
    for point in points() {
        world.daemon.spawn_to_fail(&format!("start:{point}"));
        let was_killed = !world.daemon.is_ready_or_ended();
        world.daemon.end();
        both += u32::from(folders(&world).len() > 1);
        if both == 3 || !was_killed {
            break;
        }
    }
    assert_ne!(both, 0, "no daemon died on the way");
    world.netd(&format!("stop --detach {}", world.daemon.remains())).ok();
    assert!(!world.daemon.bpffs().exists(), "{:?}", folders(&world));
}
