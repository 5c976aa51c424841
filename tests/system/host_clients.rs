//! Programs of the host that ask for published ports, in every way that a program can: they reach the container, and
//! what they are shown is what they have asked for.

use std::net::{IpAddr, SocketAddr};

use netd_tests::{
    asking::{Way, ask},
    clients::{ask_by, udp_socket},
    condition::eventually,
    family::Family,
    netns::Namespace,
    servers::{self, Server},
    topology::{World, at, gateway, subnet},
};

/// What a program may ask for: addresses of the host, of both families, and IPv4's in IPv6's clothes.
const ADDRESSES: [&str; 7] = [
    "127.0.0.1",
    "127.0.0.5",
    "192.0.2.1",
    "::1",
    "2001:db8:1::1",
    "::ffff:127.0.0.1",
    "::ffff:192.0.2.1",
];

fn serve(namespace: &Namespace) -> [Server; 2] {
    [servers::nginx(namespace, &[80]), servers::udp_echo(namespace, 5000)]
}

/// Asks in every way, from no address of its own and from the loopback address.
#[track_caller]
fn check(host: &Namespace, answers: impl Fn(IpAddr) -> IpAddr) {
    for address in ADDRESSES {
        let address: IpAddr = address.parse().unwrap();
        for way in Way::ALL {
            let to = SocketAddr::new(address, if way == Way::Tcp { 8080 } else { 5000 });
            let loopback: IpAddr = match address {
                IpAddr::V6(it) if it.to_ipv4_mapped().is_some() => "::ffff:127.0.0.1",
                IpAddr::V6(_) => "::1",
                IpAddr::V4(_) => "127.0.0.1",
            }
            .parse()
            .unwrap();
            for own in [None, Some(SocketAddr::new(loopback, 0))] {
                let answer = ask(host, way, own, to);
                let answer = answer.unwrap_or_else(|error| panic!("{way:?} {own:?} {to}: {error}"));
                assert_eq!(answer.from, to, "{way:?} {own:?}");
                // Whom the container sees.
                let client = answers(address).to_string();
                assert!(answer.text.contains(&client), "{way:?} {own:?} {to}: {answer:?}");
            }
        }
    }
}

fn gateways(address: IpAddr) -> IpAddr {
    let is_ipv4 = match address {
        IpAddr::V4(_) => true,
        IpAddr::V6(address) => address.to_ipv4_mapped().is_some(),
    };
    gateway(if is_ipv4 { Family::V4 } else { Family::V6 }, 1).parse().unwrap()
}

#[test]
fn every_client_of_the_host_reaches_a_container_of_both_families() {
    let world = World::new();
    world.network("front", 1, "");
    let web = world.container("web", "front", "-p 8080:80 -p 5000:5000/udp");
    let _servers = serve(&web.namespace);
    check(&world.host, gateways);
}

#[test]
fn every_client_of_the_host_reaches_a_container_without_ipv6() {
    let world = World::new();
    world.netd(&format!("network create front --subnet {}", subnet(Family::V4, 1))).ok();
    let web = world.container("web", "front", "-p 8080:80 -p 5000:5000/udp");
    let _servers = serve(&web.namespace);
    check(&world.host, |_| gateway(Family::V4, 1).parse().unwrap());
}

#[test]
fn what_is_not_published_is_not_touched() {
    let world = World::new();
    world.network("front", 1, "");
    let web = world.container("web", "front", "-p 192.0.2.1:8080:80 -p 192.0.2.1:5000:5000/udp");
    let _servers = serve(&web.namespace);
    let _own = servers::udp_echo(&world.host, 5001);
    for way in Way::ALL {
        let port = if way == Way::Tcp { 8080 } else { 5000 };
        let refused = ask(&world.host, way, None, at(Family::V4.loopback(), port));
        assert!(refused.is_err() || way == Way::Udp, "{way:?}: {refused:?}");
        ask(&world.host, way, None, at(Family::V4.host(), port)).unwrap();
    }
    for family in Family::BOTH {
        let own = ask(&world.host, Way::Udp, None, at(family.loopback(), 5001)).unwrap();
        assert_eq!(own.from, at(family.loopback(), 5001));
    }
    // Containers' sockets are none of the host's.
    let other = world.container("other", "front", "");
    assert!(ask(&other.namespace, Way::Tcp, None, at(Family::V4.loopback(), 8080)).is_err());
}

#[test]
fn the_hooks_outlive_the_daemon_and_the_proxy_comes_back_with_it() {
    let mut world = World::new();
    world.network("front", 1, "");
    let web = world.container("web", "front", "-p 8080:80 -p 5000:5000/udp");
    let _servers = serve(&web.namespace);
    world.daemon.kill();
    for family in Family::BOTH {
        let to = at(family.loopback(), 5000);
        assert_eq!(ask(&world.host, Way::Udp, None, to).unwrap().from, to);
    }
    let bound = Some(at(Family::V4.loopback(), 0));
    assert!(ask(&world.host, Way::Tcp, bound, at(Family::V4.loopback(), 8080)).is_err());
    world.daemon.start();
    check(&world.host, gateways);
    world.netd("port rm web 8080:80").ok();
    eventually("nobody is at the port", || {
        ask(&world.host, Way::Tcp, bound, at(Family::V4.loopback(), 8080)).is_err()
    });
}

#[test]
fn a_datagram_socket_follows_its_port_to_another_container() {
    let world = World::new();
    world.network("front", 1, "");
    let [web, other] = ["web", "other"].map(|name| world.container(name, "front", ""));
    let _servers = [&web, &other].map(|it| servers::udp_echo(&it.namespace, 5000));
    world.netd("port add web 5000:5000/udp").ok();
    for address in ["127.0.0.1", "::1", "192.0.2.1", "2001:db8:1::1"] {
        let to = SocketAddr::new(address.parse().unwrap(), 5000);
        let connect = || udp_socket(&world.host, to).unwrap();
        let socket = connect();
        ask_by(&socket, "hello");
        // One that has gone may come back: its clients are left as they are.
        world.netd("port rm web 5000:5000/udp").ok();
        world.netd("port add web 5000:5000/udp").ok();
        ask_by(&socket, "hello");
        world.netd("port rm web 5000:5000/udp").ok();
        world.netd("port add other 5000:5000/udp").ok();
        eventually("the socket is told", || {
            let told = socket.send(b"hello").and_then(|_| socket.take_error());
            told.is_err() || told.is_ok_and(|error| error.is_some())
        });
        ask_by(&connect(), "hello");
        world.netd("port rm other 5000:5000/udp").ok();
        world.netd("port add web 5000:5000/udp").ok();
    }
}
