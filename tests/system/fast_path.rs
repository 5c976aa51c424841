//! What tells the two data paths apart, and what does not: the host's stack and its counters.

use netd_tests::{
    clients::{NoConnection, Transport, ask_udp, fetch, fetch_big, iperf3, pings, try_fetch},
    data_path::DataPath,
    family::Family,
    servers,
    topology::{Container, World, at, gateway},
};

/// Adds a chain to the host's forward hook with one rule, or none, in a table of its own.
fn firewall(world: &World, policy: &str, rule: &str) {
    world.host.run("nft add table inet own").ok();
    let chain = format!("{{ type filter hook forward priority 0 ; policy {policy} ; }}");
    world.host.run(&format!("nft add chain inet own forward {chain}")).ok();
    if !rule.is_empty() {
        world.host.run(&format!("nft add rule inet own forward {rule}")).ok();
    }
}

/// Packets that the host has forwarded, and has received and sent on the bridge and towards a container.
fn stack_counters(world: &World, container: &Container) -> [(&'static str, u64); 4] {
    let rules = world.host.run("nft list table inet own").ok();
    let forwarded = rules.split("counter packets ").nth(1).and_then(|text| text.split(' ').next());
    let bridge = world.netd("network inspect front --json").json()[0]["bridge"].take();
    let bridge = device_packets(world, bridge.as_str().unwrap());
    let veth = device_packets(world, &world.host_ifname(container).unwrap());
    [
        ("forwarded", forwarded.unwrap().parse().unwrap()),
        ("received on the bridge", bridge[0]),
        ("sent on the bridge", bridge[1]),
        ("sent to the container", veth[1]),
    ]
}

/// Packets that a device of the host has received and sent.
fn device_packets(world: &World, ifname: &str) -> [u64; 2] {
    let links = world.host.run(&format!("ip -json -statistics link show dev {ifname}")).json();
    ["rx", "tx"].map(|way| links[0]["stats64"][way]["packets"].as_u64().unwrap())
}

#[test]
fn bulk_data_passes_the_hosts_stack_by_on_the_fast_path_alone() {
    /// Neighbour discovery, and what comes before a flow is known.
    const HANDFUL: u64 = 20;
    let world = World::new();
    world.network("front", 1, "");
    let web = world.container("web", "front", "-p 8080:80 -p 5201:5201");
    let _inside = servers::nginx(&web.namespace, &[80]);
    let _iperf3 = servers::iperf3(&web.namespace, 5201);
    let _outside = servers::nginx(&world.client, &[80]);
    firewall(&world, "accept", "counter");
    for family in Family::BOTH {
        let host = family.host();
        let upload = || {
            let bytes = iperf3(&world.client, at(host, 5201), Transport::Tcp, "--bytes 30M");
            assert!(bytes > 15 << 20, "{bytes}");
        };
        let transfers: [(&str, &dyn Fn()); 3] = [
            ("published, to the client", &|| fetch_big(&world.client, at(host, 8080))),
            ("published, from the client", &upload),
            ("masqueraded", &|| fetch_big(&web.namespace, at(family.remote(), 80))),
        ];
        for (transfer, run) in transfers {
            let before = stack_counters(&world, &web);
            run();
            for ((what, before), (_, after)) in before.into_iter().zip(stack_counters(&world, &web))
            {
                let grown = after - before;
                match DataPath::under_test() {
                    DataPath::Fast => assert!(grown <= HANDFUL, "{transfer}: {grown} {what}"),
                    DataPath::Stack => assert!(grown > HANDFUL, "{transfer}: {grown} {what}"),
                }
            }
        }
    }
}

#[test]
fn a_firewall_that_forwards_nothing_stops_the_stack_path_alone() {
    let world = World::new();
    world.network("front", 1, "");
    let web = world.container("web", "front", "-p 8080:80 -p 9000:9000/udp");
    let _inside = servers::nginx(&web.namespace, &[80]);
    let _echo = servers::udp_echo(&web.namespace, 9000);
    let _outside = servers::nginx(&world.client, &[80]);
    firewall(&world, "drop", "");
    for family in Family::BOTH {
        let host = family.host();
        match DataPath::under_test() {
            DataPath::Fast => {
                assert_eq!(fetch(&world.client, at(host, 8080)).client, family.client());
                ask_udp(&world.client, at(host, 9000), "hello");
                let page = fetch(&web.namespace, at(family.remote(), 80));
                assert_eq!(page.client, host);
                assert!(pings(&web.namespace, family.remote()));
            }
            DataPath::Stack => {
                let to = at(host, 8080);
                assert_eq!(try_fetch(&world.client, to), Err(NoConnection::TimedOut));
                let to = at(family.remote(), 80);
                assert_eq!(try_fetch(&web.namespace, to), Err(NoConnection::TimedOut));
            }
        }
        // The host's own connections are not forwarded.
        assert_eq!(fetch(&world.host, at(family.loopback(), 8080)).server, web.namespace.name());
    }
}

#[test]
fn a_packet_that_is_out_of_hops_is_answered_by_the_host() {
    let world = World::new();
    world.network("front", 1, "");
    world.network("back", 2, "");
    world.netd("network allow front back").ok();
    let app = world.container("app", "front", "");
    let _db = world.container("db", "back", "");
    for family in Family::BOTH {
        for to in [family.remote(), family.client(), world.address("db", family)] {
            let ping = |ttl: u8| app.namespace.run(&format!("ping -n -c 1 -W 5 -t {ttl} {to}"));
            // In the middle of a flow too.
            ping(64).ok();
            let expired = ping(1);
            let router = format!("From {}", gateway(family, 1));
            assert!(!expired.is_ok() && expired.stdout.contains(&router), "{expired}");
            assert!(expired.stdout.contains("exceeded"), "{expired}");
            ping(2).ok();
        }
    }
}

#[test]
fn a_packet_with_options_takes_the_stack_and_is_answered() {
    let world = World::new();
    world.network("front", 1, "");
    world.network("back", 2, "");
    world.netd("network allow front back").ok();
    let app = world.container("app", "front", "");
    let _db = world.container("db", "back", "");
    for to in [Family::V4.remote(), Family::V4.client(), world.address("db", Family::V4)] {
        let answer = app.namespace.run(&format!("ping -n -c 1 -W 5 -R {to}")).ok();
        // The host has written the address that it sends from, as any router does.
        let route: Vec<&str> = answer.lines().skip_while(|line| !line.contains("RR:")).collect();
        let own = if to == world.address("db", Family::V4) {
            gateway(Family::V4, 2)
        } else {
            Family::V4.host().to_string()
        };
        assert!(route.iter().any(|line| line.contains(&own)), "{answer}");
        pings(&app.namespace, to);
    }
}
