//! Another netd in the place of the one that runs, and pins that are another's.

mod other_layout;

use std::{
    fs::{self, File},
    iter,
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use netd_common::ABI_VERSION;
use netd_tests::{
    condition::now, daemon::binary, family::Family, process::run_in, topology::World,
};
use nix::fcntl::{Flock, FlockArg};

use crate::restarts::{Web, knowledge};

/// The folder of the pins of a version.
fn pins(world: &World, version: u32) -> PathBuf {
    world.daemon.bpffs().join(format!("v{version}"))
}

/// Where a pin is of no use to anybody.
fn aside(world: &World) -> PathBuf {
    world.daemon.bpffs().join("aside")
}

/// The command line of a daemon in the place of the world's.
fn run(world: &World) -> String {
    format!("run {} --config {}", world.daemon.remains(), world.daemon.config().display())
}

#[test]
fn a_daemon_takes_over_from_the_one_that_runs() {
    let mut world = World::new();
    let mut web = Web::new(&world);
    let known = knowledge(&world);
    let first = world.daemon.pid();
    assert!(world.daemon.take_over().success());
    assert_ne!(world.daemon.pid(), first);
    assert_eq!(knowledge(&world), known);
    web.check(&world);
    // One that has begun a request finishes it.
    let mut connect = world.daemon.begin("network create back --subnet 10.9.0.0/24");
    assert!(world.daemon.take_over().success());
    let answered = connect.wait().success();
    let created = world.netd("network inspect back").is_ok();
    assert!(created || !answered, "an answer was given for what was not done");
    web.check(&world);
}

#[test]
fn clients_wait_for_a_daemon_that_takes_over_and_for_no_other() {
    let mut world = World::new();
    let (host, socket) = (world.host.path().to_owned(), world.daemon.socket());
    let ask = || {
        let socket = socket.to_string_lossy();
        let line = ["network", "ls", "--socket", &socket];
        run_in(&host, &binary().to_string_lossy(), &line, "")
    };
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let asked = iter::from_fn(|| (!is_over.load(Ordering::Relaxed)).then(ask));
            // One that the old daemon has not answered may have been heard all the same.
            asked.filter(|outcome| outcome.status == Some(3)).count()
        });
        for _ in 0..3 {
            assert!(world.daemon.take_over().success());
        }
        is_over.store(true, Ordering::Relaxed);
        assert_eq!(asking.join().unwrap(), 0, "clients that nobody answered at the socket");
    });
    let mark = socket.with_file_name("sock.takeover");
    assert!(!mark.exists());

    // A daemon that comes late, and one that does not come.
    world.daemon.kill();
    let file = File::create(&mark).unwrap();
    let lock = Flock::lock(file, FlockArg::LockExclusive).unwrap();
    let mut client = world.daemon.begin("network ls");
    world.daemon.start();
    assert!(client.wait().success());
    world.daemon.kill();
    drop(lock);
    let start = now();
    assert_eq!(ask().status, Some(3));
    assert!(start.elapsed() < Duration::from_secs(5), "a mark without a lock is waited for");
}

#[test]
fn a_daemon_that_is_to_take_over_starts_where_none_runs() {
    let mut world = World::new();
    let mut web = Web::new(&world);
    world.daemon.kill();
    world.daemon.start_with(&["--takeover"]);
    web.check(&world);
}

#[test]
fn a_daemon_that_could_not_go_on_leaves_the_one_that_runs() {
    let mut world = World::new();
    let other = World::new();
    let mut web = Web::new(&world);
    let take_over = format!("{} --takeover", run(&world));
    // Nobody answers there, or somebody who is another host's.
    let socket = world.daemon.socket().with_file_name("none");
    let error = world.refused(&format!("{take_over} --socket {}", socket.display()));
    assert!(error.contains("does not answer at"), "{error}");
    let socket = other.daemon.socket();
    let error = world.refused(&format!("{take_over} --socket {}", socket.display()));
    assert!(error.contains("another network namespace"), "{error}");
    other.netd("network ls").ok();
    // These would be the directories of nobody.
    let nobodys = world.daemon.socket().with_file_name("nobodys");
    fs::create_dir(&nobodys).unwrap();
    for (own, complaint) in [
        (world.daemon.state_dir(), "no netd uses the state directory"),
        (world.daemon.bpffs().to_owned(), "no netd has its pins in"),
    ] {
        let [own, nobodys] = [&own, &nobodys].map(|path| path.display().to_string());
        let error = world.refused(&take_over.replace(&own, &nobodys));
        assert!(error.contains(complaint), "{error}");
    }
    // The pins are not what this build would make.
    let stranger = pins(&world, ABI_VERSION + 1);
    fs::create_dir_all(stranger.join("maps")).unwrap();
    let error = world.refused(&take_over);
    assert!(error.contains("has the pins of another netd"), "{error}");
    fs::remove_dir_all(&stranger).unwrap();
    web.check(&world);
    assert!(world.daemon.take_over().success());
    web.check(&world);
}

#[test]
fn pins_of_another_version_are_refused_and_left_alone() {
    let mut world = World::new();
    let mut web = Web::new(&world);
    world.daemon.kill();
    for version in [ABI_VERSION - 1, ABI_VERSION + 1] {
        fs::rename(pins(&world, ABI_VERSION), pins(&world, version)).unwrap();
        // Without it nobody knows what is where.
        let (description, aside) = (pins(&world, version).join("maps/LAYOUT"), aside(&world));
        fs::rename(&description, &aside).unwrap();
        let error = world.refused(&run(&world));
        assert!(error.contains(&format!("v{version} has the pins of another netd")), "{error}");
        assert!(error.contains("netd stop --detach"), "{error}");
        assert!(!pins(&world, ABI_VERSION).exists());
        web.check(&world);
        fs::rename(&aside, &description).unwrap();
        fs::rename(pins(&world, version), pins(&world, ABI_VERSION)).unwrap();
    }
    world.daemon.start();
    web.check(&world);
}

#[test]
fn pins_of_another_version_go_with_the_rest() {
    let mut world = World::new();
    let _web = Web::new(&world);
    world.daemon.kill();
    fs::rename(pins(&world, ABI_VERSION), pins(&world, ABI_VERSION + 1)).unwrap();
    world.netd(&format!("stop --detach {}", world.daemon.remains())).ok();
    assert!(!world.daemon.bpffs().exists());
    world.daemon.start();
    for family in Family::BOTH {
        assert!(netd_tests::clients::pings(&world.client, family.host()));
    }
}

#[test]
fn a_pinned_map_that_is_another_is_refused_and_left_alone() {
    let mut world = World::new();
    let mut web = Web::new(&world);
    world.daemon.kill();
    let maps = pins(&world, ABI_VERSION).join("maps");
    let (right, wrong) = (maps.join("NETWORKS"), maps.join("SLOTS"));
    let aside = maps.join("aside");
    fs::rename(&right, &aside).unwrap();
    fs::rename(&wrong, &right).unwrap();
    let error = world.refused(&run(&world));
    assert!(error.contains("maps/NETWORKS is not the map"), "{error}");
    web.check(&world);
    fs::rename(&right, &wrong).unwrap();
    fs::rename(&aside, &right).unwrap();
    world.daemon.start();
    web.check(&world);
}
