//! Several daemons on one machine, each in a network namespace of its own.

use std::{fs, path::Path};

use netd_tests::{
    clients::{fetch, try_fetch},
    daemon::binary,
    family::Family,
    servers::{self, Server},
    topology::{Container, World, at},
};

const WORLDS: usize = 6;

#[test]
fn daemons_in_different_namespaces_do_not_disturb_each_other() {
    let mut worlds: Vec<World> = (0..WORLDS).map(|_| World::without_daemon("")).collect();
    // All at once: they share bpffs, the cgroup tree and the kernel's table of programs.
    worlds.iter_mut().for_each(|world| world.daemon.spawn(&[]));
    worlds.iter_mut().for_each(|world| world.daemon.wait_until_ready());
    // The same networks, addresses and ports everywhere.
    let webs: Vec<(Container, Server)> = worlds.iter().map(publish_web).collect();
    for (world, (web, _)) in worlds.iter().zip(&webs) {
        check(world, web);
    }
    worlds[0].netd("stop --detach").ok();
    worlds[1].netd("stop").ok();
    worlds[2].daemon.kill();
    for (world, (web, _)) in worlds.iter().zip(&webs).skip(1) {
        check(world, web);
    }
    assert!(try_fetch(&worlds[0].client, at(Family::V4.host(), 8080)).is_err());
}

fn publish_web(world: &World) -> (Container, Server) {
    world.network("front", 1, "");
    let web = world.container("web", "front", "-p 8080:80");
    let nginx = servers::nginx(&web.namespace, &[80]);
    (web, nginx)
}

#[track_caller]
fn check(world: &World, web: &Container) {
    for family in Family::BOTH {
        for (from, to) in [(&world.client, family.host()), (&world.host, family.loopback())] {
            assert_eq!(fetch(from, at(to, 8080)).server, web.namespace.name());
        }
    }
}

#[test]
fn a_second_daemon_with_the_same_host_state_or_socket_is_refused() {
    let world = World::new();
    world.network("front", 1, "");
    let web = world.container("web", "front", "-p 8080:80");
    let _nginx = servers::nginx(&web.namespace, &[80]);
    let own = |file: &str| world.daemon.socket().with_file_name(file).display().to_string();
    let bpffs = world.daemon.bpffs().display().to_string();
    let free_bpffs = format!("{bpffs}-free");
    let program = binary();
    for (namespace, bpffs, state, socket, refused_for) in [
        (&world.host, &free_bpffs, "free", "free.sock", "network namespace"),
        (&world.client, &bpffs, "free", "free.sock", bpffs.as_str()),
        (&world.client, &free_bpffs, "state", "free.sock", "state directory"),
        (&world.client, &free_bpffs, "free", "sock", "answers at"),
    ] {
        let places = format!("--state-dir {} --socket {}", own(state), own(socket));
        let line = format!("{} run {places} --bpffs {bpffs}", program.display());
        let outcome = namespace.run(&line);
        assert_eq!(outcome.status, Some(1), "{outcome}");
        assert!(outcome.stderr.contains("another netd"), "{outcome}");
        assert!(outcome.stderr.contains(refused_for), "{outcome}");
        check(&world, &web);
    }
    world.netd("network ls").ok();
    // A folder may have been made before the refusal; it has nothing in it then.
    if Path::new(&free_bpffs).exists() {
        fs::remove_dir(&free_bpffs).unwrap();
    }
}
