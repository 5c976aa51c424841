//! An operation that fails leaves everything as it was.

use std::{
    fs,
    path::{Path, PathBuf},
};

use netd_tests::{
    condition::eventually,
    daemon::binary,
    family::Family,
    mounts::FileSystem,
    process::{Outcome, run_in},
    topology::{World, gateway},
};

#[test]
fn a_refused_connect_leaves_no_trace() {
    let world = World::new();
    world.network("front", 1, "");
    let web = world.container("web", "front", "--mac 02:00:5e:10:00:01 -p 8080:80");
    let app = world.sandbox("app");
    app.namespace.ip(&["link add eth0 type veth peer taken", "link set eth0 up"]);
    let before = world.settled_traces(&[&web, &app]);
    for options in [
        "--ifname eth0",
        "--ifname taken",
        "--ip 10.77.1.2",
        "--ip6 fd77:1::2",
        "--mac 02:00:5e:10:00:01",
        "-p 8080:80",
        "-p 9090:90 -p 8080:80",
        "-p %nowhere:80:80",
        "--name web",
    ] {
        let outcome = world.connect(&app, "front", options);
        assert_eq!(outcome.status, Some(1), "{outcome}");
        assert_eq!(world.traces(&[&web, &app]), before, "{options}");
    }
    let _ = world.refused("network create other --subnet 10.77.1.0/24");
    let _ = world.refused("network create other --bridge up0");
    let _ = world.refused("network rm front");
    assert_eq!(world.traces(&[&web, &app]), before);
    world.connect(&app, "front", "-p 9090:90").ok();
    assert!(app.namespace.has_link("eth1"));
}

#[test]
fn a_connect_that_fails_half_way_is_undone() {
    let world = World::new();
    world.network("front", 1, "");
    let web = world.container("web", "front", "");
    let app = world.sandbox("app");
    // The sandbox's own rules keep the gateway from being one: the last step but one fails, when both
    // families have their addresses. (IPv6 asks no rule about a gateway.)
    let rule = |verb: &str| {
        let line = format!("rule {verb} pref 1 to {} prohibit", gateway(Family::V4, 1));
        app.namespace.ip(&[&line]);
    };
    rule("add");
    let before = world.settled_traces(&[&web, &app]);
    let outcome = world.connect(&app, "front", "-p 8080:80");
    assert_eq!(outcome.status, Some(1), "{outcome}");
    eventually("everything is as before", || world.traces(&[&web, &app]) == before);
    assert!(outcome.stderr.contains(app.namespace.name()), "{outcome}");
    rule("del");
    world.connect(&app, "front", "-p 8080:80").ok();
}

#[test]
fn a_full_disk_refuses_changes_without_a_trace_until_there_is_room() {
    let mut world = World::without_daemon("");
    let disk = FileSystem::disk(&world.daemon.state_dir());
    world.daemon.start();
    world.network("front", 1, "");
    let web = world.container("web", "front", "-p 8080:80");
    let app = world.sandbox("app");
    disk.fill();
    // The database's own free pages may take some changes.
    let refused = (0..100).find(|number| {
        let before = world.settled_traces(&[&web, &app]);
        let outcome = world.netd(&format!("network create n{number}"));
        if outcome.is_ok() {
            return false;
        }
        assert_eq!(outcome.status, Some(1), "{outcome}");
        let state = world.daemon.state_dir().display().to_string();
        assert!(outcome.stderr.contains(&state), "{outcome}");
        assert_eq!(world.traces(&[&web, &app]), before);
        true
    });
    assert!(refused.is_some(), "a full disk is not noticed");
    let before = world.settled_traces(&[&web, &app]);
    assert_eq!(world.connect(&app, "front", "").status, Some(1));
    eventually("everything is as before", || world.traces(&[&web, &app]) == before);
    disk.free();
    world.connect(&app, "front", "").ok();
}

#[test]
fn a_state_directory_that_cannot_be_written_is_refused() {
    let mut world = World::without_daemon("");
    let disk = FileSystem::disk(&world.daemon.state_dir());
    let remains = world.daemon.remains();
    disk.make_read_only(true);
    let error = world.refused(&format!("run {remains}"));
    let state = world.daemon.state_dir().display().to_string();
    assert!(error.contains(&state) && error.contains("Read-only file system"), "{error}");
    disk.make_read_only(false);
    world.daemon.start();
    world.network("front", 1, "");
    let exported = world.netd("state export").ok();
    world.netd("stop").ok();
    world.daemon.wait();
    let file = world.daemon.state_dir().join("netd.redb");
    let store = fs::read(&file).unwrap();
    disk.make_read_only(true);
    let error = world.refused(&format!("run {remains}"));
    assert!(error.contains(&state) && error.contains("check"), "{error}");
    // What is there can be saved all the same.
    assert_eq!(world.netd(&format!("state export --state-dir {state}")).ok(), exported);
    assert_eq!(fs::read(&file).unwrap(), store);
    disk.make_read_only(false);
    world.daemon.start();
    assert_eq!(world.netd("network ls -q").ok(), "front\n");
}

/// Everything below a directory, where it is there.
fn tree(path: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    entries.flat_map(|entry| [vec![entry.path()], tree(&entry.path())].concat()).collect()
}

/// A daemon that finds no cgroup2, which it mounts where nobody else sees it.
fn run_apart(world: &World, arguments: &str) -> Outcome {
    let hide = "while umount -l $(findmnt -n -t cgroup2 -o TARGET | head -n 1) 2>&-; do :; done";
    let run = format!("{hide}; exec {} run {arguments}", binary().display());
    run_in(world.host.path(), "unshare", &["--mount", "sh", "-c", &run], "")
}

#[test]
fn a_refused_start_leaves_no_trace() {
    // Whose pins nobody else can use.
    let mut other = World::new();
    other.daemon.kill();
    let theirs = other.daemon.bpffs();
    let world = World::without_daemon("");
    let dir = world.daemon.state_dir().parent().unwrap().to_owned();
    fs::write(dir.join("file"), "").unwrap();
    let (ours, deep) = (world.daemon.bpffs(), dir.join("a/b"));
    let before = tree(&dir);
    let places = |state: &Path, bpffs: &Path, socket: &str| {
        let socket = dir.join(socket);
        let [state, bpffs, socket] = [state, bpffs, &socket].map(Path::display);
        format!("--state-dir {state} --bpffs {bpffs} --socket {socket}")
    };
    for (arguments, reason) in [
        // Refused with the pins' folder, with the state and with the socket, and when all but the maps is there.
        (places(&deep, &dir.join("file"), "sock"), "file"),
        (places(&dir.join("file"), ours, "sock"), "state directory"),
        (places(&deep, ours, "file"), "no socket"),
        (places(&deep, &dir.join("c/d"), "file"), "no socket"),
        (places(&deep, theirs, "e/f/sock"), "another network namespace"),
        (places(&deep, &deep, "sock"), "not apart"),
        (places(&deep, &deep.join("c"), "sock"), "not apart"),
        (places(&deep.join("c"), &deep, "sock"), "not apart"),
    ] {
        let error = world.refused(&format!("run {arguments}"));
        assert!(error.contains(reason), "{error}");
        assert_eq!(tree(&dir), before, "{error}");
        assert!(!ours.exists(), "{error}");
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(dir.to_str().unwrap()), "{error}");
        let outcome = run_apart(&world, &arguments);
        assert_eq!(outcome.status, Some(1), "{outcome}");
        assert!(outcome.stderr.contains(reason), "{outcome}");
        assert_eq!(tree(&dir), before, "{outcome}");
    }
    other.daemon.start();
}

#[test]
fn a_corrupt_store_is_refused_and_left_alone() {
    let mut world = World::new();
    world.network("front", 1, "");
    world.netd("stop").ok();
    world.daemon.wait();
    let file = world.daemon.state_dir().join("netd.redb");
    let good = fs::read(&file).unwrap();
    for bad in [b"not a database".to_vec(), good[..good.len() / 2].to_vec(), vec![0; good.len()]] {
        fs::write(&file, &bad).unwrap();
        let error = world.refused(&format!("run {}", world.daemon.remains()));
        assert!(error.contains(&file.display().to_string()), "{error}");
        assert_eq!(fs::read(&file).unwrap(), bad);
    }
    fs::write(&file, &good).unwrap();
    world.daemon.start();
    assert_eq!(world.netd("network ls -q").ok(), "front\n");
}
