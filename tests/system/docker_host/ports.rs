//! The ways in which `docker run` can ask for published ports: each is reached from outside, from the host by its
//! loopback addresses, and from a container of another network, in both families.

use std::net::{IpAddr, SocketAddr};

use netd_tests::{
    clients::{Echo, ask_udp, fetch, try_fetch},
    docker::{DockerContainer, DockerHost, Release},
    family::Family,
    netns::Namespace,
    servers,
    topology::{UPLINK, at, gateway},
};

use super::create_network;

/// A host, and a container of another network than those that publish.
struct Scene {
    host: DockerHost,
    peer: DockerContainer,
}

impl Scene {
    #[track_caller]
    fn new(release: Release) -> Self {
        let host = DockerHost::new(release);
        create_network(&host, "front", 1, "");
        create_network(&host, "back", 2, "");
        let peer = host.container("peer", "--network back");
        host.known("peer");
        Self { host, peer }
    }

    #[track_caller]
    fn container(&self, name: &str, options: &str) -> DockerContainer {
        let container = self.host.container(name, &format!("--network front {options}"));
        self.host.published(name);
        container
    }

    /// Everybody who may ask for a port of the host, and whom a server sees then.
    fn askers(&self, host: IpAddr, port: u16) -> [(&Namespace, SocketAddr, IpAddr); 3] {
        let (world, family) = (&self.host.world, Family::of(host));
        let gateway = gateway(family, 1).parse().unwrap();
        [
            (&world.client, at(host, port), family.client()),
            (&self.peer.namespace, at(host, port), gateway),
            (&world.host, at(family.loopback(), port), gateway),
        ]
    }

    /// TCP port `port` of the host is port `own` of a container.
    #[track_caller]
    fn check_tcp(&self, server: &DockerContainer, family: Family, port: u16, own: u16) {
        for (from, to, client) in self.askers(family.host(), port) {
            let page = fetch(from, to);
            let expected = (server.namespace.name(), client, own);
            assert_eq!((page.server.as_str(), page.client, page.port), expected, "{to}");
        }
    }

    /// UDP port `port` of the host leads to an echo.
    #[track_caller]
    fn check_udp(&self, family: Family, port: u16) {
        for (from, to, client) in self.askers(family.host(), port) {
            let echo = Echo { client, text: "hello".to_owned() };
            assert_eq!(ask_udp(from, to, "hello"), echo, "{to}");
        }
    }

    /// The host's port that Docker has chosen for a container's, in a family.
    #[track_caller]
    fn chosen(&self, container: &str, own: &str, family: Family) -> u16 {
        let ports = &self.host.inspect(container)["NetworkSettings"]["Ports"][own];
        let any = family.pick("0.0.0.0", "::");
        let row = ports.as_array().into_iter().flatten().find(|row| row["HostIp"] == any);
        let port = row.and_then(|row| row["HostPort"].as_str()?.parse().ok());
        port.unwrap_or_else(|| panic!("no host port of {own} in {family}: {ports}"))
    }
}

#[track_caller]
fn check_exposed(scene: &Scene) {
    let web = scene.container("exposed", "--expose 80 --expose 5000/udp -P");
    let _servers = [servers::nginx(&web.namespace, &[80]), servers::udp_echo(&web.namespace, 5000)];
    for family in Family::BOTH {
        scene.check_tcp(&web, family, scene.chosen("exposed", "80/tcp", family), 80);
        scene.check_udp(family, scene.chosen("exposed", "5000/udp", family));
    }
}

#[track_caller]
fn check_ranges(scene: &Scene) {
    let web = scene.container("range", "-p 9000-9004:80-84 -p 9000-9004:80-84/udp");
    let _servers = [
        servers::nginx(&web.namespace, &[80, 81, 82, 83, 84]),
        // The others answer nobody.
        servers::udp_echo(&web.namespace, 83),
    ];
    for family in Family::BOTH {
        for (port, own) in [(9000, 80), (9004, 84)] {
            scene.check_tcp(&web, family, port, own);
        }
        let page = fetch(&scene.host.world.client, at(family.host(), 9002));
        assert_eq!(page.port, 82);
        scene.check_udp(family, 9003);
    }
    let next = at(Family::V4.host(), 9005);
    assert!(try_fetch(&scene.host.world.client, next).is_err());
}

/// Docker takes the first port of the range that is free.
#[track_caller]
fn check_first_free(scene: &Scene) {
    let containers = ["first", "second"].map(|name| {
        let web = scene.container(name, "-p 9100-9104:80 -p 9100-9104:5000/udp");
        let servers =
            [servers::nginx(&web.namespace, &[80]), servers::udp_echo(&web.namespace, 5000)];
        (web, servers)
    });
    for family in Family::BOTH {
        let ports = containers.each_ref().map(|(web, _servers)| {
            let port = scene.chosen(&web.name, "80/tcp", family);
            assert!((9100..=9104).contains(&port), "{port}");
            scene.check_tcp(web, family, port, 80);
            scene.check_udp(family, scene.chosen(&web.name, "5000/udp", family));
            port
        });
        assert_ne!(ports[0], ports[1]);
    }
}

/// Each of two containers has a port of the same number, on addresses of its own.
#[track_caller]
fn check_addresses(scene: &Scene) {
    let other: [IpAddr; 2] =
        Family::BOTH.map(|family| family.pick("192.0.2.9", "2001:db8:1::9").parse().unwrap());
    for address in other {
        scene.host.world.add_uplink_address(UPLINK, address);
    }
    let _one = check_address(scene, "one", Family::BOTH.map(Family::host));
    let _other = check_address(scene, "other", other);
}

#[track_caller]
fn check_address(scene: &Scene, name: &str, addresses: [IpAddr; 2]) -> DockerContainer {
    let specs = addresses.map(|ip| {
        let ip = if ip.is_ipv6() { format!("[{ip}]") } else { ip.to_string() };
        format!("-p {ip}:8080:80 -p {ip}:5000:5000/udp")
    });
    let web = scene.container(name, &specs.join(" "));
    let _servers = [servers::nginx(&web.namespace, &[80]), servers::udp_echo(&web.namespace, 5000)];
    for (family, address) in Family::BOTH.into_iter().zip(addresses) {
        let [outside, peer, (host, loopback, gateway)] = scene.askers(address, 8080);
        for (from, to, seen) in [outside, peer, (host, at(address, 8080), gateway)] {
            let page = fetch(from, to);
            assert_eq!((page.server.as_str(), page.client), (web.namespace.name(), seen));
            assert_eq!(ask_udp(from, at(address, 5000), "hello").client, seen);
        }
        assert!(try_fetch(host, loopback).is_err(), "{family}");
    }
    web
}

#[track_caller]
fn check(release: Release) {
    let scene = Scene::new(release);
    check_exposed(&scene);
    check_ranges(&scene);
    check_first_free(&scene);
    check_addresses(&scene);
}

#[test]
fn docker_20_10_publishes_in_every_way() {
    check(Release::Old);
}

#[test]
fn docker_28_publishes_in_every_way() {
    check(Release::New);
}
