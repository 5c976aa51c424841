//! Sandboxes: how they are named, and what happens when they end.

use std::fs;

use netd_tests::{
    clients::{NoConnection, fetch, pings, try_fetch},
    condition::eventually,
    family::Family,
    process::Running,
    servers,
    topology::{World, at},
};

#[test]
fn an_endpoint_goes_when_its_sandbox_is_destroyed() {
    let world = World::new();
    world.network("front", 1, "");
    let web = world.container("web", "front", "-p 8080:80");
    let _app = world.container("app", "front", "");
    let nginx = servers::nginx(&web.namespace, &[80]);
    for family in Family::BOTH {
        fetch(&world.client, at(family.host(), 8080));
    }
    drop(nginx);
    drop(web);
    eventually("the endpoint is gone", || world.netd("endpoint ls -q").ok() == "app\n");
    assert_eq!(world.netd("port ls -q").ok(), "");
    assert_eq!(world.netd("network inspect front --json").json()[0]["endpoints"][0], "app");
    for family in Family::BOTH {
        let refused = try_fetch(&world.client, at(family.host(), 8080));
        assert_eq!(refused, Err(NoConnection::Refused));
    }
    // Its port is free for the next one.
    let next = world.container("next", "front", "-p 8080:80");
    let _nginx = servers::nginx(&next.namespace, &[80]);
    for family in Family::BOTH {
        assert_eq!(fetch(&world.client, at(family.host(), 8080)).server, next.namespace.name());
    }
}

#[test]
fn a_sandbox_without_a_name_lives_as_long_as_its_processes() {
    let world = World::new();
    world.network("front", 1, "");
    let web = world.sandbox("web");
    let log = std::env::temp_dir().join(format!("{}.log", web.namespace.name()));
    let mut process = Running::start(web.namespace.path(), &log, "sleep", &["300"]);
    let by_pid = format!("network connect front pid:{} --name web -p 8080:80", process.pid());
    eventually("the process is in the sandbox", || {
        let own = fs::read_link(format!("/proc/{}/ns/net", process.pid())).unwrap();
        own != fs::read_link("/proc/self/ns/net").unwrap()
    });
    world.netd(&by_pid).ok();
    let addresses = Family::BOTH.map(|family| world.address("web", family));
    drop(web);
    for address in addresses {
        assert!(pings(&world.host, address));
    }
    assert_eq!(world.netd("endpoint ls -q").ok(), "web\n");
    process.signal(nix::sys::signal::Signal::SIGKILL);
    process.wait();
    eventually("the endpoint is gone", || world.netd("endpoint ls -q").ok().is_empty());
    let _ = fs::remove_file(log);
}

#[test]
fn a_sandbox_is_the_same_by_name_and_by_path() {
    let world = World::new();
    world.network("front", 1, "");
    world.network("back", 2, "");
    let web = world.sandbox("web");
    let (name, path) = (web.namespace.name(), web.namespace.path().display());
    // The endpoint's name is the sandbox's where none is given.
    world.netd(&format!("network connect front {path}")).ok();
    assert_eq!(world.netd("endpoint ls -q").ok().trim(), name);
    let error = world.refused(&format!("network connect front {name} --name other"));
    assert!(error.contains("already connected"), "{error}");
    let connected = world.netd(&format!("network connect back {name}")).ok();
    assert_eq!(connected, "10.77.2.2/24\nfd77:2::2/64\n");
    world.netd(&format!("network disconnect front {name}")).ok();
    world.netd(&format!("network disconnect back {path}")).ok();
    assert_eq!(world.netd("endpoint ls -q").ok(), "");
}

#[test]
fn the_hosts_own_namespace_is_no_sandbox() {
    let world = World::new();
    world.network("front", 1, "");
    let error = world.refused(&format!("network connect front {}", world.host.name()));
    assert!(error.contains(world.host.name()) && error.contains("host"), "{error}");
}
