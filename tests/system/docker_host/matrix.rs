//! Who reaches what: the table of a plain Docker host, where netd has everything right that Docker's own rules and
//! proxy have, and clients keep their addresses.

use std::net::IpAddr;

use netd_tests::{
    clients::{Echo, ask_udp, fetch, fetch_url, try_fetch},
    docker::{DockerHost, Release},
    family::Family,
    servers,
    topology::at,
};

use super::create_network;

/// A host with a container on a network of both families that publishes TCP 8080 and UDP 5000.
struct Scene {
    host: DockerHost,
    web: netd_tests::docker::DockerContainer,
    _servers: [servers::Server; 2],
}

impl Scene {
    #[track_caller]
    fn new(release: Release) -> Self {
        let host = DockerHost::new(release);
        create_network(&host, "front", 1, "");
        let web = host.container("web", "--network front -p 8080:80 -p 5000:5000/udp");
        let servers =
            [servers::nginx(&web.namespace, &[80]), servers::udp_echo(&web.namespace, 5000)];
        host.published("web");
        Self { host, web, _servers: servers }
    }
}

#[track_caller]
fn check_outside(release: Release) {
    let scene = Scene::new(release);
    let world = &scene.host.world;
    world.route_client_to_containers(1);
    for family in Family::BOTH {
        let page = fetch(&world.client, at(family.host(), 8080));
        assert_eq!(
            (page.server.as_str(), page.client),
            (scene.web.namespace.name(), family.client())
        );
        let echo = ask_udp(&world.client, at(family.host(), 5000), "hello");
        assert_eq!(echo, Echo { client: family.client(), text: "hello".to_owned() });
        // A port that is not published, and the container's own address.
        assert!(try_fetch(&world.client, at(family.host(), 80)).is_err());
        assert!(try_fetch(&world.client, at(world.address("web", family), 80)).is_err());
    }
    // Out, by the host's address.
    let remote = servers::nginx(&world.client, &[80]);
    for family in Family::BOTH {
        let page = fetch(&scene.web.namespace, at(family.remote(), 80));
        assert_eq!(page.client, family.host());
    }
    drop(remote);
    // Nobody but netd has done anything for it.
    for line in ["iptables-save", "ip6tables-save", "nft list ruleset"] {
        assert_eq!(world.host.run(line).ok(), "", "{line}");
    }
}

#[track_caller]
fn check_inside(release: Release) {
    let scene = Scene::new(release);
    let world = &scene.host.world;
    create_network(&scene.host, "back", 2, "");
    let other = scene.host.container("other", "--network back");
    let neighbour = scene.host.container("neighbour", "--network front");
    scene.host.known("other");
    scene.host.known("neighbour");
    for family in Family::BOTH {
        let published = at(family.host(), 8080);
        let gateway: IpAddr = netd_tests::topology::gateway(family, 1).parse().unwrap();
        // Itself, a neighbour, a container of another network.
        assert_eq!(fetch(&scene.web.namespace, published).client, gateway);
        let address = world.address("neighbour", family);
        assert_eq!(fetch(&neighbour.namespace, published).client, address);
        assert_eq!(fetch(&other.namespace, published).client, gateway);
        ask_udp(&other.namespace, at(family.host(), 5000), "hello");
        let own = at(world.address("web", family), 80);
        assert_eq!(fetch(&neighbour.namespace, own).client, address);
        assert!(try_fetch(&other.namespace, own).is_err());
        // The host, which is on every bridge.
        for url in [family.pick("127.0.0.1", "[::1]").to_owned(), bracketed(family.host())] {
            let page = fetch_url(&world.host, &format!("http://{url}:8080/"));
            assert_eq!(
                (page.server.as_str(), page.client),
                (scene.web.namespace.name(), gateway),
                "{url}"
            );
        }
        assert_eq!(fetch(&world.host, own).client, gateway);
    }
}

fn bracketed(address: IpAddr) -> String {
    if address.is_ipv6() { format!("[{address}]") } else { address.to_string() }
}

#[test]
fn docker_20_10_is_reached_from_outside_and_leads_out() {
    check_outside(Release::Old);
}

#[test]
fn docker_26_is_reached_from_outside_and_leads_out() {
    check_outside(Release::Middle);
}

#[test]
fn docker_28_is_reached_from_outside_and_leads_out() {
    check_outside(Release::New);
}

#[test]
fn docker_20_10_is_reached_from_containers_and_the_host() {
    check_inside(Release::Old);
}

#[test]
fn docker_26_is_reached_from_containers_and_the_host() {
    check_inside(Release::Middle);
}

#[test]
fn docker_28_is_reached_from_containers_and_the_host() {
    check_inside(Release::New);
}
