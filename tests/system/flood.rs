//! A table that runs full: a flood of SYNs, and limits.
//!
//! `NETD_FLOOD_SOURCES` and `NETD_FLOOD_MAX_FLOWS` choose how large the flood and the table are; `cargo xtask flood`
//! sets them.

use std::{
    env,
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
    thread,
    time::Duration,
};

use netd_tests::{
    clients::{Connection, answers_udp, ask_udp, fetch, udp_socket},
    condition::{eventually, within},
    family::Family,
    packet::{HOST_MAC, Kind, Packet, SYN, stranger},
    raw::send_frames,
    servers,
    topology::{UPLINK, World, at},
};

/// How many frames are made before they are sent.
const VOLLEY: u32 = 4096;
/// How many sources the flood has at least, in each family.
const SOURCES: u32 = 50_000;
/// How many flows the table takes.
const MAX_FLOWS: u32 = 2_048;

/// How long it may take to fill a large table on a busy machine.
const FILLING: Duration = Duration::from_secs(90);

/// SYNs to a published port, each from a source and port of its own.
fn volley(family: Family, first: u32) -> Vec<Vec<u8>> {
    let syn = |number: u32| {
        Packet::new(Kind::Tcp(SYN), stranger(family, number), at(family.host(), 8080)).frame()
    };
    (first..first + VOLLEY).map(syn).collect()
}

#[test]
fn a_flood_of_syns_leaves_everybody_elses_connections_alone() {
    let sources = number("NETD_FLOOD_SOURCES").unwrap_or(SOURCES);
    let max_flows = number("NETD_FLOOD_MAX_FLOWS").unwrap_or(MAX_FLOWS);
    let world = World::with_config(&format!("[datapath]\nmax_flows = {max_flows}\n"));
    let [a, b, c, d, e, f] = HOST_MAC;
    let mac = format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}");
    world.host.ip(&[&format!("link set {UPLINK} address {mac}")]);
    world.network("front", 1, "");
    let web = world.container("web", "front", "-p 8080:80 -p 8081:81");
    let app = world.container("app", "front", "");
    let _inside = servers::nginx(&web.namespace, &[80, 81]);
    let _outside = servers::nginx(&world.client, &[80]);
    for family in Family::BOTH {
        let before = displaced(&world);
        let mut kept = Connection::open(&world.client, at(family.host(), 8080));
        kept.fetch();
        let (is_over, sent) = (AtomicBool::new(false), AtomicU32::new(0));
        thread::scope(|scope| {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) || sent.load(Ordering::Relaxed) < sources {
                    let first = sent.fetch_add(VOLLEY, Ordering::Relaxed);
                    send_frames(&world.client, "eth0", &volley(family, first));
                }
            });
            let _end = SetAtEnd(&is_over);
            let is_full = || (displaced(&world) > before).then_some(());
            within(FILLING, is_full).expect("the table gets full");
            for port in [8080, 8081] {
                fetch(&world.client, at(family.host(), port));
                fetch(&app.namespace, at(family.client(), 80));
                kept.fetch();
            }
        });
        kept.fetch();
        // Most of the flood's flows have given way to those that came after them.
        let table = world.netd("conntrack count --json").json();
        let displaced = displaced(&world) - before;
        assert!(displaced > u64::from((sources - max_flows) / 2), "{table}");
        assert_eq!(table["max_flows"], max_flows);
        // Where expiry has removed very many at once, it takes some packets to find who is left.
        assert!(world.packets("conntrack_full") < 100, "{table}");
        let sent = sent.into_inner();
        eprintln!(
            "{family}: {sent} sources, {displaced} flows gave way, {} refused",
            world.packets("conntrack_full")
        );
    }
    eventually("the daemon has said so", || world.daemon.log().contains("nine tenths full"));
}

/// Ends the flood with the scope, also where a condition is not met.
struct SetAtEnd<'a>(&'a AtomicBool);

impl Drop for SetAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn number(variable: &str) -> Option<u32> {
    env::var(variable).ok().map(|text| text.parse().unwrap())
}

fn displaced(world: &World) -> u64 {
    world.netd("conntrack count --json").json()["displaced"].as_u64().unwrap()
}

#[test]
fn endpoints_and_networks_have_no_more_flows_than_they_may() {
    let world = World::new();
    world.network("front", 1, "--max-flows 5");
    world.network("back", 2, "-o max_flows=3");
    let app = world.container("app", "front", "--max-flows 2");
    let other = world.container("other", "back", "");
    let _echo = servers::udp_echo(&world.client, 9000);
    assert_eq!(world.netd("network inspect front --json").json()[0]["max_flows"], 5);
    assert_eq!(world.netd("network inspect back --json").json()[0]["max_flows"], 3);
    assert_eq!(world.endpoint("app")["max_flows"], 2);
    for (container, flows, reason) in
        [(&app, 2, "endpoint_flow_limit"), (&other, 3, "network_flow_limit")]
    {
        for family in Family::BOTH {
            world.netd("conntrack flush").ok();
            let echo = at(family.client(), 9000);
            let sockets: Vec<_> =
                (0..flows).map(|_| udp_socket(&container.namespace, echo).unwrap()).collect();
            for socket in &sockets {
                netd_tests::clients::ask_by(socket, "hello");
            }
            let before = world.packets(reason);
            assert!(!answers_udp(&container.namespace, echo), "{family} {reason}");
            assert!(world.packets(reason) > before, "{family} {reason}");
            // Those that there are go on, and with one gone there is room for another.
            netd_tests::clients::ask_by(&sockets[0], "again");
            let port = sockets[1].local_addr().unwrap().port();
            assert_eq!(world.netd(&format!("conntrack flush -q --sport {port}")).ok().trim(), "1");
            ask_udp(&container.namespace, echo, "hello");
        }
    }
}

#[test]
fn limits_of_the_configuration_hold_where_nobody_says_another() {
    let config =
        |limit| format!("[datapath]\nmax_flows = 8192\nmax_flows_per_endpoint = {limit}\n");
    let mut world = World::with_config(&config(1));
    world.network("front", 1, "");
    let app = world.container("app", "front", "");
    let own = world.container("own", "front", "--max-flows 9");
    let _echo = servers::udp_echo(&world.client, 9000);
    let echo = at(Family::V4.client(), 9000);
    ask_udp(&app.namespace, echo, "hello");
    assert!(!answers_udp(&app.namespace, echo));
    (0..3).for_each(|_| drop(ask_udp(&own.namespace, echo, "hello")));
    world.daemon.configure(&config(2));
    world.daemon.signal(nix::sys::signal::Signal::SIGHUP);
    eventually("the limit is followed", || answers_udp(&app.namespace, echo));
}
