//! `netd state`: a backup, and the way to another host.

use std::{
    fs::{self, File},
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use netd_tests::{
    clients::{fetch, pings},
    condition::eventually,
    daemon::binary,
    family::Family,
    netns::{Namespace, unique_name},
    process::{Running, run_in},
    servers,
    topology::{Container, World, at, subnet},
};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde_json::{Value, json};

/// Where a world's documents are.
fn document(world: &World, name: &str) -> PathBuf {
    world.daemon.config().with_file_name(name)
}

/// Exports the state into a file: where it is.
#[track_caller]
fn export(world: &World, name: &str) -> PathBuf {
    let path = document(world, name);
    assert_eq!(world.netd(&format!("state export {}", path.display())).ok(), "");
    path
}

/// Writes a document: where it is.
fn write(world: &World, document_text: &str) -> PathBuf {
    let path = document(world, "changed.json");
    fs::write(&path, document_text).unwrap();
    path
}

/// Networks with options of every kind, a container on two of them, and published ports of every kind.
struct Site {
    web: Container,
    db: Container,
}

impl Site {
    fn new(world: &World) -> Self {
        let docker = "com.docker.network.bridge";
        world.network(
            "front",
            1,
            &format!(
                "--mtu 1400 --label who=me --max-flows 5000 -o mss_clamp=auto -o strict_src=true \
                 -o {docker}.trusted_host_interfaces=up0 --aux-address router=10.77.1.9 --ip-range 10.77.1.128/25"
            ),
        );
        world.network("back", 2, "--icc false -o icc_published=false --nat eim --bridge br-back");
        world.network("own", 3, "--gateway-mode routed");
        world.network("seen", 4, "--nptv6 2001:db8:9:1::/64");
        world.netd("network create pooled --ipv6 --masquerade false").ok();
        world.netd("network create cell --internal --gateway-mode isolated").ok();
        let ports =
            "-p 8080:80 -p 9000-9009:8000-8009 -p %up0:7070:80 -p 192.0.2.1:7071:80 -p 5353:53/udp";
        let web = world.container("web", "front", ports);
        world.connect(&web, "pooled", "--name web-pooled --gw-priority -1 --alias www").ok();
        // At addresses that only netd's own bridges have.
        let ports = "-p 10.77.2.1:25:25 -p [fe80::1]:26:26";
        let options = format!("--mac 02:00:5e:10:00:01 --max-flows 700 {ports}");
        let db = world.container("db", "back", &options);
        world.connect(&db, "own", "--name db-own -p 5432").ok();
        world.netd("network allow back front").ok();
        Self { web, db }
    }

    fn check(&self, world: &World) {
        let name = self.web.namespace.name();
        let _inside = servers::nginx(&self.web.namespace, &[80, 8005]);
        let _outside = servers::nginx(&world.client, &[80]);
        for family in Family::BOTH {
            for port in [8080, 9005, 7070] {
                assert_eq!(fetch(&world.client, at(family.host(), port)).server, name, "{port}");
            }
            let page = fetch(&self.web.namespace, at(family.remote(), 80));
            assert_eq!(page.client, family.host());
            assert!(pings(&self.db.namespace, world.address("web", family)), "allowed");
        }
    }
}

#[test]
fn a_state_moves_to_another_host() {
    let mut world = World::new();
    let site = Site::new(&world);
    site.check(&world);
    let exported = export(&world, "backup.json");
    let first = fs::read_to_string(&exported).unwrap();
    assert_eq!(world.netd("state export").ok(), first);
    world.netd("stop --detach").ok();
    world.daemon.wait();

    let other = World::new();
    let line = format!("state import {}", exported.display());
    let imported = other.netd(&line).ok();
    let networks =
        ["back", "cell", "front", "own", "pooled", "seen"].map(|n| format!("network {n}\n"));
    let endpoints = ["db", "db-own", "web", "web-pooled"].map(|name| format!("endpoint {name}\n"));
    assert_eq!(imported, networks.concat() + &endpoints.concat());
    site.check(&other);
    assert_eq!(other.netd("state export -").ok(), first);
}

#[test]
fn an_import_outlives_the_daemon() {
    let mut world = World::new();
    let site = Site::new(&world);
    let exported = export(&world, "backup.json");
    let first = fs::read_to_string(&exported).unwrap();
    world.netd("stop --detach").ok();
    world.daemon.wait();
    // The store is lost.
    fs::remove_dir_all(world.daemon.state_dir()).unwrap();
    world.daemon.start();
    assert_eq!(world.netd("network ls -q").ok(), "");
    world.netd(&format!("state import {} --json", exported.display())).ok();
    world.daemon.kill();
    world.daemon.start();
    site.check(&world);
    assert_eq!(world.netd("state export").ok(), first);
}

#[test]
fn a_backup_needs_no_daemon() {
    let mut world = World::new();
    let _site = Site::new(&world);
    let running = world.netd("state export").ok();
    world.daemon.kill();
    let (state, config) = (world.daemon.state_dir(), world.daemon.config());
    let file = state.join("netd.redb");
    let store = fs::read(&file).unwrap();
    let line = format!("state export --state-dir {}", state.display());
    assert_eq!(world.netd(&line).ok(), running);
    let text = format!("[daemon]\nstate_dir = \"{}\"\n", state.display());
    world.daemon.configure(&text);
    assert_eq!(world.netd(&format!("state export --config {}", config.display())).ok(), running);
    assert_eq!(fs::read(&file).unwrap(), store, "a killed daemon's store is only read");

    let nowhere = state.join("nowhere");
    let error = world.refused(&format!("state export --state-dir {}", nowhere.display()));
    assert!(error.contains("there is no store") && error.contains("--state-dir"), "{error}");
    assert!(!nowhere.exists());
    // Whoever names the wrong socket is told so.
    world.daemon.start();
    let error = world.refused(&format!("{line} --socket /nonexistent/netd.sock"));
    assert!(error.contains("another netd uses the state directory"), "{error}");
    assert_eq!(
        world.netd("state import /dev/null --socket /nonexistent/netd.sock").status,
        Some(3)
    );
}

#[test]
fn a_daemon_killed_while_it_imports_goes_on_with_all_of_it() {
    let mut world = World::new();
    let site = Site::new(&world);
    let exported = export(&world, "backup.json");
    let first = fs::read_to_string(&exported).unwrap();
    clear(&world);
    let mut importing = world.daemon.begin(&format!("state import {}", exported.display()));
    while !world.host.has_link("br-back") && importing.status().is_none() {}
    world.daemon.kill();
    importing.wait();
    world.daemon.start();
    assert_eq!(world.netd("state export").ok(), first);
    site.check(&world);
}

/// Removes every endpoint and network.
fn clear(world: &World) {
    for endpoint in world.netd("endpoint ls --json").json().as_array().unwrap() {
        let [network, sandbox] = ["network", "sandbox"].map(|key| endpoint[key].as_str().unwrap());
        let outcome = world.netd(&format!("network disconnect {network} {sandbox}"));
        // The daemon may have noticed meanwhile that the sandbox is gone.
        assert!(outcome.is_ok() || outcome.stderr.contains("is not connected"), "{outcome:?}");
    }
    world.netd("network prune").ok();
}

#[test]
fn what_cannot_be_imported_leaves_no_trace() {
    let world = World::new();
    let site = Site::new(&world);
    let exported = export(&world, "backup.json");
    let first = fs::read_to_string(&exported).unwrap();
    let containers = [&site.web, &site.db];
    let before = world.settled_traces(&containers);
    let error = world.refused(&format!("state import {}", exported.display()));
    assert!(error.starts_with("netd has networks already: back, cell, front, own,"), "{error}");
    assert_eq!(world.traces(&containers), before);

    clear(&world);
    site.web.namespace.ip(&["link add eth0 type veth peer taken"]);
    let (before, empty) = (world.settled_traces(&containers), world.netd("state export").ok());
    let check = |text: &str, expected: &str| {
        let path = write(&world, text);
        let error = world.refused(&format!("state import {}", path.display()));
        assert!(error.contains(expected), "{error}");
        assert_eq!(world.traces(&containers), before, "{error}");
        assert_eq!(world.netd("state export").ok(), empty, "{error}");
    };
    let changed = |pointer: &str, value: Value, expected: &str| {
        let mut document: Value = serde_json::from_str(&first).unwrap();
        *document.pointer_mut(pointer).unwrap() = value;
        check(&document.to_string(), expected);
    };
    check("", "this is not a state of netd");
    check(&first[..first.len() / 2], "this is not a state of netd");
    check(&" ".repeat((32 << 20) + 1), "is larger than 33554432 bytes");
    changed("/netd_state", json!(2), "is of format 2, this netd knows 1");
    changed("/networks/0/labels", json!(7), "this is not a state of netd");
    changed(
        "/networks/0/subnets/0/aux_addresses",
        json!({"a": "10.1.1.1"}),
        "none of the network's",
    );
    changed(
        "/networks/0/bridge",
        json!("up0"),
        "a device up0 already: give the document another name",
    );
    let [host_v4, _] = Family::BOTH.map(|family| subnet(family, 2));
    changed(
        "/networks/2/subnets/0/subnet",
        json!(host_v4),
        "overlaps 10.77.2.0/24 of network back",
    );
    changed("/networks/2/nptv6", json!("2001:db8:1::/64"), "--nptv6");
    changed("/endpoints/2/ports/3/host_ip", json!("203.0.113.1"), "no address 203.0.113.1");
    changed("/endpoints/2/network", json!("gone"), "which the document does not have");
    // Nothing of the document is wrong: the sandbox has such a device.
    check(&first, "already has a device eth0");
    let missing = document(&world, "missing.json");
    let error = world.refused(&format!("state import {}", missing.display()));
    assert!(error.contains("missing.json cannot be read"), "{error}");

    site.web.namespace.ip(&["link del eth0"]);
    world.netd(&format!("state import {}", exported.display())).ok();
    assert_eq!(world.netd("state export").ok(), first);
    site.check(&world);
}

#[test]
fn an_import_that_fails_half_way_is_undone() {
    let world = World::new();
    let site = Site::new(&world);
    let exported = export(&world, "backup.json");
    let first = fs::read_to_string(&exported).unwrap();
    let gateway = world.endpoint("web")["gateway"].as_str().unwrap().to_owned();
    clear(&world);
    let empty = world.netd("state export").ok();
    // Another host's, so that it can be seen to be taken back.
    let mut moved: Value = serde_json::from_str(&first).unwrap();
    moved["ula_prefix"] = json!("fd12:3456:789a::/48");
    let path = write(&world, &moved.to_string());
    // The sandbox's own rules keep the gateway from being one: seen when everything else has come about.
    // (IPv6 asks no rule about a gateway.)
    let rule = |verb: &str| {
        let line = format!("rule {verb} pref 1 to {gateway} prohibit");
        site.web.namespace.ip(&[&line]);
    };
    rule("add");
    let containers = [&site.web, &site.db];
    let before = world.settled_traces(&containers);
    let error = world.refused(&format!("state import {}", path.display()));
    assert!(error.contains(site.web.namespace.name()), "{error}");
    eventually("everything is as before", || world.traces(&containers) == before);
    assert_eq!(world.netd("state export").ok(), empty);
    rule("del");
    world.netd(&format!("state import {}", path.display())).ok();
    assert!(world.netd("state export").ok().contains("fd12:3456:789a::/48"));
    site.check(&world);
}

#[test]
fn endpoints_whose_sandboxes_are_gone_are_left_out_and_named() {
    let mut world = World::new();
    world.network("front", 1, "");
    let web = world.container("web", "front", "-p 8080:80");
    let gone = world.container("gone", "front", "-p 8081:80");
    let pid = world.daemon.pid();
    let exported = export(&world, "backup.json");
    let gone_name = gone.namespace.name().to_owned();
    drop(gone);
    clear(&world);
    // A process that has the number of another, as after a reboot.
    let process = world.sandbox("process");
    let sleep = process_in(&world, &process.namespace);
    let mut document: Value =
        serde_json::from_str(&fs::read_to_string(&exported).unwrap()).unwrap();
    let mut strange = document["endpoints"][1].clone();
    for (key, value) in [
        ("name", json!("strange")),
        ("id", json!("0".repeat(64))),
        ("slot", json!(99)),
        ("host_ifname", json!("veth-strange")),
        ("mac", json!("02:00:00:00:00:09")),
        ("ipv4", json!("10.77.1.9/24")),
        ("ipv6", json!("fd77:1::9/64")),
        ("ports", json!([])),
        ("sandbox", json!({"text": format!("pid:{}", sleep.pid()), "dev": 1, "ino": 1})),
    ] {
        strange[key] = value;
    }
    document["endpoints"].as_array_mut().unwrap().push(strange);
    let path = write(&world, &document.to_string());

    let outcome = world.netd(&format!("state import {}", path.display()));
    assert_eq!(outcome.status, Some(1), "{outcome}");
    assert_eq!(outcome.stdout, "network front\nendpoint web\n", "{outcome}");
    let lines: Vec<&str> = outcome.stderr.lines().collect();
    let reason = format!("there is no network namespace named {gone_name} below /run/netns");
    assert!(
        lines[0].starts_with(&format!("error: endpoint gone is left out: {reason}")),
        "{outcome}"
    );
    let reason = format!("pid:{} is in another network namespace than it was", sleep.pid());
    assert_eq!(lines[1..], [format!("error: endpoint strange is left out: {reason}")], "{outcome}");
    assert!(!process.namespace.has_link("eth0"));
    assert_eq!(world.netd("endpoint ls -q").ok(), "web\n");
    let _nginx = servers::nginx(&web.namespace, &[80]);
    for family in Family::BOTH {
        assert_eq!(fetch(&world.client, at(family.host(), 8080)).server, web.namespace.name());
    }
    assert_eq!(world.daemon.pid(), pid);
}

/// A process in a namespace that waits to be ended.
fn process_in(world: &World, namespace: &Namespace) -> Running {
    let log = document(world, "sleep.log");
    Running::start(namespace.path(), &log, "sleep", &["1000"])
}

#[test]
fn ten_thousand_published_ports_fit() {
    let world = World::new();
    world.network("front", 1, "");
    let ports: String = (10_000..20_000).map(|port| format!(" -p {port}:80")).collect();
    let web = world.container("web", "front", &ports);
    let exported = export(&world, "backup.json");
    let first = fs::read_to_string(&exported).unwrap();
    clear(&world);
    world.netd(&format!("state import {}", exported.display())).ok();
    assert_eq!(world.netd("state export").ok(), first);
    let _nginx = servers::nginx(&web.namespace, &[80]);
    for family in Family::BOTH {
        fetch(&world.client, at(family.host(), 19_999));
    }
}

/// A small file system that is gone with the test.
struct Disk(PathBuf);

impl Disk {
    fn new(kilobytes: u32) -> Self {
        let path = std::env::temp_dir().join(unique_name());
        fs::create_dir(&path).unwrap();
        let size = format!("size={kilobytes}k");
        mount(Some("tmpfs"), &path, Some("tmpfs"), MsFlags::empty(), Some(size.as_str())).unwrap();
        Self(path)
    }

    fn make_read_only(&self) {
        let flags = MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        mount(None::<&str>, &self.0, None::<&str>, flags, None::<&str>).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
        let _ = fs::remove_dir(&self.0);
    }
}

#[test]
fn a_backup_is_written_all_or_not_at_all() {
    let world = World::new();
    world.network("front", 1, "");
    let disk = Disk::new(16);
    let backup = disk.0.join("backup.json");
    let line = format!("state export {}", backup.display());
    world.netd(&line).ok();
    assert_eq!(fs::metadata(&backup).unwrap().permissions().mode() & 0o777, 0o600);
    let first = fs::read(&backup).unwrap();
    world.network("back", 2, "");
    // Room for a name, and for nothing else.
    let mut filler = File::create(disk.0.join("filler")).unwrap();
    while filler.write_all(&[0; 512]).is_ok() {}
    drop(filler);
    let error = world.refused(&line);
    assert!(
        error.contains("backup.json cannot be written") && error.contains("No space"),
        "{error}"
    );
    assert_eq!(fs::read(&backup).unwrap(), first);
    assert_eq!(fs::read_dir(&disk.0).unwrap().count(), 2, "something is left behind");
    disk.make_read_only();
    assert!(world.refused(&line).contains("Read-only file system"));

    let link = document(&world, "link.json");
    let real = document(&world, "real.json");
    fs::write(&real, "").unwrap();
    std::os::unix::fs::symlink(&real, &link).unwrap();
    world.netd(&format!("state export {}", link.display())).ok();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(fs::read_to_string(&real).unwrap(), world.netd("state export").ok());
    let error = world.refused("state export /dev/null");
    assert!(error.contains("it is not a file"), "{error}");
    assert!(!Path::new("/dev/null").is_file());
    let error = world.refused("state export /nonexistent/backup.json");
    assert!(error.contains("No such file"), "{error}");
}

#[test]
fn a_document_is_taken_from_stdin() {
    let world = World::new();
    world.network("front", 1, "--label a=b");
    let first = world.netd("state export").ok();
    clear(&world);
    let socket = world.daemon.socket();
    let args = ["state", "import", "-", "-q", "--socket", &socket.to_string_lossy()];
    let outcome = run_in(world.host.path(), &binary().to_string_lossy(), &args, &first);
    assert_eq!(outcome.ok(), "front\n");
    assert_eq!(world.netd("state export").ok(), first);
}
