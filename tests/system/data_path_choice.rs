//! Which way packets take, why, and that it is the way they take.

use std::fmt;

use netd_tests::{
    clients::{Connection, NoConnection, fetch, try_fetch},
    condition::eventually,
    family::Family,
    servers::{self, Server},
    topology::{Container, UPLINK, World, at},
};
use nix::sys::signal::Signal;

/// The daemon chooses, whichever data path this run of the tests is about.
const AUTO: &str = "[datapath]\nmax_flows = 8192\nmode = \"auto\"\n";

/// What `network inspect` says of a network's way.
#[derive(Debug, PartialEq, Eq)]
struct Shown {
    asked: String,
    path: String,
    reason: String,
}

impl Shown {
    fn of(world: &World, network: &str) -> Self {
        let network = world.netd(&format!("network inspect {network} --json")).json();
        let field = |name: &str| network[0]["datapath"][name].as_str().unwrap().to_owned();
        Self { asked: field("asked"), path: field("path"), reason: field("reason") }
    }
}

#[track_caller]
fn eventually_takes(world: &World, path: &str, reason: impl fmt::Display) {
    let (mut last, reason) = (None, reason.to_string());
    let found = netd_tests::condition::within(netd_tests::condition::deadline(), || {
        let shown = Shown::of(world, "front");
        let is_it = shown.path == path && shown.reason.contains(&reason);
        last = Some(shown);
        is_it.then_some(())
    });
    assert!(found.is_some(), "not {path} because of {reason:?}: {last:?}");
}

/// A network `front` with a server at port 8080 of the host.
fn front(world: &World, options: &str) -> (Container, Server) {
    world.network("front", 1, options);
    let web = world.container("web", "front", "-p 8080:80");
    let nginx = servers::nginx(&web.namespace, &[80]);
    (web, nginx)
}

/// Fetches the page over a new connection of each family, and says by which way the packets went: by what
/// the stack carried, since an older connection may send a late acknowledgement past it meanwhile.
#[track_caller]
fn path_of_new_flows(world: &World) -> &'static str {
    let ways = Family::BOTH.map(|family| {
        let before = world.packets("published");
        fetch(&world.client, at(family.host(), 8080));
        world.packets("published") > before
    });
    match ways {
        [false, false] => "fast",
        [true, true] => "stack",
        mixed => panic!("the families differ: {mixed:?}"),
    }
}

#[track_caller]
fn check_refused(world: &World, families: &[Family]) {
    for family in families {
        let answer = try_fetch(&world.client, at(family.host(), 8080));
        assert_eq!(answer, Err(NoConnection::TimedOut), "{family}");
    }
}

#[test]
fn auto_is_fast_where_nothing_speaks_against_it() {
    let world = World::with_config(AUTO);
    let _front = front(&world, "");
    let shown = Shown::of(&world, "front");
    assert_eq!((shown.asked.as_str(), shown.path.as_str()), ("auto", "fast"));
    assert_eq!(shown.reason, "nothing speaks against it");
    assert_eq!(path_of_new_flows(&world), "fast");
    let listed = world.netd("network ls --json").json();
    assert_eq!(listed[0]["datapath"]["path"], "fast");
}

#[test]
fn a_rule_of_nftables_is_obeyed_while_it_is_there() {
    let world = World::with_config(AUTO);
    let _front = front(&world, "");
    let chain = "{ type filter hook forward priority 0 ; }";
    world.host.run("nft add table inet mine").ok();
    world.host.run(&format!("nft add chain inet mine forward {chain}")).ok();
    assert_eq!(path_of_new_flows(&world), "fast");
    world.host.run("nft add rule inet mine forward tcp dport 80 drop").ok();
    eventually_takes(&world, "stack", "chain forward of table inet mine");
    check_refused(&world, &Family::BOTH);
    world.host.run("nft flush chain inet mine forward").ok();
    eventually_takes(&world, "fast", "nothing speaks against it");
    assert_eq!(path_of_new_flows(&world), "fast");
    // A bridge's rules judge no packet that is routed.
    world.host.run("nft add table bridge mine").ok();
    world.host.run(&format!("nft add chain bridge mine forward {chain}")).ok();
    world.host.run("nft add rule bridge mine forward ip protocol udp counter").ok();
    world.host.run("nft add rule inet mine forward counter").ok();
    eventually_takes(&world, "stack", "table inet mine");
    world.host.run("nft delete table inet mine").ok();
    eventually_takes(&world, "fast", "nothing speaks against it");
}

/// Docker's chains with its own rules, and one of a user's, by `iptables` in one of its forms.
fn check_docker_user(world: &World, iptables: &str, families: &[Family]) {
    let run = |line: &str| world.host.run(&format!("{iptables} {line}")).ok();
    run("-N DOCKER-USER");
    run("-N DOCKER-FORWARD");
    run("-A FORWARD -j DOCKER-USER");
    run("-A FORWARD -j DOCKER-FORWARD");
    run("-A DOCKER-FORWARD -o docker0 -j ACCEPT");
    run("-A DOCKER-USER -j RETURN");
    run("-P FORWARD DROP");
    eventually_takes(world, "fast", "the policy DROP of chain FORWARD of table");
    assert_eq!(path_of_new_flows(world), "fast");
    run("-I DOCKER-USER -p tcp --dport 80 -j DROP");
    eventually_takes(world, "stack", "chain DOCKER-USER of table");
    check_refused(world, families);
    run("-D DOCKER-USER -p tcp --dport 80 -j DROP");
    run("-P FORWARD ACCEPT");
    eventually_takes(world, "fast", "nothing speaks against it");
    assert_eq!(path_of_new_flows(world), "fast");
}

#[test]
fn a_users_rule_of_iptables_is_obeyed_and_dockers_own_are_not_counted() {
    let world = World::with_config(AUTO);
    let _front = front(&world, "");
    check_docker_user(&world, "iptables-nft", &[Family::V4]);
    check_docker_user(&world, "ip6tables-nft", &[Family::V6]);
}

#[test]
fn the_tables_of_iptables_legacy_are_read_as_well() {
    let world = World::with_config(AUTO);
    let _front = front(&world, "");
    check_docker_user(&world, "iptables-legacy", &[Family::V4]);
    check_docker_user(&world, "ip6tables-legacy", &[Family::V6]);
}

#[test]
fn a_rule_that_was_there_before_is_seen_by_a_daemon_that_starts() {
    let mut world = World::without_daemon(AUTO);
    world.host.run("ip6tables-nft -A FORWARD -p tcp --dport 25 -j DROP").ok();
    world.daemon.start();
    let _front = front(&world, "");
    let shown = Shown::of(&world, "front");
    assert_eq!(shown.path, "stack");
    assert!(shown.reason.contains("chain FORWARD of table ip6 filter"), "{shown:?}");
    assert_eq!(path_of_new_flows(&world), "stack");
}

#[test]
fn flows_keep_the_way_that_they_began_with() {
    let world = World::with_config(AUTO);
    let _front = front(&world, "");
    let mut begun =
        Family::BOTH.map(|family| Connection::open(&world.client, at(family.host(), 8080)));
    begun.iter_mut().for_each(|connection| drop(connection.fetch()));
    world.host.run("nft add table inet mine").ok();
    let chain = "{ type filter hook forward priority 0 ; }";
    world.host.run(&format!("nft add chain inet mine forward {chain}")).ok();
    world.host.run("nft add rule inet mine forward counter").ok();
    eventually_takes(&world, "stack", "table inet mine");
    let before = world.packets("published_redirected");
    begun.iter_mut().for_each(|connection| drop(connection.fetch()));
    assert!(world.packets("published_redirected") > before);
    assert_eq!(path_of_new_flows(&world), "stack");
}

#[test]
fn a_policy_alone_stops_only_those_who_asked_for_the_stack() {
    let world = World::with_config(AUTO);
    world.host.run("nft add table inet shut").ok();
    let chain = "{ type filter hook forward priority 0 ; policy drop ; }";
    world.host.run(&format!("nft add chain inet shut forward {chain}")).ok();
    let _front = front(&world, "");
    eventually_takes(&world, "fast", "the policy DROP of chain forward of table inet shut");
    assert_eq!(path_of_new_flows(&world), "fast");
    world.network("slow", 2, "--datapath stack");
    let slow = world.container("slow", "slow", "-p 8081:80");
    let _nginx = servers::nginx(&slow.namespace, &[80]);
    assert!(Shown::of(&world, "slow").reason.contains("stops packets that no rule accepts"));
    for family in Family::BOTH {
        let answer = try_fetch(&world.client, at(family.host(), 8081));
        assert_eq!(answer, Err(NoConnection::TimedOut), "{family}");
    }
}

#[test]
fn traffic_that_somebody_shapes_goes_through_the_queue() {
    let world = World::with_config(AUTO);
    let (web, _nginx) = front(&world, "");
    let network = world.netd("network inspect front --json").json();
    let bridge = network[0]["bridge"].as_str().unwrap().to_owned();
    let port = world.host_ifname(&web).unwrap();
    for device in [bridge, port] {
        let tbf = "root tbf rate 10mbit burst 32kbit latency 400ms";
        world.host.run(&format!("tc qdisc add dev {device} {tbf}")).ok();
        eventually_takes(&world, "stack", format!("{device} has the queueing discipline tbf"));
        assert_eq!(path_of_new_flows(&world), "stack");
        world.host.run(&format!("tc qdisc del dev {device} root")).ok();
        eventually_takes(&world, "fast", "nothing speaks against it");
    }
}

#[test]
fn who_asks_for_a_way_gets_it() {
    let mut world = World::with_config("[datapath]\nmax_flows = 8192\nmode = \"stack\"\n");
    let _front = front(&world, "");
    eventually_takes(&world, "stack", "asked for by the daemon's configuration");
    assert_eq!(path_of_new_flows(&world), "stack");

    world.daemon.configure("[datapath]\nmax_flows = 8192\nmode = \"fast\"\n");
    world.daemon.signal(Signal::SIGHUP);
    eventually_takes(&world, "fast", "asked for by the daemon's configuration");
    assert_eq!(path_of_new_flows(&world), "fast");

    // Past a rule too, but not without a word.
    world.host.run("iptables-nft -A FORWARD -p tcp --dport 80 -j DROP").ok();
    world.host.run("ip6tables-nft -A FORWARD -p tcp --dport 80 -j DROP").ok();
    eventually_takes(&world, "fast", "although rules in chain FORWARD of table ip filter");
    assert_eq!(path_of_new_flows(&world), "fast");
    let warns = |line: &str| line.contains("WARN") && line.contains("although rules");
    assert!(world.daemon.log().lines().any(warns));

    world.daemon.configure("");
    world.daemon.signal(Signal::SIGHUP);
    eventually_takes(&world, "stack", "rules in chain FORWARD of table ip filter");
    check_refused(&world, &Family::BOTH);
}

#[test]
fn a_network_asks_for_itself_and_is_remembered() {
    let mut world = World::with_config("[datapath]\nmax_flows = 8192\nmode = \"stack\"\n");
    let _front = front(&world, "--datapath fast");
    for _ in 0..2 {
        let shown = Shown::of(&world, "front");
        assert_eq!((shown.asked.as_str(), shown.path.as_str()), ("fast", "fast"));
        assert_eq!(shown.reason, "asked for by the network");
        assert_eq!(path_of_new_flows(&world), "fast");
        world.daemon.kill();
        world.daemon.start();
    }
    world.network("other", 2, "--datapath auto");
    assert_eq!(Shown::of(&world, "other").path, "fast");
    world.network("third", 3, "");
    assert_eq!(Shown::of(&world, "third").path, "stack");
}

#[test]
fn a_host_whose_uplinks_have_no_ethernet_keeps_to_the_stack() {
    let mut world = World::without_daemon(&format!("{AUTO}[uplinks]\nnames = [\"tun0\"]\n"));
    world.host.ip(&["tuntap add tun0 mode tun", "link set tun0 up"]);
    world.daemon.start();
    world.network("front", 1, "");
    eventually_takes(&world, "stack", "no uplink has an Ethernet header");
    world.daemon.configure(&format!("[uplinks]\nnames = [\"tun0\", \"{UPLINK}\"]\n"));
    world.daemon.signal(Signal::SIGHUP);
    eventually_takes(&world, "fast", "nothing speaks against it");
}

#[test]
fn a_decision_is_logged_when_it_changes_and_not_again() {
    let world = World::with_config(AUTO);
    let _front = front(&world, "");
    let _other = world.container("app", "front", "");
    let lines = |path: &str| {
        let log = world.daemon.log();
        let is_line = |line: &&str| line.contains("data path") && line.contains(path);
        log.lines().filter(is_line).count()
    };
    assert_eq!(lines("path=\"fast\""), 1, "{}", world.daemon.log());
    world.host.run("iptables-nft -A FORWARD -p tcp --dport 25 -j DROP").ok();
    eventually("the change is logged", || lines("path=\"stack\"") == 1);
    assert_eq!(lines("path=\"fast\""), 1);
}
