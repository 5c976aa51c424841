//! Real sockets through both: who is reached, and whom the server sees.

use std::{net::SocketAddr, panic::resume_unwind, thread};

use netd_tests::{
    clients::{try_ask_udp, try_fetch, try_fetch_big},
    family::Family,
    netns::Namespace,
    oracle::{
        arrival::Edge,
        golden::{self, RuleSet},
        known::{self, Place},
        rules::{At, Port, both_with_ports, specs},
        side::{Engine, Places, Side},
    },
    servers,
    topology::at,
};

/// What is published, for each transport.
const PORTS: [Port; 2] = [published("tcp"), published("udp")];

const fn published(proto: &'static str) -> Port {
    Port { proto, host: 8080, at: At::All, container: 80, edge: Edge::Web }
}

/// The networks that are tried, by their options.
const NETWORKS: [&str; 3] = [
    "hairpin=true,icc=true,masq=true,snat=false,gwm=nat,bindlh=false",
    "hairpin=true,icc=true,masq=true,snat=true,gwm=nat,bindlh=false",
    "hairpin=true,icc=true,masq=true,snat=false,gwm=nat-unprotected,bindlh=false",
];

/// The port of the world's servers.
const WORLD_PORT: u16 = 61_999;

/// Who asks whom in a family.
fn connections(side: &Side, family: Family) -> [(&'static str, &Namespace, SocketAddr); 15] {
    let Places { client: world, host, gateway, snat, web, .. } = Places::of(family);
    let [server, neighbour] = side.containers.each_ref().map(|container| &container.namespace);
    let (client, own) = (&side.world.client, &side.world.host);
    [
        ("client to host", client, at(host, 8080)),
        ("client to another address", client, at(snat, 8080)),
        ("client to the container", client, at(web, 80)),
        ("client to a closed port of the container", client, at(web, 81)),
        ("client to a closed port of the host", client, at(host, 81)),
        ("host to itself", own, at(host, 8080)),
        ("host to the gateway", own, at(gateway, 8080)),
        ("host to the container", own, at(web, 80)),
        ("host to the world", own, at(world, WORLD_PORT)),
        ("neighbour to the container", neighbour, at(web, 80)),
        ("neighbour to host", neighbour, at(host, 8080)),
        ("neighbour to the gateway", neighbour, at(gateway, 8080)),
        ("container to itself", server, at(host, 8080)),
        ("container to the world", server, at(world, WORLD_PORT)),
        ("neighbour to the world", neighbour, at(world, WORLD_PORT)),
    ]
}

/// A case, its family, and what it comes to.
type Seen = (String, Family, String);

/// What every connection comes to.
fn seen(side: &Side) -> Vec<Seen> {
    let mut seen = Vec::new();
    for family in Family::BOTH {
        for (name, from, to) in connections(side, family) {
            let echo = try_ask_udp(from, to, name);
            seen.push((format!("{name}, udp"), family, format!("{echo:?}")));
            // The server's namespace has another name on each host.
            let page = try_fetch(from, to).map(|page| (page.client, page.port));
            seen.push((format!("{name}, tcp"), family, format!("{page:?}")));
        }
        let (places, web) = (Places::of(family), &side.containers[0].namespace);
        for (name, from, to) in [
            ("a large file to the client", &side.world.client, at(places.host, 8080)),
            ("a large file to a container", web, at(places.client, WORLD_PORT)),
        ] {
            seen.push((name.to_owned(), family, try_fetch_big(from, to).stdout));
        }
    }
    seen
}

/// Tries every network with one engine.
fn run(engine: Engine, networks: &[RuleSet]) -> Vec<Vec<Seen>> {
    let mut side = Side::new(engine, "");
    side.let_all_answer();
    let inside = &side.containers[0].namespace;
    let _servers = [
        servers::nginx(inside, &[80]),
        servers::udp_echo(inside, 80),
        servers::nginx(&side.world.client, &[WORLD_PORT]),
        servers::udp_echo(&side.world.client, WORLD_PORT),
    ];
    let try_one = |RuleSet { options, texts, .. }: &RuleSet| {
        let rules = both_with_ports(texts, &PORTS);
        side.configure_ports(options, &rules, &specs(&PORTS, options.mode));
        seen(&side)
    };
    networks.iter().map(try_one).collect()
}

/// Where the two differ and are not known to, or the other way round.
fn surprises(networks: &[RuleSet]) -> Vec<String> {
    let [netd, iptables] = thread::scope(|scope| {
        let begin = |engine| scope.spawn(move || run(engine, networks));
        let runs = [Engine::Netd, Engine::Iptables].map(begin);
        runs.map(|run| run.join().unwrap_or_else(|panic| resume_unwind(panic)))
    });
    let mut surprises = Vec::new();
    for ((network, netd), iptables) in networks.iter().zip(netd).zip(iptables) {
        let options = network.options;
        for ((case, family, netd), (_, _, iptables)) in netd.into_iter().zip(iptables) {
            let place = Place { options, family };
            if (netd != iptables) != known::of(&case, place).next().is_some() {
                let text = format!("{options}: {case}, {family}: netd {netd}, iptables {iptables}");
                surprises.push(text);
            }
        }
    }
    surprises
}

#[test]
fn servers_see_the_same_clients_with_netd_and_with_iptables() {
    let mut networks = golden::all();
    networks.retain(|set| NETWORKS.contains(&set.options.to_string().as_str()));
    assert_eq!(networks.len(), NETWORKS.len());
    let found = surprises(&networks);
    assert!(found.is_empty(), "{}", found.join("\n"));
}
