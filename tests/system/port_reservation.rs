//! A published port is the container's: no program of the host takes it, and what one has is not published.

use std::{
    io,
    net::{SocketAddr, TcpListener, UdpSocket},
};

use netd_tests::{
    condition::eventually,
    family::Family,
    netns::Namespace,
    servers,
    topology::{World, at},
};

/// What becomes of a program that wants to listen there.
fn listen(host: &Namespace, proto: &str, address: &str, port: u16) -> io::Result<()> {
    let to: SocketAddr = format!("{address}:{port}").parse().unwrap();
    host.inside(|| match proto {
        "tcp" => TcpListener::bind(to).map(drop),
        _ => UdpSocket::bind(to).map(drop),
    })
}

#[track_caller]
fn check(host: &Namespace, proto: &str, address: &str, port: u16, is_taken: bool) {
    let result = listen(host, proto, address, port);
    match result {
        Ok(()) => assert!(!is_taken, "{proto} {address}:{port}"),
        Err(error) => {
            assert!(is_taken, "{proto} {address}:{port}: {error}");
            assert_eq!(error.kind(), io::ErrorKind::AddrInUse, "{proto} {address}:{port}");
        }
    }
}

#[test]
fn no_program_of_the_host_takes_a_published_port() {
    let mut world = World::new();
    world.network("front", 1, "");
    let web = world.container(
        "web",
        "front",
        "-p 8080:80 -p 192.0.2.1:8081:81 -p [::1]:8082:82 -p 9000-9999:9000-9999/udp",
    );
    let rows = |host: &Namespace, are_taken: bool| {
        for address in ["0.0.0.0", "127.0.0.1", "192.0.2.1", "[::]", "[::1]", "[2001:db8:1::1]"] {
            check(host, "tcp", address, 8080, are_taken);
            check(host, "udp", address, 9500, are_taken);
            check(host, "udp", address, 8080, false);
            check(host, "tcp", address, 8083, false);
        }
        for (address, is_hit) in
            [("0.0.0.0", true), ("[::]", true), ("192.0.2.1", true), ("127.0.0.1", false)]
        {
            check(host, "tcp", address, 8081, are_taken && is_hit);
        }
        for (address, is_hit) in
            [("[::1]", true), ("[::]", true), ("127.0.0.1", false), ("[2001:db8:1::1]", false)]
        {
            check(host, "tcp", address, 8082, are_taken && is_hit);
        }
    };
    rows(&world.host, true);
    // Containers have their own ports.
    check(&web.namespace, "tcp", "0.0.0.0", 8080, false);
    // Also when nobody looks.
    world.daemon.kill();
    rows(&world.host, true);
    world.daemon.start();
    rows(&world.host, true);
    world.netd(&format!("network disconnect front {}", web.namespace.name())).ok();
    rows(&world.host, false);
}

#[test]
fn what_a_program_of_the_host_has_is_not_published() {
    let world = World::new();
    world.network("front", 1, "");
    let web = world.container("web", "front", "");
    let nginx = servers::nginx(&world.host, &[8080]);
    let error = world.refused("port add web 8080:80");
    assert!(error.starts_with("port 8080:80/tcp is held by nginx (process "), "{error}");
    let error = world.refused("port add web 8070-8090:70-90");
    assert!(error.contains("is held by nginx"), "{error}");
    let again = world.sandbox("again");
    let line = format!("network connect front {} -p 8080:80", again.namespace.name());
    let error = world.refused(&line);
    assert!(error.contains("is held by nginx"), "{error}");
    // The next one of a range, another protocol.
    let row = world.netd("port add web 8080-8090:80 8080:80/udp --json").json();
    assert_eq!(row[0]["host_port"], 8081);
    drop(nginx);
    eventually("the port is free", || world.netd("port add web 8080:80").is_ok());
    let _nginx = servers::nginx(&web.namespace, &[80]);
    netd_tests::clients::fetch(&world.client, at(Family::V4.host(), 8080));
}
