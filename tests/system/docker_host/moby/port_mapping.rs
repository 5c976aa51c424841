//! `port_mapping_linux_test.go`.

use std::net::SocketAddr;

use netd_tests::{
    clients::{answers_udp, ask_udp, pings, pings_at_once},
    condition::eventually,
    docker::{DockerHost, FOR_NETD, Release},
    family::Family,
    servers,
    topology::{UPLINK, at},
};
use serde_json::json;

use super::{address, closed, fetched, host, host_port, reached};
use crate::docker_host::create_network;

#[test]
fn test_disable_nat() {
    let host = host();
    let mode = |family: u8, mode: &str| {
        format!("-o com.docker.network.bridge.gateway_mode_ipv{family}={mode}")
    };
    for (number, name, modes, rows) in [
        (1, "both", [mode(4, "nat"), mode(6, "nat")], json!([["*", 8001]])),
        (2, "six", [mode(4, "nat"), mode(6, "routed")], json!([["*", 8002]])),
        (3, "neither", [mode(4, "routed"), mode(6, "routed")], json!([["-", 80]])),
    ] {
        create_network(&host, name, number, &modes.join(" "));
        let port = 8000 + u16::from(number);
        host.container(&format!("c-{name}"), &format!("--network {name} -p {port}:80"));
        let ports = host.published(&format!("c-{name}"));
        let found: Vec<_> = ports
            .as_array()
            .into_iter()
            .flatten()
            .map(|row| json!([row["host_ip"], row["host_port"]]))
            .collect();
        assert_eq!(json!(found), rows, "{name}");
    }
}

#[test]
fn test_port_mapped_hairpin_tcp() {
    let host = host();
    create_network(&host, "serverbr", 1, "");
    create_network(&host, "clientbr", 2, "");
    let server = host.container("server", "--network serverbr -p 80");
    let _nginx = servers::nginx(&server.namespace, &[80]);
    let client = host.container("client", "--network clientbr");
    let port = host_port(&host, "server", "80/tcp");
    for family in Family::BOTH {
        let page = reached(&client.namespace, at(family.host(), port));
        assert_eq!(page.server, server.namespace.name());
    }
}

#[test]
fn test_port_mapped_hairpin_udp() {
    let host = host();
    create_network(&host, "serverbr", 1, "");
    create_network(&host, "clientbr", 2, "");
    let server = host.container("server", "--network serverbr -p 54/udp");
    let _echo = servers::udp_echo(&server.namespace, 54);
    let client = host.container("client", "--network clientbr");
    let port = host_port(&host, "server", "54/udp");
    host.known("client");
    host.published("server");
    for family in Family::BOTH {
        ask_udp(&client.namespace, at(family.host(), port), "hello");
    }
}

#[test]
fn test_proxy_4_to_6() {
    // IPv6 addresses of the host for a container that has IPv4 only: rules never lead there, sockets do.
    let host = host();
    host.docker("network create ipv4net").ok();
    let own = Family::V6.host();
    let options = format!("--network ipv4net -p [::1]:8080:80 -p [{own}]:8081:80 -p 8082:80");
    let server = host.container("server", &options);
    let _nginx = servers::nginx(&server.namespace, &[80]);
    host.published("server");
    let local = &host.world.host;
    let own = format!("[{own}]");
    for (address, port) in [("[::1]", 8080), (own.as_str(), 8081), ("[::1]", 8082), (&own, 8082)] {
        let page = fetched(local, address, port);
        assert_eq!(page.server, server.namespace.name(), "{address}:{port}");
    }
    closed(local, at(Family::V6.host(), 8080));
    closed(local, "[::1]:8081".parse().unwrap());
    // No packet can be translated so.
    closed(&host.world.client, at(Family::V6.host(), 8081));
}

#[test]
fn test_access_published_port_from_host() {
    let host = host();
    create_network(&host, "front", 1, "");
    let web = host.container("web", "--network front -p 8080:80");
    let _nginx = servers::nginx(&web.namespace, &[80]);
    host.published("web");
    let links =
        host.world.host.run(&format!("ip -6 -oneline address show dev {UPLINK} scope link"));
    let link_local = links.ok();
    let link_local = link_local.split_whitespace().nth(3).unwrap().split('/').next().unwrap();
    let link_local = format!("[{link_local}%25{UPLINK}]");
    let (v4, v6) = (Family::V4.host().to_string(), format!("[{}]", Family::V6.host()));
    for address in ["localhost", "127.0.0.1", "[::1]", &v4, &v6, &link_local] {
        let page = fetched(&host.world.host, address, 8080);
        assert_eq!(page.server, web.namespace.name(), "{address}");
    }
}

#[test]
fn test_access_published_port_from_remote_host() {
    let host = host();
    create_network(&host, "front", 1, "");
    let web = host.container("web", "--network front -p 8080:80");
    let _nginx = servers::nginx(&web.namespace, &[80]);
    for family in Family::BOTH {
        let page = reached(&host.world.client, at(family.host(), 8080));
        assert_eq!((page.server.as_str(), page.client), (web.namespace.name(), family.client()));
    }
}

#[test]
fn test_access_published_port_from_ctr() {
    let host = host();
    create_network(&host, "front", 1, "");
    let web = host.container("web", "--network front -p 8080:80");
    let _nginx = servers::nginx(&web.namespace, &[80]);
    let client = host.container("client", "--network front");
    host.known("client");
    for family in Family::BOTH {
        let own = address(&host, &client, "front", family == Family::V6);
        // The neighbour itself, and not the gateway: row P13.
        assert_eq!(reached(&client.namespace, at(family.host(), 8080)).client, own);
        reached(&web.namespace, at(family.host(), 8080));
    }
}

#[test]
fn test_access_published_port_from_another_network() {
    let host = host();
    create_network(&host, "one", 1, "");
    create_network(&host, "two", 2, "");
    let web = host.container("web", "--network one -p 8080:80");
    let _nginx = servers::nginx(&web.namespace, &[80]);
    let client = host.container("client", "--network two");
    host.known("client");
    for family in Family::BOTH {
        for number in [1, 2] {
            let gateway = netd_tests::topology::gateway(family, number).parse().unwrap();
            reached(&client.namespace, at(gateway, 8080));
        }
        reached(&client.namespace, at(family.host(), 8080));
        closed(&client.namespace, at(address(&host, &web, "one", family == Family::V6), 80));
    }
}

#[test]
fn test_direct_routing_open_ports() {
    let host = host();
    let world = &host.world;
    // What a neighbour of the host reaches who has a route: the published port, another one, an echo.
    for (number, mode, expected) in [
        (1, "nat", [false, false, false]),
        (2, "nat-unprotected", [true, true, true]),
        (3, "routed", [true, false, true]),
    ] {
        let options = [4, 6]
            .map(|family| format!("-o com.docker.network.bridge.gateway_mode_ipv{family}={mode}"));
        create_network(&host, mode, number, &options.join(" "));
        let name = format!("c{number}");
        let container =
            host.container(&name, &format!("--network {mode} -p {}:80", 8080 + u16::from(number)));
        let _nginx = servers::nginx(&container.namespace, &[80, 81]);
        host.published(&name);
        world.route_client_to_containers(number);
        for family in Family::BOTH {
            let own = address(&host, &container, mode, family == Family::V6);
            for (port, is_open) in [(80, expected[0]), (81, expected[1])] {
                if is_open {
                    reached(&world.client, at(own, port));
                } else {
                    closed(&world.client, at(own, port));
                }
            }
            let answers = if expected[2] { pings } else { pings_at_once };
            assert_eq!(answers(&world.client, own), expected[2], "{mode} {family}");
        }
    }
}

#[test]
fn test_accept_fw_mark() {
    let mut host = DockerHost::without_daemons(Release::New);
    // Debian's dockerd does not know the option yet.
    host.configure_netd("accept_mark = \"2/3\"");
    host.world.daemon.start();
    host.start_docker(FOR_NETD);
    let trusted = format!("-o com.docker.network.bridge.trusted_host_interfaces={UPLINK}");
    create_network(&host, "front", 1, &trusted);
    create_network(&host, "back", 2, "");
    // Nothing is published.
    let [front, back] = ["front", "back"].map(|name| {
        let container = host.container(name, &format!("--network {name}"));
        host.known(name);
        container
    });
    let _servers = [&front, &back].map(|it| servers::nginx(&it.namespace, &[80]));
    let client = &host.world.client;
    for number in [1, 2] {
        host.world.route_client_to_containers(number);
    }
    let check = |is_marked: bool| {
        for family in Family::BOTH {
            let to = address(&host, &front, "front", family == Family::V6);
            assert_eq!(pings_at_once(client, to), is_marked, "{to}");
            if is_marked {
                let page = reached(client, at(to, 80));
                assert_eq!(
                    (page.server.as_str(), page.client),
                    (front.namespace.name(), family.client())
                );
            } else {
                closed(client, at(to, 80));
            }
            // The other network does not trust the device.
            closed(client, at(address(&host, &back, "back", family == Family::V6), 80));
        }
    };
    check(false);
    for family in Family::BOTH {
        let iptables = family.pick("iptables", "ip6tables");
        let rule = format!("-t mangle -A PREROUTING -i {UPLINK} -j MARK --set-mark 6");
        host.world.host.run(&format!("{iptables} {rule}")).ok();
    }
    check(true);
}

#[test]
fn test_routed_non_gateway() {
    let host = host();
    let world = &host.world;
    let routed = [4, 6]
        .map(|family| format!("-o com.docker.network.bridge.gateway_mode_ipv{family}=routed"));
    create_network(&host, "insulated", 1, "");
    create_network(&host, "routed", 2, &routed.join(" "));
    let web = host.container("web", "--network insulated -p 8080:80");
    host.docker("network connect routed web").ok();
    let _nginx = servers::nginx(&web.namespace, &[80, 81]);
    world.route_client_to_containers(2);
    host.published("web.routed");
    for family in Family::BOTH {
        reached(&world.client, at(family.host(), 8080));
        // The way back is by the other network, which Docker leaves to the host's administrator.
        let (own, to) = (address(&host, &web, "routed", family == Family::V6), family.client());
        let gateway = netd_tests::topology::gateway(family, 2);
        let bits = family.host_prefix();
        web.namespace.ip(&[&format!("route add {to}/{bits} via {gateway}")]);
        reached(&world.client, at(own, 80));
        closed(&world.client, at(own, 81));
    }
}

#[test]
fn test_direct_remote_access_on_exposed_port() {
    let host = host();
    let world = &host.world;
    create_network(&host, "front", 1, "");
    let web = host.container("web", "--network front --expose 80");
    let published = host.container("published", "--network front --expose 81 -p 8080:80");
    let _servers = [&web, &published].map(|it| servers::nginx(&it.namespace, &[80, 81]));
    host.published("published");
    world.route_client_to_containers(1);
    for family in Family::BOTH {
        for container in [&web, &published] {
            let own = address(&host, container, "front", family == Family::V6);
            for port in [80, 81] {
                closed(&world.client, at(own, port));
            }
        }
    }
}

#[test]
fn test_access_port_published_on_loopback_address() {
    let host = host();
    let world = &host.world;
    let web = host.container("web", "-p 127.0.0.1:8080:80 -p 127.0.0.1:5000:5000/udp");
    let _servers = (servers::nginx(&web.namespace, &[80]), servers::udp_echo(&web.namespace, 5000));
    host.published("web");
    let to: SocketAddr = "127.0.0.1:8080".parse().unwrap();
    reached(&world.host, to);
    ask_udp(&world.host, "127.0.0.1:5000".parse().unwrap(), "hello");
    // dockerd makes loopback addresses routable; a neighbour who knows that gets nowhere.
    world.client.ip(&["route add 127.0.0.2 via 192.0.2.1", "route add 127.0.0.1 via 192.0.2.1"]);
    world.client.set_sysctl("ipv4/conf/all/route_localnet", "1");
    world.client.ip(&["address del 127.0.0.1/8 dev lo"]);
    closed(&world.client, to);
    closed(&world.client, at(Family::V4.host(), 8080));
    assert!(!answers_udp(&world.client, "127.0.0.1:5000".parse().unwrap()));
}

#[test]
fn test_mix_any_with_specific_host_addrs() {
    let host = host();
    let world = &host.world;
    create_network(&host, "front", 1, "");
    let web = host.container(
        "web",
        "--network front -p 8080:80 -p 127.0.0.1:8081:80 -p [::1]:8082:80 -p 192.0.2.1:8083:80",
    );
    let _nginx = servers::nginx(&web.namespace, &[80]);
    host.published("web");
    for family in Family::BOTH {
        reached(&world.client, at(family.host(), 8080));
        reached(&world.host, at(family.loopback(), 8080));
    }
    reached(&world.host, at(Family::V4.loopback(), 8081));
    closed(&world.client, at(Family::V4.host(), 8081));
    reached(&world.host, at(Family::V6.loopback(), 8082));
    closed(&world.client, at(Family::V6.host(), 8082));
    reached(&world.client, at(Family::V4.host(), 8083));
    closed(&world.client, at(Family::V6.host(), 8083));
}

#[test]
fn test_port_mapping_on_distinct_loopback_addrs() {
    let host = host();
    let one = host.container("one", "-p 127.0.0.1:8080:80");
    let two = host.container("two", "-p 127.0.0.2:8080:80");
    let _servers = [&one, &two].map(|it| servers::nginx(&it.namespace, &[80]));
    for container in [&one, &two] {
        host.published(&container.name);
    }
    for (address, container) in [("127.0.0.1", &one), ("127.0.0.2", &two)] {
        eventually(&format!("{address} leads to {}", container.name), || {
            fetched(&host.world.host, address, 8080).server == container.namespace.name()
        });
    }
}
