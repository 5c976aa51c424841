//! From outside to a container, by a port of the host.

use netd_tests::{
    clients::{
        Connection, NoConnection, Transport, answers_udp, ask_udp, dig, fetch, iperf3, pings,
        try_fetch,
    },
    family::Family,
    servers::{self, DNS_NAME},
    topology::{World, at},
};

#[test]
fn bulk_data_passes_a_published_port_in_both_directions() {
    const BYTES: u64 = 30 << 20;
    let world = World::new();
    world.network("front", 1, "");
    let sink = world.container("sink", "front", "-p 5201:5201 -p 5201:5201/udp");
    let _iperf3 = servers::iperf3(&sink.namespace, 5201);
    for family in Family::BOTH {
        for transport in [Transport::Tcp, Transport::Udp] {
            for direction in ["", "--reverse"] {
                let options = format!("--bytes 30M {direction}");
                let to = at(family.host(), 5201);
                let bytes = iperf3(&world.client, to, transport, &options);
                // UDP may lose something on the way.
                assert!(bytes > BYTES / 2, "{family} {transport} {direction}: {bytes} bytes");
            }
        }
    }
    assert_eq!(world.packets("malformed"), 0);
}

#[test]
fn a_name_server_in_a_container_answers_the_outside() {
    let world = World::new();
    world.network("front", 1, "");
    let dns = world.container("dns", "front", "-p 53:53/udp -p 53:53");
    let _dnsmasq = servers::dns(&dns.namespace, "198.51.100.80", "2001:db8:2::80");
    for family in Family::BOTH {
        for transport in [Transport::Udp, Transport::Tcp] {
            let answers = dig(&world.client, family.host(), DNS_NAME, transport);
            assert_eq!(answers, [family.pick("198.51.100.80", "2001:db8:2::80")], "{transport}");
        }
    }
}

#[test]
fn ports_come_and_go_on_a_running_endpoint() {
    let world = World::new();
    world.network("front", 1, "");
    let web = world.container("web", "front", "-p 8080:80");
    let _nginx = servers::nginx(&web.namespace, &[80]);
    let _echo = servers::udp_echo(&web.namespace, 9000);
    let rows = world.netd("port add web 8081:80 9000:9000/udp 80 --json").json();
    let picked = rows[2]["host_port"].as_u64().and_then(|port| u16::try_from(port).ok()).unwrap();
    assert_eq!(rows[0]["host_port"], 8081);
    assert_eq!(rows[1]["proto"], "udp");
    assert!((32_768..=60_999).contains(&picked), "not of ip_local_port_range: {picked}");
    for family in Family::BOTH {
        for port in [8080, 8081, picked] {
            assert_eq!(fetch(&world.client, at(family.host(), port)).port, 80);
        }
        ask_udp(&world.client, at(family.host(), 9000), "hello");
    }
    world.netd("port rm web 8081:80 9000:9000/udp").ok();
    for family in Family::BOTH {
        let refused = try_fetch(&world.client, at(family.host(), 8081));
        assert_eq!(refused, Err(NoConnection::Refused));
        assert!(!answers_udp(&world.client, at(family.host(), 9000)));
        fetch(&world.client, at(family.host(), 8080));
    }
}

#[test]
fn an_unpublished_port_keeps_its_connections_unless_they_are_killed() {
    let world = World::new();
    world.network("front", 1, "");
    let web = world.container("web", "front", "-p 8080:80 -p 8081:80");
    let _nginx = servers::nginx(&web.namespace, &[80]);
    let mut pairs = Family::BOTH.map(|family| {
        [8080, 8081].map(|port| Connection::open(&world.client, at(family.host(), port)))
    });
    pairs.iter_mut().flatten().for_each(|connection| drop(connection.fetch()));
    world.netd("port rm web 8080:80").ok();
    world.netd("port rm web 8081:80 --kill").ok();
    for [kept, killed] in &mut pairs {
        kept.fetch();
        assert!(killed.try_fetch().is_err());
    }
}

#[test]
fn a_port_is_published_once_and_a_refused_list_publishes_none() {
    let world = World::new();
    world.network("front", 1, "");
    let _web =
        world.container("web", "front", "-p 8080:80 -p 192.0.2.1:9000:90 -p 7000-7009:700-709");
    let _api = world.container("api", "front", "");
    let before = world.netd("port ls --json").ok();
    for (spec, taken_by) in [
        ("8080:81", "web"),
        ("192.0.2.1:8080:81", "web"),
        ("[::1]:8080:81", "web"),
        ("8000-8100:8000-8100", "web"),
        ("9000:90", "web"),
        ("192.0.2.1:9000:91", "web"),
        ("7005:80", "web"),
    ] {
        let error = world.refused(&format!("port add api 8888:88 {spec}"));
        assert!(error.contains(taken_by) && error.contains("already published"), "{error}");
        assert_eq!(world.netd("port ls --json").ok(), before, "{spec}");
    }
    // Another protocol or address is another port.
    world.netd("port add api 8080:80/udp 127.0.0.1:9000:90").ok();
}

#[test]
fn a_ping_to_the_host_is_answered_by_the_host() {
    let world = World::new();
    world.network("front", 1, "");
    let _web = world.container("web", "front", "-p 1-65535:1-65535/udp -p 1-65535:1-65535");
    for family in Family::BOTH {
        assert!(pings(&world.client, family.host()));
    }
    assert_eq!(world.netd("port ls --json").json().as_array().unwrap().len(), 2);
}
