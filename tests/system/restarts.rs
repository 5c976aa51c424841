//! A daemon that is killed, and the next one.

use std::{collections::BTreeSet, fs};

use netd_tests::{
    clients::{Connection, NoConnection, fetch, pings, pings_at_once, try_fetch},
    condition::eventually,
    family::Family,
    netns::Namespace,
    process::Running,
    servers::{self, Server},
    topology::{Container, UPLINK, World, at, gateway},
};

/// A container `web` that publishes port 8080, and what goes on with it.
pub(super) struct Web {
    pub(super) container: Container,
    connections: Vec<Connection>,
    _servers: [Server; 2],
}

impl Web {
    #[track_caller]
    pub(super) fn new(world: &World) -> Self {
        world.network("front", 1, "");
        let container = world.container("web", "front", "-p 8080:80 -p 9000-9009:8000-8009");
        let servers = [
            servers::nginx(&container.namespace, &[80, 8005]),
            servers::nginx(&world.client, &[80]),
        ];
        let open = |family: Family| Connection::open(&world.client, at(family.host(), 8080));
        Self { container, connections: Family::BOTH.map(open).into(), _servers: servers }
    }

    /// Checks that everything is reached as before and that the old connections have gone on.
    #[track_caller]
    pub(super) fn check(&mut self, world: &World) {
        self.check_old_flows();
        self.check_new_flows(world);
    }

    #[track_caller]
    pub(super) fn check_old_flows(&mut self) {
        self.connections.iter_mut().for_each(|connection| drop(connection.fetch()));
    }

    #[track_caller]
    pub(super) fn check_new_flows(&self, world: &World) {
        for family in Family::BOTH {
            let page = fetch(&world.client, at(family.host(), 8080));
            assert_eq!(page.server, self.container.namespace.name());
            assert_eq!(fetch(&world.client, at(family.host(), 9005)).port, 8005);
            let page = fetch(&self.container.namespace, at(family.remote(), 80));
            assert_eq!(page.client, family.host());
            let page = fetch(&world.host, at(family.loopback(), 8080));
            assert_eq!(page.server, self.container.namespace.name());
            let closed = try_fetch(&world.client, at(family.host(), 80));
            assert_eq!(closed, Err(NoConnection::Refused));
        }
    }
}

/// What netd knows, without the counters.
pub(super) fn knowledge(world: &World) -> String {
    let ls = |what: &str| world.netd(&format!("{what} ls --json")).ok();
    ls("network") + &world.netd("endpoint ls").ok()
}

#[test]
fn a_killed_daemon_changes_nothing_and_the_next_one_takes_over() {
    let mut world = World::new();
    let mut web = Web::new(&world);
    world.network("back", 2, "");
    world.netd("network allow front back").ok();
    web.check(&world);
    let known = knowledge(&world);
    for _ in 0..2 {
        world.daemon.kill();
        web.check(&world);
        world.daemon.start();
        web.check(&world);
        assert_eq!(knowledge(&world), known);
        let rows = world.netd("port ls web --json").json();
        assert!(rows[0]["packets"].as_u64().unwrap() > 20, "counters begin afresh: {rows}");
    }
    assert!(world.flows() > 4);
    world.netd("port add web 8081:80").ok();
    for family in Family::BOTH {
        fetch(&world.client, at(family.host(), 8081));
    }
}

#[test]
fn what_was_destroyed_meanwhile_is_made_again() {
    let mut world = World::new();
    let web = Web::new(&world);
    let known = knowledge(&world);
    let bridge = world.netd("network inspect front --json").json()[0]["bridge"].take();
    let bridge = bridge.as_str().unwrap();
    let pins = world.daemon.bpffs().join(format!("v{}", netd_common::ABI_VERSION));
    let program = || pins.join("progs").join(fs::read_link(pins.join("progs/current")).unwrap());
    let cases = [
        &["bridge"][..],
        &["link"],
        &["pins"],
        &["map"],
        &["program"],
        &["bridge", "link", "pins"],
    ];
    for destroyed in cases {
        world.daemon.kill();
        for thing in destroyed {
            match *thing {
                "bridge" => world.host.ip(&[&format!("link del {bridge}")]),
                "link" => {
                    let ifname = world.host_ifname(&web.container).unwrap();
                    world.host.ip(&[&format!("link del {ifname}")]);
                }
                "map" => fs::remove_file(pins.join("maps/NETWORKS")).unwrap(),
                "program" => fs::remove_file(program().join("to_uplink")).unwrap(),
                _ => fs::remove_dir_all(world.daemon.bpffs()).unwrap(),
            }
        }
        world.daemon.start();
        assert_eq!(knowledge(&world), known, "without {destroyed:?}");
        let links = world.host.run("ip -oneline link show type veth").ok();
        assert!(links.contains(bridge), "without {destroyed:?}: {links}");
        web.check_new_flows(&world);
    }
}

#[test]
fn a_device_of_somebody_else_is_not_taken_for_our_own() {
    let mut world = World::new();
    let _web = Web::new(&world);
    let bridge = world.netd("network inspect front --json").json()[0]["bridge"].take();
    let bridge = bridge.as_str().unwrap();
    world.daemon.kill();
    // A device that has nothing of a bridge but the name.
    world
        .host
        .ip(&[&format!("link del {bridge}"), &format!("link add {bridge} type veth peer other")]);
    world.daemon.spawn(&[]);
    eventually("somebody is told", || {
        let log = world.daemon.log();
        log.lines().any(|line| line.contains(bridge) && !line.contains("INFO"))
    });
    let addresses =
        world.host.run(&format!("ip -oneline address show dev {bridge} scope global")).ok();
    assert_eq!(addresses, "");
}

/// The classifiers on a device, each with its program's number.
fn classifiers(world: &World, ifname: &str) -> String {
    let on = |place| world.host.run(&format!("tc filter show dev {ifname} {place}")).ok();
    on("ingress") + &on("egress")
}

#[test]
fn a_daemon_of_the_same_build_leaves_the_programs_that_it_finds() {
    let mut world = World::new();
    let mut web = Web::new(&world);
    let veth = world.host_ifname(&web.container).unwrap();
    let bridge = world.netd("network inspect front --json").json()[0]["bridge"].take();
    let devices = [UPLINK, &veth, bridge.as_str().unwrap()];
    let before = devices.map(|device| classifiers(&world, device));
    assert!(before.iter().all(|found| found.matches(" id ").count() == 2), "{before:?}");
    world.daemon.kill();
    world.daemon.start();
    assert_eq!(devices.map(|device| classifiers(&world, device)), before);
    // What somebody has taken away meanwhile is put back, by the same programs.
    world.daemon.kill();
    world.host.run(&format!("tc qdisc del dev {veth} clsact")).ok();
    world.daemon.start();
    assert_eq!(devices.map(|device| classifiers(&world, device)), before);
    web.check(&world);
    // So is a half of them, and what somebody else has put in its place.
    world.daemon.kill();
    world.host.run(&format!("tc filter del dev {veth} ingress")).ok();
    world.daemon.start();
    assert_eq!(devices.map(|device| classifiers(&world, device)), before);
    web.check(&world);
}

#[test]
fn a_link_that_is_deleted_while_the_daemon_runs_is_made_again() {
    let world = World::new();
    let web = Web::new(&world);
    let ifname = world.host_ifname(&web.container).unwrap();
    world.host.ip(&[&format!("link del {ifname}")]);
    eventually("the container is reached again", || {
        try_fetch(&world.client, at(Family::V4.host(), 8080)).is_ok()
    });
    web.check_new_flows(&world);
}

#[test]
fn containers_send_by_a_bridge_that_is_made_again_as_by_the_old_one() {
    let world = World::new();
    let web = Web::new(&world);
    let bridge = world.netd("network inspect front --json").json()[0]["bridge"].take();
    let bridge = bridge.as_str().unwrap();
    let gateways = Family::BOTH.map(|family| gateway(family, 1).parse().unwrap());
    for gateway in gateways {
        assert!(pings(&web.container.namespace, gateway));
    }
    world.host.ip(&[&format!("link del {bridge}")]);
    for gateway in gateways {
        // The container remembers the MAC address that the gateway has had.
        eventually(&format!("{gateway} answers"), || {
            pings_at_once(&web.container.namespace, gateway)
        });
    }
}

#[test]
fn the_mac_address_of_a_bridge_is_put_back() {
    const OTHER: &str = "02:00:5e:10:00:01";
    let mut world = World::new();
    let mut web = Web::new(&world);
    let bridge = world.netd("network inspect front --json").json()[0]["bridge"].take();
    let bridge = bridge.as_str().unwrap();
    let link = || world.host.run(&format!("ip -json link show dev {bridge}")).json();
    let mac = link()[0]["address"].as_str().unwrap().to_owned();
    let change = format!("link set {bridge} address {OTHER}");
    // As whatever the host asks for with the other one teaches them.
    let learned = Family::BOTH.map(|family| {
        let gateway = gateway(family, 1);
        format!("neigh replace {gateway} lladdr {OTHER} dev eth0 nud reachable")
    });
    web.container.namespace.ip(&learned.each_ref().map(String::as_str));
    world.host.ip(&[&change]);
    eventually("the containers' gateway has its MAC address", || link()[0]["address"] == *mac);
    let said = || world.daemon.log().matches("bridge's MAC address set again").count();
    assert_eq!(said(), 1);
    for family in Family::BOTH {
        assert!(pings_at_once(&web.container.namespace, family.client()), "{family}");
    }
    web.check(&world);

    world.daemon.kill();
    world.host.ip(&[&change]);
    world.daemon.start();
    let link = world.host.run(&format!("ip -json link show dev {bridge}")).json();
    assert_eq!(link[0]["address"], *mac);
    web.check(&world);
}

#[test]
fn a_sandbox_that_went_while_no_daemon_ran_is_forgotten() {
    let mut world = World::new();
    world.network("front", 1, "");
    let gone = world.container("gone", "front", "-p 8080:80");
    let stays = world.container("stays", "front", "-p 8081:80");
    world.daemon.kill();
    let ifname = world.host_ifname(&gone).unwrap();
    drop(gone);
    eventually("its link is gone", || !world.host.has_link(&ifname));
    world.daemon.start();
    assert_eq!(world.netd("endpoint ls -q").ok(), "stays\n");
    world.netd("port add stays 8080:80").ok();
    for family in Family::BOTH {
        assert!(pings(&stays.namespace, family.remote()));
    }
}

/// Whether a connect has come this far; the number is that of the host's links before it.
type Sign = fn(&World, &Container, usize) -> bool;

#[test]
fn a_daemon_killed_while_it_connects_leaves_nothing_half_done() {
    let mut world = World::new();
    world.network("front", 1, "");
    // What the sandbox or the host shows of the work, from its beginning to its end.
    let signs: [(&str, Sign); 5] = [
        ("request", |_, _, _| true),
        ("link", |world, _, links| table(&world.host, "dev").lines().count() > links),
        ("device", |_, container, _| table(&container.namespace, "dev").contains("eth0")),
        ("address", |_, container, _| table(&container.namespace, "route").contains("eth0")),
        ("default-route", |_, container, _| {
            table(&container.namespace, "route").contains("00000000\t01014D0A")
        }),
    ];
    let containers = signs.map(|(name, _)| world.sandbox(name));
    for ((name, is_there), container) in signs.into_iter().zip(&containers) {
        let sandbox = container.namespace.name();
        let line = format!("network connect front {sandbox} --name {name} -p 80");
        let links = table(&world.host, "dev").lines().count();
        let mut connecting = world.daemon.begin(&line);
        while !is_there(&world, container, links) && connecting.status().is_none() {}
        world.daemon.kill();
        connecting.wait();
        world.daemon.start();
        let is_connected = world.netd("endpoint ls -q").ok().lines().any(|line| line == name);
        let has_links =
            (container.namespace.has_link("eth0"), world.host_ifname(container).is_some());
        assert_eq!(has_links, (is_connected, is_connected), "killed at the {name}");
        if !is_connected {
            world.connect(container, "front", "").ok();
        }
        for family in Family::BOTH {
            let reaches = pings(&world.host, world.address(name, family));
            assert!(reaches, "killed at the {name}, connected: {is_connected}");
            let reaches = pings(&container.namespace, family.remote());
            assert!(reaches, "killed at the {name}, connected: {is_connected}");
        }
    }
}

#[test]
fn a_daemon_killed_during_many_changes_has_all_that_it_has_granted() {
    let mut world = World::new();
    let mut granted = BTreeSet::new();
    for round in 1..=3 {
        let names = (0..12).map(|number| format!("n{round}-{number}"));
        let mut asked: Vec<(String, Running)> = names
            .map(|name| (name.clone(), world.daemon.begin(&format!("network create {name}"))))
            .collect();
        eventually("some are granted", || {
            asked.iter_mut().filter_map(|(_, client)| client.status()).count() >= 2 * round
        });
        world.daemon.kill();
        let is_granted =
            |(name, client): &mut (String, Running)| client.wait().success().then(|| name.clone());
        granted.extend(asked.iter_mut().filter_map(is_granted));
        world.daemon.start();
        let networks = world.netd("network ls --json").json();
        let networks = networks.as_array().unwrap();
        let names: BTreeSet<String> =
            networks.iter().map(|network| network["name"].as_str().unwrap().to_owned()).collect();
        assert!(names.is_superset(&granted), "{granted:?}, and there are {names:?}");
        let bridges = world.host.run("ip -oneline link show type bridge").ok();
        assert_eq!(bridges.lines().count(), networks.len(), "{bridges}");
    }
    assert!(granted.len() >= 12, "{granted:?}");
}

#[test]
fn a_daemon_killed_while_it_disconnects_leaves_a_way_out() {
    let mut world = World::new();
    world.network("back", 1, "");
    world.network("front", 2, "");
    let app = world.container("app", "front", "");
    let sandbox = app.namespace.name();
    let disconnect = format!("network disconnect back {sandbox}");
    for _ in 0..5 {
        // By its name, this network is the way out of the two.
        world.connect(&app, "back", "--name app-back").ok();
        let before = world.daemon.log().matches("endpoint disconnected").count();
        let mut disconnecting = world.daemon.begin(&disconnect);
        while world.daemon.log().matches("endpoint disconnected").count() == before
            && disconnecting.status().is_none()
        {}
        world.daemon.kill();
        disconnecting.wait();
        world.daemon.start();
        for family in Family::BOTH {
            assert!(pings_at_once(&app.namespace, family.remote()), "{family}");
        }
        let _ = world.netd(&disconnect);
    }
}

/// A table of the kernel's, such as `dev` or `route`, as a namespace sees it.
fn table(namespace: &Namespace, name: &str) -> String {
    let path = format!("/proc/thread-self/net/{name}");
    namespace.inside(|| fs::read_to_string(path)).unwrap()
}
