//! `netd stop`, which leaves the data path, and `netd stop --detach`, which takes it away.

use std::{collections::BTreeSet, env, fs, iter, mem, path::Path};

use aya::programs::loaded_programs;
use netd_tests::{
    clients::{Connection, NoConnection, fetch, try_fetch},
    condition::eventually,
    family::Family,
    netns::{PINS_DIR, PINS_PREFIX, unique_name},
    servers,
    topology::{UPLINK, World, at},
};
use nix::{libc, sys::signal::Signal};

#[test]
fn stop_ends_the_daemon_and_no_traffic() {
    let mut world = World::new();
    world.network("front", 1, "");
    world.network("back", 2, "");
    world.route_client_to_containers(1);
    let web = world.container("web", "front", "-p 8080:80");
    let db = world.container("db", "back", "");
    let _inside = servers::nginx(&web.namespace, &[80]);
    let _outside = servers::nginx(&world.client, &[80]);
    let addresses = Family::BOTH.map(|family| world.address("web", family));
    let open = |family: Family| Connection::open(&world.client, at(family.host(), 8080));
    let mut connections = Family::BOTH.map(open);
    connections.iter_mut().for_each(|connection| drop(connection.fetch()));

    for stop in [(|world: &mut World| drop(world.netd("stop").ok())) as fn(&mut World), |world| {
        world.daemon.signal(Signal::SIGTERM)
    }] {
        stop(&mut world);
        assert!(world.daemon.wait().success());
        assert!(!world.daemon.socket().exists());
        assert_eq!(world.netd("network ls").status, Some(3));
        connections.iter_mut().for_each(|connection| drop(connection.fetch()));
        for (family, address) in Family::BOTH.into_iter().zip(addresses) {
            fetch(&world.client, at(family.host(), 8080));
            fetch(&world.host, at(family.loopback(), 8080));
            let page = fetch(&web.namespace, at(family.remote(), 80));
            assert_eq!(page.client, family.host());
            for from in [&world.client, &db.namespace] {
                let refused = try_fetch(from, at(address, 80));
                assert_eq!(refused, Err(NoConnection::TimedOut), "{}", from.name());
            }
        }
        world.daemon.start();
    }
}

/// Whether the kernel has none of these programs any more.
fn are_programs_gone(ids: &BTreeSet<(char, u32)>) -> bool {
    loaded_programs().flatten().all(|program| !ids.contains(&('p', program.id())))
}

/// The same of maps. None is opened: an array of programs is emptied whenever its last user goes, and the kernel
/// (`prog_array_map_clear`) keeps a map for ever whose last user goes twice meanwhile.
fn are_maps_gone(ids: &BTreeSet<(char, u32)>) -> bool {
    map_ids().all(|id| !ids.contains(&('m', id)))
}

/// The numbers of all maps in the kernel, in order.
fn map_ids() -> impl Iterator<Item = u32> {
    /// Of `enum bpf_cmd`.
    const MAP_GET_NEXT_ID: libc::c_int = 12;
    iter::successors(Some(0), |start_id| {
        // `start_id`, `next_id` and `open_flags` of `union bpf_attr`.
        let mut attributes = [*start_id, 0, 0];
        let size = mem::size_of_val(&attributes);
        // SAFETY: the kernel reads and writes that many bytes of the array.
        let result =
            unsafe { libc::syscall(libc::SYS_bpf, MAP_GET_NEXT_ID, attributes.as_mut_ptr(), size) };
        (result == 0).then_some(attributes[1])
    })
    .skip(1)
}

/// The programs and maps that belong to the devices and pins of a world.
fn ids_of(world: &World) -> BTreeSet<(char, u32)> {
    let mut ids = BTreeSet::new();
    let links = world.host.run("ip -json link").json();
    for link in links.as_array().unwrap() {
        for hook in ["ingress", "egress"] {
            let ifname = link["ifname"].as_str().unwrap();
            let filters = world.host.run(&format!("tc filter show dev {ifname} {hook}")).ok();
            let mut words = filters.split_whitespace();
            while words.any(|word| word == "id") {
                ids.extend(words.next().and_then(|id| id.parse().ok()).map(|id| ('p', id)));
            }
        }
    }
    let programs = loaded_programs().flatten().filter(|program| ids.contains(&('p', program.id())));
    let maps: Vec<u32> =
        programs.filter_map(|program| program.map_ids().ok().flatten()).flatten().collect();
    ids.extend(maps.into_iter().map(|id| ('m', id)));
    ids
}

/// Checks that nothing of netd is left, and that what was loaded for it is gone.
#[track_caller]
fn check_removed(world: &World, ids: &BTreeSet<(char, u32)>) {
    assert!(!world.daemon.bpffs().exists(), "pins are left");
    let links = world.host.run("ip -oneline link").ok();
    let names: Vec<_> = links.lines().filter_map(|line| line.split(": ").nth(1)).collect();
    assert_eq!(names.len(), 2, "lo and the uplink: {names:?}");
    for hook in ["ingress", "egress"] {
        let filters = world.host.run(&format!("tc filter show dev {UPLINK} {hook}")).ok();
        assert_eq!(filters, "", "{hook}");
    }
    eventually("the kernel has let go of programs", || are_programs_gone(ids));
    eventually("the kernel has let go of maps", || are_maps_gone(ids));
}

#[test]
fn detaching_removes_every_link_program_map_and_device() {
    let mut world = World::new();
    world.network("front", 1, "");
    let web = world.container("web", "front", "-p 8080:80");
    let _nginx = servers::nginx(&web.namespace, &[80]);
    fetch(&world.client, at(Family::V4.host(), 8080));
    let ids = ids_of(&world);
    assert!(ids.len() > 10, "{ids:?}");

    world.netd("stop --detach").ok();
    assert!(world.daemon.wait().success());
    check_removed(&world, &ids);
    assert!(!web.namespace.has_link("eth0"));
    for family in Family::BOTH {
        let refused = try_fetch(&world.host, at(family.loopback(), 8080));
        assert_eq!(refused, Err(NoConnection::Refused), "a socket hook is left");
    }

    // What the user asked for is kept, and the next daemon brings it about.
    world.daemon.start();
    for family in Family::BOTH {
        assert_eq!(fetch(&world.client, at(family.host(), 8080)).server, web.namespace.name());
    }
}

#[test]
fn what_a_dead_daemon_left_can_be_detached() {
    let mut world = World::new();
    world.network("front", 1, "");
    let web = world.container("web", "front", "-p 8080:80");
    let ids = ids_of(&world);
    let remains = world.daemon.remains();
    world.daemon.kill();
    world.netd(&format!("stop --detach {remains}")).ok();
    check_removed(&world, &ids);
    assert!(!web.namespace.has_link("eth0"));
    // Once more: there is nothing left to do, which is no error.
    world.netd(&format!("stop --detach {remains}")).ok();
}

#[test]
fn what_a_dead_daemon_left_can_be_detached_without_its_store() {
    let mut world = World::new();
    let file = world.daemon.state_dir().join("netd.redb");
    let remains = world.daemon.remains();
    for bad in [Some(&b"not a database"[..]), None] {
        world.network("front", 1, "");
        world.network("back", 2, "--bridge wall0");
        // Each network has a bridge, each container a link.
        let web = world.container("web", "front", "-p 8080:80");
        let _app = world.container("app", "back", "");
        // Devices of others, be they plugged into a bridge of netd's.
        world.host.ip(&[
            "link add br-0123456789ab type bridge",
            "link add guest type veth peer name veth0123456",
            "link set guest master wall0",
        ]);
        let ids = ids_of(&world);
        world.daemon.kill();
        let good = fs::read(&file).unwrap();
        match bad {
            Some(bad) => fs::write(&file, bad).unwrap(),
            None => fs::remove_file(&file).unwrap(),
        }
        let outcome = world.netd(&format!("stop --detach {remains}"));
        assert!(outcome.is_ok(), "{outcome}");
        let said = [file.to_str().unwrap(), "wall0", "that carried none"];
        assert!(said.iter().all(|words| outcome.stderr.contains(words)), "{outcome}");
        assert_eq!(fs::read(&file).ok().as_deref(), bad, "the store is not as it was");
        assert!(world.host.has_link("br-0123456789ab") && world.host.has_link("guest"));
        world.host.ip(&["link del br-0123456789ab", "link del guest"]);
        check_removed(&world, &ids);
        assert!(!web.namespace.has_link("eth0"));
        fs::write(&file, good).unwrap();
        world.daemon.start();
        for name in ["web", "app"] {
            let sandbox = world.endpoint(name)["sandbox"].as_str().unwrap().to_owned();
            let network = world.endpoint(name)["network"].as_str().unwrap().to_owned();
            world.netd(&format!("network disconnect {network} {sandbox}")).ok();
            world.netd(&format!("network rm {network}")).ok();
        }
    }
}

#[test]
fn detaching_by_the_wrong_directories_changes_nothing() {
    let mut world = World::new();
    world.network("front", 1, "");
    let web = world.container("web", "front", "-p 8080:80");
    let _nginx = servers::nginx(&web.namespace, &[80]);
    world.daemon.kill();
    let elsewhere = unique_name();
    let pins = Path::new(PINS_DIR).join(format!("{PINS_PREFIX}{elsewhere}"));
    let state = env::temp_dir().join(elsewhere);
    let (pins, state) = (pins.display(), state.display());
    let outcome = world.netd(&format!("stop --detach --bpffs {pins} --state-dir {state}"));
    assert!(outcome.stderr.contains("name the directories"), "{outcome}");
    assert!(outcome.is_ok(), "{outcome}");
    for family in Family::BOTH {
        fetch(&world.client, at(family.host(), 8080));
    }
    for place in [pins.to_string(), state.to_string()] {
        assert!(!Path::new(&place).exists(), "{place}");
    }
}

#[test]
fn detaching_without_a_daemon_does_not_pull_the_floor_from_one_that_runs() {
    let world = World::new();
    world.network("front", 1, "");
    let web = world.container("web", "front", "-p 8080:80");
    let _nginx = servers::nginx(&web.namespace, &[80]);
    let nowhere = "/nonexistent/netd.sock";
    let error =
        world.refused(&format!("stop --detach {} --socket {nowhere}", world.daemon.remains()));
    assert!(error.contains("another netd"), "{error}");
    fetch(&world.client, at(Family::V4.host(), 8080));
    assert!(Path::new(world.daemon.bpffs()).exists());
}
