//! ICMP errors end to end: path MTU discovery, refused datagrams, traceroute.
//!
//! ```text
//!   far ---- 1300 bytes ---- client, a router ---- 9000 bytes ---- host with netd ---- containers
//! ```
//! Both ends take large packets, so that only an error can tell them of what is smaller in between.

use std::{io, net::IpAddr, net::SocketAddr, time::Duration};

use netd_tests::{
    clients::{Transport, ask_udp, fetch_big, iperf3, udp_socket},
    condition::eventually,
    family::Family,
    netns::Namespace,
    servers,
    topology::{UPLINK, World, at, gateway},
};

/// The MTU of everything but the hop in the middle.
const LARGE: u32 = 9000;

/// The MTU of that hop.
const SMALL: u32 = 1300;

/// The machine behind the router.
fn far(family: Family) -> IpAddr {
    family.pick("203.0.113.2", "2001:db8:3::2").parse().unwrap()
}

/// The router's address on the far side.
fn far_router(family: Family) -> IpAddr {
    family.pick("203.0.113.1", "2001:db8:3::1").parse().unwrap()
}

/// Makes a world whose client routes to a machine behind it.
fn world_with_router() -> (World, Namespace) {
    let world = World::new();
    let far = Namespace::new(&format!("{}-far", world.client.name()));
    let router = &world.client;
    router.set_sysctl("ipv4/ip_forward", "1");
    router.set_sysctl("ipv6/conf/all/forwarding", "1");
    world.host.ip(&[&format!("link set {UPLINK} mtu {LARGE}")]);
    let peer = far.name();
    router.ip(&[
        &format!("link set eth0 mtu {LARGE}"),
        &format!("link add far0 mtu {SMALL} type veth peer eth0 mtu {SMALL} netns {peer}"),
        "link set far0 up",
    ]);
    far.ip(&["link set eth0 up"]);
    for family in Family::BOTH {
        let prefix_len = family.pick(24, 64);
        router.add_address("far0", far_router(family), prefix_len);
        far.add_address("eth0", self::far(family), prefix_len);
        announce_large(&far, &format!("default via {}", far_router(family)));
    }
    (world, far)
}

/// Lets a machine announce that it takes large packets, as one does that is large itself.
fn announce_large(machine: &Namespace, route: &str) {
    machine.ip(&[&format!("route replace {route} dev eth0 advmss {}", LARGE - 80)]);
}

/// Sends a lot, and some of it arrives: the server may not have counted the last yet.
#[track_caller]
fn sends(from: &Namespace, to: SocketAddr) {
    let bytes = iperf3(from, to, Transport::Tcp, "--bytes 20M");
    assert!(bytes > 1 << 20, "{to}: {bytes}");
}

/// The MTU of the path that a machine has learned; 0 if none.
fn learned_mtu(from: &Namespace, to: IpAddr) -> u32 {
    let route = from.run(&format!("ip route get {to}")).ok();
    let mtu = route.split_whitespace().skip_while(|word| *word != "mtu").nth(1);
    mtu.and_then(|mtu| mtu.parse().ok()).unwrap_or_default()
}

#[test]
fn path_mtu_discovery_works_through_published_ports_and_masquerade() {
    let (world, far) = world_with_router();
    world.network("front", 1, &format!("--mtu {LARGE}"));
    let web = world.container("web", "front", "-p 8080:80");
    let app = world.container("app", "front", "");
    let _nginx = servers::nginx(&web.namespace, &[80]);
    let _iperf3 = servers::iperf3(&far, 5201);
    for family in Family::BOTH {
        let to = self::far(family);
        for container in [&web, &app] {
            assert_eq!(learned_mtu(&container.namespace, to), 0, "{family}");
        }
        fetch_big(&far, at(family.host(), 8080));
        assert_eq!(learned_mtu(&web.namespace, to), SMALL, "{family}, published");
        sends(&app.namespace, at(to, 5201));
        assert_eq!(learned_mtu(&app.namespace, to), SMALL, "{family}, masqueraded");
    }
    assert_translated(&world);
}

/// What the host itself cannot deliver: a container's network takes less than the uplink, or than another's.
#[test]
fn clients_learn_that_a_containers_network_takes_less() {
    let (world, _far) = world_with_router();
    world.network("front", 1, "--mtu 1400");
    world.network("back", 2, &format!("--mtu {LARGE}"));
    let web = world.container("web", "front", "-p 5201:5201");
    let app = world.container("app", "back", "");
    let _iperf3 = servers::iperf3(&web.namespace, 5201);
    for family in Family::BOTH {
        // The container announces more than its own device takes, to the gateway as well, which stands for
        // containers of other networks.
        let gateway = gateway(family, 1);
        announce_large(&web.namespace, &format!("default via {gateway}"));
        announce_large(&web.namespace, &gateway);
        for client in [&world.client, &app.namespace] {
            sends(client, at(family.host(), 5201));
            assert_eq!(learned_mtu(client, family.host()), 1400, "{family}, {}", client.name());
        }
    }
    assert_translated(&world);
}

#[test]
fn a_container_learns_that_the_uplink_takes_less() {
    let (world, far) = world_with_router();
    world.network("front", 1, &format!("--mtu {LARGE}"));
    // The least that IPv6 asks for.
    world.host.ip(&[&format!("link set {UPLINK} mtu 1280")]);
    let app = world.container("app", "front", "");
    let _iperf3 = servers::iperf3(&far, 5201);
    for family in Family::BOTH {
        sends(&app.namespace, far_address(family, 5201));
        assert_eq!(learned_mtu(&app.namespace, self::far(family)), 1280, "{family}");
    }
}

/// A datagram to a port that nobody listens on is refused, and the socket that sent it is told.
#[track_caller]
fn is_refused(from: &Namespace, to: SocketAddr) {
    let socket = udp_socket(from, to).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    eventually(&format!("{} is told that {to} is closed", from.name()), || {
        // One error may be about the datagram before.
        let sent = socket.send(b"hello");
        let answer = sent.and_then(|_| socket.recv(&mut [0; 16]));
        answer.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
    });
}

#[test]
fn a_closed_port_refuses_datagrams_in_either_direction() {
    let world = World::new();
    world.network("front", 1, "");
    let web = world.container("web", "front", "-p 9000:9000/udp");
    for family in Family::BOTH {
        is_refused(&world.client, at(family.host(), 9000));
        is_refused(&web.namespace, at(family.remote(), 9001));
    }
    assert_translated(&world);
}

#[test]
fn a_closed_port_refuses_datagrams_between_containers() {
    let world = World::new();
    world.network("front", 1, "");
    world.network("back", 2, "");
    let web = world.container("web", "front", "-p 9000:9000/udp");
    let neighbour = world.container("neighbour", "front", "");
    let other = world.container("other", "back", "");
    for family in Family::BOTH {
        for from in [&web, &neighbour, &other] {
            is_refused(&from.namespace, at(family.host(), 9000));
        }
        // The host's own, about a port that nobody has published.
        is_refused(&web.namespace, at(family.host(), 9001));
    }
}

/// The addresses that traceroute shows, hop by hop.
fn hops(from: &Namespace, to: IpAddr, options: &str) -> Vec<String> {
    let trace = from.run(&format!("traceroute -n -q 1 -w 3 -m 6 {options} {to}")).ok();
    let lines = trace.lines().skip(1);
    lines.filter_map(|line| line.split_whitespace().nth(1).map(str::to_owned)).collect()
}

#[test]
fn traceroute_from_a_container_shows_every_hop() {
    let (world, _far) = world_with_router();
    world.network("front", 1, "");
    let app = world.container("app", "front", "");
    for family in Family::BOTH {
        let to = far(family);
        let expected = [gateway(family, 1), family.client().to_string(), to.to_string()];
        for options in ["-U -p 33434", "-I", "-T -p 80"] {
            assert_eq!(hops(&app.namespace, to, options), expected, "{options}");
        }
    }
}

#[test]
fn traceroute_to_a_published_port_shows_the_host_in_the_containers_place() {
    let (world, far) = world_with_router();
    world.network("front", 1, "");
    let web = world.container("web", "front", "-p 8080:80 -p 9000:9000/udp");
    let _nginx = servers::nginx(&web.namespace, &[80]);
    for family in Family::BOTH {
        let host = family.host();
        // The host where the packet is out of hops, then the container, which goes by its address.
        let expected = [far_router(family), host, host].map(|hop| hop.to_string());
        for options in ["-T -p 8080", "-U -p 9000"] {
            assert_eq!(hops(&far, host, options), expected, "{options}");
        }
    }
    assert_translated(&world);
}

#[test]
fn a_ping_to_nowhere_is_answered_by_the_router() {
    let (world, _far) = world_with_router();
    world.network("front", 1, "");
    let app = world.container("app", "front", "");
    for family in Family::BOTH {
        let nowhere = family.pick("198.18.0.1", "2001:db8:4::1");
        world.client.ip(&[&format!("route add unreachable {nowhere}")]);
        let outcome = app.namespace.run(&format!("ping -n -c 1 -W 5 {nowhere}"));
        let router = format!("From {} icmp_seq=1 Destination", family.client());
        assert!(outcome.stdout.contains(&router), "{outcome}");
    }
}

#[test]
fn an_error_does_not_end_its_flow() {
    let (world, far) = world_with_router();
    world.network("front", 1, "");
    let app = world.container("app", "front", "");
    let _echo = servers::udp_echo(&far, 9000);
    for family in Family::BOTH {
        let to = far_address(family, 9000);
        ask_udp(&app.namespace, to, "before");
        let flows = world.flows();
        let expired = hops(&app.namespace, to.ip(), "-U -p 9000 -m 2");
        assert_eq!(expired.last(), Some(&family.client().to_string()));
        assert!(world.flows() >= flows);
        ask_udp(&app.namespace, to, "after");
    }
}

fn far_address(family: Family, port: u16) -> SocketAddr {
    at(far(family), port)
}

/// Errors were translated, and none was dropped.
#[track_caller]
fn assert_translated(world: &World) {
    let packets =
        |reasons: &[&str]| reasons.iter().map(|reason| world.packets(reason)).sum::<u64>();
    assert_ne!(packets(&["icmp_error_of_flow", "icmp_error_of_flow_redirected"]), 0);
    assert_eq!(packets(&["icmp_error", "forged_icmp_error", "broken_quote"]), 0);
}
