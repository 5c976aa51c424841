//! What is never to be seen, looked for while everything is set up, torn down and killed.

use std::{
    net::{SocketAddr, UdpSocket},
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use netd_tests::{
    family::Family,
    netns::Namespace,
    topology::{Container, UPLINK, World, at, default_routes, subnet},
};

/// Counts, with an nftables table of that name, what comes in from addresses.
fn count(namespace: &Namespace, table: &str, sources: [String; 2]) {
    let chain = "{ type filter hook prerouting priority -500 ; }";
    namespace.run(&format!("nft add table inet {table}")).ok();
    namespace.run(&format!("nft add chain inet {table} seen {chain}")).ok();
    for (family, source) in [("ip", &sources[0]), ("ip6", &sources[1])] {
        let rule = format!("{family} saddr {source} udp dport 9000 counter");
        namespace.run(&format!("nft add rule inet {table} seen {rule}")).ok();
    }
}

/// How many packets a table has counted, by family.
fn counted(namespace: &Namespace, table: &str) -> Vec<u64> {
    let rules = namespace.run(&format!("nft list table inet {table}")).ok();
    let counters = rules.split("counter packets ").skip(1);
    counters.map(|text| text.split(' ').next().unwrap().parse().unwrap()).collect()
}

/// Sends datagrams to all of `targets` without a pause until it is over. Most of the time some of them
/// cannot be sent.
fn send_all_the_time(from: &Container, targets: &[SocketAddr], is_over: &AtomicBool) {
    from.namespace.inside(|| {
        let sockets =
            Family::BOTH.map(|family| UdpSocket::bind(family.pick("0.0.0.0:0", "[::]:0")).unwrap());
        while !is_over.load(Ordering::Relaxed) {
            for target in targets {
                let socket = &sockets[usize::from(target.is_ipv6())];
                let _ = socket.send_to(b"leak", target);
            }
            thread::yield_now();
        }
    });
}

#[test]
fn no_packet_leaks_while_containers_uplinks_and_daemons_come_and_go() {
    let mut world = World::new();
    world.network("front", 1, "");
    world.network("back", 2, "");
    let db = world.container("db", "back", "");
    let app = world.sandbox("app");
    let own = Family::BOTH.map(|family| subnet(family, 1));
    count(&world.client, "leaked", own.clone());
    count(&world.client, "masqueraded", Family::BOTH.map(|family| family.host().to_string()));
    count(&db.namespace, "leaked", own);
    let targets: Vec<SocketAddr> = Family::BOTH
        .into_iter()
        .flat_map(|family| {
            let addresses = [family.client(), family.remote(), world.address("db", family)];
            addresses.map(|address| at(address, 9000))
        })
        .collect();
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| send_all_the_time(&app, &targets, &is_over));
        let _end = EndOnDrop(&is_over);
        for _ in 0..3 {
            disturb(&mut world, &app);
        }
    });
    assert!(world.packets("networks_apart") > 100, "little was sent to the other network");
    let masqueraded = counted(&world.client, "masqueraded");
    assert!(masqueraded.iter().all(|packets| *packets > 100), "little got out: {masqueraded:?}");
    assert_eq!(counted(&world.client, "leaked"), [0; 2], "a container's source has left");
    assert_eq!(counted(&db.namespace, "leaked"), [0; 2], "packets have crossed networks");
}

/// One life of an endpoint, with all that may happen meanwhile.
fn disturb(world: &mut World, app: &Container) {
    world.connect(app, "front", "-p 8080:80").ok();
    world.daemon.kill();
    world.daemon.start();
    for family in Family::BOTH {
        // For a while there is no address to masquerade with.
        let address = format!("{}/{}", family.host(), family.pick(24, 64));
        world.host.ip(&[&format!("address del {address} dev {UPLINK}")]);
        world.add_uplink_address(UPLINK, family.host());
    }
    world.host.ip(&default_routes(UPLINK).each_ref().map(String::as_str));
    world.host.ip(&[&format!("link set {UPLINK} down"), &format!("link set {UPLINK} up")]);
    for family in Family::BOTH {
        let has_address = world.host.run(&format!("ip address show dev {UPLINK}")).ok();
        if !has_address.contains(&family.host().to_string()) {
            world.add_uplink_address(UPLINK, family.host());
        }
    }
    world.host.ip(&default_routes(UPLINK).each_ref().map(String::as_str));
    world.netd("stop").ok();
    world.daemon.wait();
    world.daemon.start();
    world.netd(&format!("network disconnect front {}", app.namespace.name())).ok();
}

/// Ends the sender however the test ends.
struct EndOnDrop<'a>(&'a AtomicBool);

impl Drop for EndOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
