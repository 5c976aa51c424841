//! A daemon that is killed between any two steps of what it does.
//!
//! `NETD_FAIL_STRIDE` says how many steps apart the points are that are tried; `1` tries every one.

use std::{collections::BTreeSet, env};

use netd_tests::{
    clients::{Connection, fetch, try_fetch},
    family::Family,
    servers,
    topology::{UPLINK, World, at},
};

/// The points that an ordinary run of the tests passes over are those of other runs: the first one is random.
const STRIDE: u32 = 9;

/// More steps than any operation has.
const STEPS: u32 = 2_000;

/// What is typed, each line with the one that takes it back.
const OPERATIONS: [(&str, &str); 3] = [
    (
        "network create back --subnet 10.77.7.0/24 --subnet fd77:7::/64 -o strict_src=true",
        "network rm back",
    ),
    (
        "network connect front SANDBOX --name app -p 8081:80 -p 9000-9009:8000-8009/udp",
        "network disconnect front SANDBOX",
    ),
    ("port add web 8090:80 9500-9509:9000-9009/tcp", "port rm web 8090:80 9500-9509:9000-9009/tcp"),
];

/// What there is, by its names.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Shape {
    networks: String,
    endpoints: String,
    ports: Vec<(String, u64)>,
}

impl Shape {
    fn of(world: &World) -> Self {
        let rows = world.netd("port ls --json").json();
        let row = |row: &serde_json::Value| {
            (row["endpoint"].to_string(), row["host_port"].as_u64().unwrap())
        };
        Self {
            networks: world.netd("network ls -q").ok(),
            endpoints: world.netd("endpoint ls -q").ok(),
            ports: rows.as_array().unwrap().iter().map(row).collect(),
        }
    }
}

/// The devices of the host that netd makes, and those that it says it has.
fn devices(world: &World) -> [BTreeSet<String>; 2] {
    let names = |what: &str, field: &str| {
        let list = world.netd(&format!("{what} ls --json")).json();
        let name = |object: &serde_json::Value| object[field].as_str().unwrap().to_owned();
        list.as_array().unwrap().iter().map(name).collect::<Vec<_>>()
    };
    let said = names("network", "bridge").into_iter().chain(names("endpoint", "host_ifname"));
    let links = world.host.run("ip -json link show").json();
    let found = links.as_array().unwrap().iter().map(|link| link["ifname"].as_str().unwrap());
    let found = found.filter(|name| *name != "lo" && *name != UPLINK).map(str::to_owned);
    [said.collect(), found.collect()]
}

/// A container that publishes a port, whose connections go on all the time.
struct Witness {
    connections: [Connection; 2],
}

impl Witness {
    fn new(world: &World) -> Self {
        Self {
            connections: Family::BOTH
                .map(|family| Connection::open(&world.client, at(family.host(), 8080))),
        }
    }

    #[track_caller]
    fn check(&mut self, world: &World) {
        for (connection, family) in self.connections.iter_mut().zip(Family::BOTH) {
            connection.fetch();
            fetch(&world.client, at(family.host(), 8080));
            assert!(try_fetch(&world.client, at(family.host(), 8079)).is_err());
        }
    }
}

/// The steps to be tried.
pub(super) fn points() -> impl Iterator<Item = u32> {
    let stride = env::var("NETD_FAIL_STRIDE").ok().map_or(STRIDE, |text| text.parse().unwrap());
    let first = 1 + std::process::id() % stride;
    (first..STEPS).step_by(stride as usize)
}

#[test]
fn a_daemon_killed_between_two_steps_of_a_request_leaves_all_of_it_or_nothing() {
    let mut world = World::new();
    world.network("front", 1, "");
    let web = world.container("web", "front", "-p 8080:80");
    let _server = servers::nginx(&web.namespace, &[80]);
    let app = world.sandbox("app");
    let mut witness = Witness::new(&world);
    for (there, back) in OPERATIONS {
        let [there, back] = [there, back].map(|line| line.replace("SANDBOX", app.namespace.name()));
        for (line, undo) in [(&there, &back), (&back, &there)] {
            let before = Shape::of(&world);
            for point in points() {
                world.daemon.end();
                world.daemon.spawn_to_fail(&format!("request:{point}"));
                world.daemon.wait_until_ready();
                let was_killed = world.netd(line).status != Some(0);
                witness.check(&world);
                world.daemon.end();
                world.daemon.start();
                witness.check(&world);
                let [said, found] = devices(&world);
                assert_eq!(said, found, "{line}, killed at step {point}");
                let has_link = app.namespace.has_link("eth0");
                let is_connected = world.netd("endpoint ls -q").ok().contains("app");
                assert_eq!(has_link, is_connected, "{line}, killed at step {point}");
                let now = Shape::of(&world);
                if now != before {
                    world.netd(undo).ok();
                    assert_eq!(Shape::of(&world), before, "{line}, killed at step {point}");
                }
                if !was_killed {
                    assert_ne!(now, before, "{line} did nothing");
                    break;
                }
            }
            world.netd(line).ok();
        }
    }
}

#[test]
fn a_start_that_finds_everything_as_it_was_changes_nothing() {
    let mut world = World::new();
    for (number, network) in (1..).zip(["front", "back"]) {
        world.network(network, number, "");
    }
    let web = world.container("web", "front", "-p 8080:80 -p 9000-9009:8000-8009/udp");
    world.connect(&web, "back", "--name other").ok();
    let app = world.container("app", "back", "-p 8081:80");
    // The kernel is done with the bridges' own addresses then, and so is the daemon once it has started.
    world.settled_traces(&[&web, &app]);
    world.daemon.end();
    world.daemon.start();
    world.daemon.end();
    // It would end before the first step, whichever that is.
    world.daemon.spawn_to_fail("start:1");
    assert!(world.daemon.is_ready_or_ended(), "something is changed:\n{}", world.daemon.log());
}

#[test]
fn a_daemon_killed_between_two_steps_of_its_start_changes_nothing_and_the_next_one_starts() {
    let mut world = World::new();
    world.network("front", 1, "");
    let web = world.container("web", "front", "-p 8080:80");
    let _server = servers::nginx(&web.namespace, &[80]);
    let mut witness = Witness::new(&world);
    let before = Shape::of(&world);
    for point in points() {
        world.daemon.end();
        world.daemon.forget_programs();
        world.daemon.spawn_to_fail(&format!("start:{point}"));
        let was_killed = !world.daemon.is_ready_or_ended();
        witness.check(&world);
        if !was_killed {
            break;
        }
        world.daemon.start();
        witness.check(&world);
        assert_eq!(Shape::of(&world), before, "killed at step {point}");
        let [said, found] = devices(&world);
        assert_eq!(said, found, "killed at step {point}");
    }
}
