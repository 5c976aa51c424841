//! What not every kernel has: SCTP sockets, VLAN devices and bonds. `cargo xtask vm` runs these tests in kernels
//! that do.

use std::{io, net::SocketAddr, thread, time::Duration};

use netd_tests::{
    clients::{fetch, try_fetch},
    condition::eventually,
    family::Family,
    netns::Namespace,
    servers,
    topology::{UPLINK, World, at, default_routes},
};
use socket2::{Domain, Protocol, Socket, Type};

use crate::protocols::SCTP;

/// How long one step of a conversation may take in a machine that is emulated.
const PATIENCE: Duration = Duration::from_secs(60);

/// More than one packet takes.
const MESSAGE_LEN: usize = 10_000;

/// A socket of the one-to-one style (RFC 6458 section 4), bound to one address, so that it tells of no other.
fn sctp_socket(local: SocketAddr) -> io::Result<Socket> {
    let protocol = Protocol::from(i32::from(SCTP));
    let socket = Socket::new(Domain::for_address(local), Type::STREAM, Some(protocol))?;
    if local.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.set_write_timeout(Some(PATIENCE))?;
    socket.bind(&local.into())?;
    Ok(socket)
}

/// Sends a message one way and back, from a client at its address to `to`, where `server` is to answer. What
/// the server takes for its client's address.
#[track_caller]
fn converse(
    client: (&Namespace, SocketAddr),
    to: SocketAddr,
    server: (&Namespace, SocketAddr),
) -> SocketAddr {
    let listen = || {
        let listener = sctp_socket(server.1)?;
        listener.listen(1)?;
        Ok::<_, io::Error>(listener)
    };
    let listener = server.0.inside(listen).unwrap();
    let answer = || {
        let (stream, peer) = listener.accept()?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let message = receive(&stream)?;
        stream.send(&message)?;
        Ok::<_, io::Error>(peer)
    };
    let ask = || {
        let stream = client.0.inside(|| sctp_socket(client.1))?;
        stream.connect_timeout(&to.into(), PATIENCE)?;
        let message: Vec<u8> = (0..MESSAGE_LEN).map(|at| at as u8).collect();
        stream.send(&message)?;
        assert!(receive(&stream)? == message, "the message has changed");
        Ok::<_, io::Error>(())
    };
    let peer = thread::scope(|scope| {
        let server = scope.spawn(answer);
        ask().unwrap_or_else(|error| panic!("{to}: {error}"));
        server.join().unwrap().unwrap()
    });
    peer.as_socket().unwrap()
}

fn receive(stream: &Socket) -> io::Result<Vec<u8>> {
    let mut message = Vec::new();
    let mut part = [0; MESSAGE_LEN];
    while message.len() < MESSAGE_LEN {
        let len = io::Read::read(&mut &*stream, &mut part)?;
        if len == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        message.extend_from_slice(&part[..len]);
    }
    Ok(message)
}

#[test]
#[ignore = "needs SCTP sockets"]
fn sctp_sockets_converse_with_published_ports_and_with_the_world() {
    let world = World::new();
    world.network("front", 1, "");
    let web = world.container("web", "front", "-p 36412:9899/sctp -p 9899:9899/sctp");
    let app = world.container("app", "front", "");
    for family in Family::BOTH {
        let (web_address, app_address) =
            (world.address("web", family), world.address("app", family));
        // Published under its own port, and under another one.
        for (port, host_port) in [(5000, 9899), (5001, 36_412)] {
            let client = at(family.client(), port);
            let (to, server) = (at(family.host(), host_port), at(web_address, 9899));
            let seen = converse((&world.client, client), to, (&web.namespace, server));
            assert_eq!(seen, client, "{family}");
        }
        // From one port of two containers, so that one of them gets another.
        let to = at(family.remote(), 7000);
        let senders = [(&web, web_address), (&app, app_address)];
        let seen = senders.map(|(container, address)| {
            let sender = (&container.namespace, at(address, 6000));
            converse(sender, to, (&world.client, to))
        });
        assert_eq!(seen.map(|seen| seen.ip()), [family.host(); 2]);
        assert_ne!(seen[0], seen[1], "{family}");
    }
}

/// Makes the host's addresses those of another device, and tries both directions by it.
#[track_caller]
fn check_uplink(world: &mut World, host_ifname: &str, client_ifname: &str) {
    let (host, client) = (&world.host, &world.client);
    host.ip(&[&format!("address flush dev {UPLINK}"), &format!("link set {host_ifname} up")]);
    client.ip(&["address flush dev eth0", &format!("link set {client_ifname} up")]);
    for family in Family::BOTH {
        world.add_uplink_address(host_ifname, family.host());
        client.add_address(client_ifname, family.client(), family.pick(24, 64));
    }
    host.ip(&default_routes(host_ifname).each_ref().map(String::as_str));
    world.daemon.start();
    world.network("front", 1, "");
    let web = world.container("web", "front", "-p 8080:80");
    let _inside = servers::nginx(&web.namespace, &[80]);
    let _outside = servers::nginx(&world.client, &[80]);
    for family in Family::BOTH {
        // Link-local addresses may still be probed.
        eventually("the client is reached", || {
            try_fetch(&web.namespace, at(family.remote(), 80)).is_ok()
        });
        assert_eq!(fetch(&web.namespace, at(family.remote(), 80)).client, family.host());
        let page = fetch(&world.client, at(family.host(), 8080));
        assert_eq!((page.server.as_str(), page.client), (web.namespace.name(), family.client()));
    }
    assert!(world.packets("masqueraded") + world.packets("masqueraded_redirected") > 0);
}

#[test]
#[ignore = "needs VLAN devices"]
fn a_vlan_device_is_an_uplink() {
    let mut world = World::without_daemon("");
    for (end, ifname) in [(&world.host, UPLINK), (&world.client, "eth0")] {
        end.ip(&[&format!("link add link {ifname} name vlan5 type vlan id 5")]);
    }
    check_uplink(&mut world, "vlan5", "vlan5");
}

#[test]
#[ignore = "needs bonds"]
fn a_bond_is_an_uplink() {
    let mut world = World::without_daemon("");
    world.host.ip(&[
        "link add bond0 type bond mode active-backup miimon 100",
        &format!("link set {UPLINK} down"),
        &format!("link set {UPLINK} master bond0"),
    ]);
    check_uplink(&mut world, "bond0", "eth0");
}
