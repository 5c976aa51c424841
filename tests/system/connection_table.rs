//! `netd conntrack`: which flows there are, and how they end.

use netd_tests::{
    clients::{Connection, ask_udp, pings},
    condition::eventually,
    family::Family,
    servers,
    topology::{World, at},
};

#[test]
fn flows_are_listed_counted_filtered_and_flushed() {
    let world = World::new();
    world.network("front", 1, "");
    world.network("back", 2, "");
    let web = world.container("web", "front", "-p 8080:80");
    let app = world.container("app", "back", "");
    let _nginx = servers::nginx(&web.namespace, &[80]);
    let _echo = servers::udp_echo(&world.client, 9000);
    let open = |family: Family| Connection::open(&world.client, at(family.host(), 8080));
    let mut connections = Family::BOTH.map(open);
    connections.iter_mut().for_each(|connection| drop(connection.fetch()));
    for family in Family::BOTH {
        ask_udp(&app.namespace, at(family.client(), 9000), "hello");
        assert!(pings(&app.namespace, family.remote()));
    }
    assert_eq!(world.flows(), 6);
    assert_eq!(world.netd("conntrack ls").ok().lines().count(), 6);
    for (filter, count) in [
        ("", 6),
        ("-p tcp", 2),
        ("-p udp", 2),
        ("-p icmp", 1),
        ("-p icmpv6", 1),
        ("--dport 8080", 2),
        ("--dport 80", 0),
        ("-p udp --dport 9000", 2),
        ("--orig-src 192.0.2.2", 1),
        ("--orig-src 10.77.2.0/24", 2),
        ("--orig-src fd77:2::/64", 2),
        ("--orig-dst 192.0.2.1", 1),
        ("--orig-dst 2001:db8:2::7", 1),
        ("--network front", 2),
        ("--network back", 4),
        ("--endpoint web", 2),
        ("--endpoint app -p icmp", 1),
        ("--state ESTABLISHED", 2),
        ("--state established --orig-src 2001:db8::/32", 1),
        ("--state TIME_WAIT", 0),
    ] {
        let flows = world.netd(&format!("conntrack ls --json {filter}")).json();
        assert_eq!(flows.as_array().map(Vec::len), Some(count), "{filter}: {flows}");
    }

    for family in Family::BOTH {
        let line = format!("conntrack ls --json -p tcp --orig-dst {}", family.host());
        let flow = world.netd(&line).json()[0].take();
        let (web, client) = (world.address("web", family), family.client());
        let port = flow["orig"]["sport"].as_u64().unwrap();
        assert_eq!(flow["orig"]["src"], client.to_string());
        assert_eq!(flow["orig"]["dport"], 8080);
        assert_eq!(
            (&flow["reply"]["src"], &flow["reply"]["sport"]),
            (&web.to_string().into(), &80.into())
        );
        assert_eq!(
            (&flow["reply"]["dst"], &flow["reply"]["dport"]),
            (&client.to_string().into(), &port.into())
        );
        assert_eq!((&flow["endpoint"], &flow["network"]), (&"web".into(), &"front".into()));
        // Five days.
        assert!((431_000..=432_000).contains(&flow["timeout_secs"].as_u64().unwrap()), "{flow}");
        assert!(flow.get("packets").is_none(), "flow accounting is off: {flow}");
        let line = format!("conntrack ls --json -p udp --orig-dst {}", family.client());
        let flow = world.netd(&line).json()[0].take();
        assert_eq!(flow["reply"]["dst"], family.host().to_string());
        assert_eq!(flow["endpoint"], "app");
    }

    let flush = |filter: &str| world.netd(&format!("conntrack flush --json {filter}")).json();
    assert_eq!(flush("-p udp")["flushed"], 2);
    assert_eq!(world.flows(), 4);
    assert_eq!(flush("--endpoint app")["flushed"], 2);
    assert_eq!(flush("-p udp")["flushed"], 0);
    connections.iter_mut().for_each(|connection| drop(connection.fetch()));
    assert_eq!(flush("")["flushed"], 2);
    assert_eq!(world.flows(), 0);
}

#[test]
fn flows_end_with_their_timers() {
    let world = World::with_config("[timeouts]\nudp = 1\nudp_stream = 1\nicmp = 1\nicmpv6 = 1\n");
    world.network("front", 1, "");
    let app = world.container("app", "front", "");
    let _echo = servers::udp_echo(&world.client, 9000);
    for family in Family::BOTH {
        ask_udp(&app.namespace, at(family.client(), 9000), "hello");
        assert!(pings(&app.namespace, family.remote()));
    }
    eventually("the table is empty", || world.flows() == 0);
    for family in Family::BOTH {
        ask_udp(&app.namespace, at(family.client(), 9000), "hello");
    }
}

#[test]
fn packets_and_bytes_of_flows_are_counted_where_that_is_asked_for() {
    let world = World::with_config("[datapath]\nflow_accounting = true\nmax_flows = 8192\n");
    world.network("front", 1, "");
    let web = world.container("web", "front", "-p 8080:80");
    let _nginx = servers::nginx(&web.namespace, &[80]);
    for family in Family::BOTH {
        netd_tests::clients::fetch_big(&world.client, at(family.host(), 8080));
        let line = format!("conntrack ls --json -p tcp --orig-dst {}", family.host());
        let flow = world.netd(&line).json()[0].take();
        assert!(flow["packets"].as_u64().unwrap() > 10, "{flow}");
        assert!(flow["bytes"].as_u64().unwrap() > servers::BIG_FILE_BYTES, "{flow}");
    }
}
