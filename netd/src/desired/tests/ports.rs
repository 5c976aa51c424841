//! Published ports: taken, picked, refused and found again.

use super::*;
use crate::model::Listener;

/// Two endpoints, of which `six` has IPv6 as well.
fn published_world() -> World {
    let mut world = World::new();
    world.create("four");
    world.create_with(NetworkCreate {
        name: "both".to_owned(),
        ipv6: true,
        ..NetworkCreate::default()
    });
    world.connect("four", "web");
    world.connect("both", "six");
    world
}

#[test]
fn a_port_taken_names_its_owner() {
    let mut world = published_world();
    world.check_published("web", &["8080:80"], &["8080:80/tcp"]);
    let taken = "is already published by endpoint web as 8080:80/tcp";
    world.check_not_published("web", "8080:80", taken);
    world.check_not_published("six", "8080:80", taken);
    world.check_not_published("six", "192.0.2.1:8080:80", taken);
    world.check_not_published("six", "[2001:db8::1]:8080:80", taken);
    world.check_not_published("six", "8000-8100:8000-8100", taken);
    world.check_not_published("six", "%eth0:8080:80", taken);
    world.check_published("six", &["8080:80/udp"], &["8080:80/udp"]);
    world.check_published("web", &["192.0.2.1:81:81"], &["192.0.2.1:81:81/tcp"]);
    world.check_not_published("six", "81:81", "already published by endpoint web");
    world.check_not_published("six", "%eth0:81:81", "already published by endpoint web");
    world.check_published("six", &["%lo:81:81"], &["%lo:81:81/tcp"]);
    world.check_published(
        "six",
        &["[::]:82:82", "0.0.0.0:82:83"],
        &["[::]:82:82/tcp", "0.0.0.0:82:83/tcp"],
    );
    world.check_not_published("six", "%nix:84:84", "the host has no interface nix");
    world.check_not_published("web", "[::]:84:84", "endpoint web has no IPv6 address");
    world.check_not_published("nix", "84:84", "endpoint nix does not exist");
}

#[test]
fn a_port_is_published_only_on_addresses_of_the_host() {
    let mut world = published_world();
    let gateway = world.desired.networks["four"].subnets[0].gateway.unwrap();
    let check_refused = |world: &mut World, address: &str| {
        let expected = format!(
            "the host has no address {}, so no port can be published on it: choose one of `ip address`",
            address.trim_matches(['[', ']'])
        );
        world.check_not_published("six", &format!("{address}:80:80"), &expected);
    };
    for address in [
        "192.0.2.9",
        "198.51.100.1",
        "172.17.0.2",
        "172.17.255.255",
        "224.0.0.1",
        "255.255.255.255",
        "[2001:db8::2]",
        "[ff02::1]",
        "[::ffff:192.0.2.1]",
        &gateway.to_string(),
    ] {
        check_refused(&mut world, address);
    }
    // A gateway is the host's own address once the bridge has it.
    world.host.addresses.push(IpNet::new(gateway, 16).unwrap());
    for (port, address) in
        ["192.0.2.1", "127.0.0.9", "0.0.0.0", "[::1]", "[::]", "[2001:db8::1]", "172.17.0.1"]
            .iter()
            .enumerate()
    {
        let spec = format!("{address}:{0}:{0}", 100 + port);
        world.check_published("six", &[&spec], &[&format!("{spec}/tcp")]);
    }
}

#[test]
fn one_refused_port_publishes_none() {
    let mut world = published_world();
    assert!(world.publish("web", &["80:80", "80:81"]).is_err());
    assert!(world.desired.endpoints["web"].ports.is_empty());
}

#[test]
fn a_range_gives_its_first_free_port_and_goes_round() {
    let mut world = published_world();
    world.check_published("web", &["8000-8002:80"], &["8000:80/tcp"]);
    world.check_published("six", &["8000-8002:80"], &["8001:80/tcp"]);
    world.desired.remove_endpoint("web");
    world.check_published("six", &["8000-8002:81"], &["8002:81/tcp"]);
    world.check_published("six", &["8000-8002:82"], &["8000:82/tcp"]);
    world.check_not_published(
        "six",
        "8000-8002:83",
        "all of the host ports 8000-8002/tcp are taken",
    );
}

#[test]
fn who_names_a_port_gets_it_before_a_range() {
    let mut world = published_world();
    world.check_published("web", &["8000-8001:80", "8000:81"], &["8001:80/tcp", "8000:81/tcp"]);
}

#[test]
fn a_picked_port_avoids_what_is_reserved_and_busy() {
    let mut world = published_world();
    let address = "127.0.0.1".parse().unwrap();
    world.host.listeners = vec![Listener { proto: Proto::Tcp, address, port: 40_003, inode: 1 }];
    world.check_published("web", &["80"], &["40000:80/tcp"]);
    world.check_published("web", &["80", "90/udp"], &["40004:80/tcp", "40000:90/udp"]);
    world.check_published("web", &["7000-7003"], &["40005-40008:7000-7003/tcp"]);
    world.check_not_published(
        "web",
        "7000-7003",
        "no host port is free in net.ipv4.ip_local_port_range",
    );
    world.check_published("web", &["192.0.2.1::80"], &["192.0.2.1:40009:80/tcp"]);
    world.check_not_published("web", "80", "no host port is free");
    world.check_published("web", &["40001:80"], &["40001:80/tcp"]);
}

#[test]
fn a_port_that_a_process_holds_is_refused() {
    let mut world = published_world();
    let listener = |address: &str, port| Listener {
        proto: Proto::Tcp,
        address: address.parse().unwrap(),
        port,
        inode: 1,
    };
    world.host.listeners = vec![listener("127.0.0.1", 8080), listener("::", 8081)];
    world.check_not_published(
        "web",
        "8080:80",
        "port 8080:80/tcp is held by a process of this host",
    );
    world.check_not_published("web", "127.0.0.1:8080:80", "is held by");
    world.check_not_published("web", "192.0.2.1:8081:80", "is held by");
    world.check_not_published("web", "8079-8082:79-82", "is held by");
    world.check_published("web", &["192.0.2.1:8080:80"], &["192.0.2.1:8080:80/tcp"]);
    world.check_published("web", &["8080:80/udp"], &["8080:80/udp"]);
    world.check_published("web", &["8080-8090:81"], &["8082:81/tcp"]);
}

#[test]
fn a_network_can_choose_where_ports_are_published() {
    let mut world = World::new();
    let key = "com.docker.network.bridge.host_binding_ipv4".to_owned();
    let options = [(key, "127.0.0.1".to_owned())].into();
    world.create_with(NetworkCreate { name: "a".to_owned(), options, ..NetworkCreate::default() });
    world.connect("a", "web");
    world.check_published("web", &["80:80"], &["127.0.0.1:80:80/tcp"]);
    let rows = world.desired.plan_unpublish("web", &["80:80".parse().unwrap()]).unwrap();
    assert_eq!(rows.len(), 1);
}

#[test]
fn a_spec_finds_the_rows_it_made() {
    let mut world = published_world();
    let made = ["8080:80", "8000-8002:81", "9000-9002:9000-9002", "192.0.2.1:53:53/udp", "80"];
    world.publish("web", &made).unwrap();
    let check = |specs: &[&str], expected: &[&str]| {
        let specs: Vec<PortSpec> = specs.iter().map(|spec| spec.parse().unwrap()).collect();
        let rows = world.desired.plan_unpublish("web", &specs).map_err(|error| error.to_string());
        let rows = rows.map(|rows| rows.iter().map(PublishedPort::to_string).collect::<Vec<_>>());
        match rows {
            Ok(rows) => assert_eq!(rows, expected),
            Err(error) => assert!(expected.is_empty(), "{error}"),
        }
    };
    check(&["8080:80"], &["8080:80/tcp"]);
    check(&["published=8080,target=80"], &["8080:80/tcp"]);
    check(&["8000-8002:81"], &["8000:81/tcp"]);
    check(&["8000:81"], &["8000:81/tcp"]);
    check(&["9000-9002:9000-9002"], &["9000-9002:9000-9002/tcp"]);
    check(&["80", "8080:80"], &["8080:80/tcp", "40000:80/tcp"]);
    check(&["192.0.2.1:53:53/udp"], &["192.0.2.1:53:53/udp"]);
    check(&["53:53/udp"], &[]);
    check(&["8080:81"], &[]);
    check(&["8080:80/udp"], &[]);
    check(&["9000:9000"], &[]);
}

#[test]
fn slots_are_shared_by_endpoints_and_ports() {
    let mut world = published_world();
    world.publish("web", &["80:80", "81:81"]).unwrap();
    let slots: Vec<u32> = world.desired.endpoints["web"].ports.iter().map(|row| row.slot).collect();
    assert_eq!((slots, world.desired.free_slot()), (vec![3, 4], Some(5)));
}

#[test]
fn what_was_just_given_back_rests() {
    let mut world = published_world();
    world.check_published("web", &["80", "81"], &["40000:80/tcp", "40003:81/tcp"]);
    world.desired.remove_endpoint("six");
    let mut web = world.desired.endpoints["web"].clone();
    web.ports.pop();
    world.desired.insert_endpoint(web);
    assert_eq!(world.desired.free_slot(), Some(5));
    world.check_published("web", &["82"], &["40004:82/tcp"]);
}

fn specs() -> impl Strategy<Value = String> {
    let host_ip = prop_oneof![
        Just(String::new()),
        prop::sample::select(vec![
            "192.0.2.1:",
            "192.0.2.2:",
            "0.0.0.0:",
            "[::1]:",
            "[::]:",
            "%eth0:",
            "%lo:"
        ])
        .prop_map(str::to_owned),
    ];
    let ports =
        (40_000_u16..40_012, 0_u16..4, 0_u8..4).prop_map(|(first, span, kind)| match kind {
            0 => ":80".to_owned(),
            1 => format!("{first}-{}:80", first + span),
            2 => format!(":{first}-{}", first + span),
            _ => format!("{first}-{}:{first}-{}", first + span, first + span),
        });
    let proto = prop_oneof![Just("tcp"), Just("udp")];
    (host_ip, ports, proto).prop_map(|(host_ip, ports, proto)| {
        let ports = if host_ip.is_empty() { ports.trim_start_matches(':') } else { &ports };
        format!("{host_ip}{ports}/{proto}")
    })
}

proptest! {
    #[test]
    fn no_two_published_ports_overlap(
        steps in prop::collection::vec((any::<bool>(), prop::collection::vec(specs(), 1..3)), 1..30),
    ) {
        let mut world = published_world();
        for (is_web, specs) in &steps {
            let specs: Vec<&str> = specs.iter().map(String::as_str).collect();
            let _ = world.publish(if *is_web { "web" } else { "six" }, &specs);
        }
        let rows: Vec<_> = world.desired.published_ports().map(|(_, row)| row).collect();
        for (i, row) in rows.iter().enumerate() {
            prop_assert!(row.host_port <= row.host_port_end);
            prop_assert_eq!(row.host_port_end - row.host_port, row.port_end - row.port);
            for other in &rows[..i] {
                prop_assert!(!row.overlaps(other), "{} {}", row, other);
                prop_assert!(row.slot != other.slot);
            }
        }
    }
}

#[test]
fn slots_run_out_with_an_error() {
    let mut world = published_world();
    let mut web = world.desired.endpoints["web"].clone();
    let row = PublishedPort {
        slot: 0,
        proto: Proto::Udp,
        host_ip: "192.0.2.1".parse().unwrap(),
        host_port: 1,
        host_port_end: 1,
        port: 1,
        port_end: 1,
    };
    web.ports =
        (3..=crate::desired::MAX_SLOT).map(|slot| PublishedPort { slot, ..row.clone() }).collect();
    world.desired.insert_endpoint(web);
    let specs = ["80:80".parse().unwrap()];
    let plan = world.desired.plan_ports("six", &specs, &world.host);
    assert!(matches!(plan, Err(PublishError::SlotsExhausted { .. })));
}
