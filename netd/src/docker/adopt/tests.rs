use std::collections::{BTreeMap, BTreeSet};

use super::{Adopted, Facts, HostLink, adopt};
use crate::{
    desired::Desired,
    docker::{
        settings::Settings,
        view::{Attachment, Binding, Container, Network, Pool, Ports, View},
    },
    model::{GatewayMode, MacAddr, Manager, Proto, PublishedPort},
};

fn id(digit: char) -> String {
    digit.to_string().repeat(64)
}

fn network(digit: char, name: &str, subnets: &[&str], options: &[(&str, &str)]) -> Network {
    let pools = subnets.iter().map(|subnet| Pool {
        subnet: subnet.parse().unwrap(),
        gateway: None,
        ip_range: None,
        aux_addresses: BTreeMap::new(),
    });
    let options = options.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    Network {
        id: id(digit),
        name: name.to_owned(),
        created: 1,
        is_default: name == "bridge",
        internal: name == "inside",
        pools: pools.collect(),
        options: options.collect(),
        labels: BTreeMap::new(),
    }
}

/// A container on networks, by their digits, that publishes port 8080 everywhere.
fn container(name: &str, digits: &str) -> Container {
    let attachments = digits.chars().map(|digit| {
        let attachment = Attachment {
            endpoint_id: format!("{name}{digit}"),
            mac: mac(digit),
            ipv4: format!("172.2{digit}.0.2/16").parse().ok().filter(|_| digit != '6'),
            ipv6: format!("fd0{digit}::2/64").parse().ok().filter(|_| "26".contains(digit)),
            gateway: None,
            gateway6: None,
            gw_priority: 0,
            aliases: Vec::new(),
        };
        (id(digit), attachment)
    });
    let binding = |host_ip: &str| Binding {
        proto: Proto::Tcp,
        host_ip: host_ip.parse().unwrap(),
        host_port: 8080,
        port: 80,
    };
    let published = vec![(Proto::Tcp, 80)];
    Container {
        name: name.to_owned(),
        is_started: true,
        sandbox: None,
        attachments: attachments.collect(),
        ports: Some(Ports {
            bindings: vec![binding("0.0.0.0"), binding("::")],
            everywhere: published.clone(),
            opened: published,
            unbound: Vec::new(),
            exposed: vec![(Proto::Tcp, 80)],
        }),
        links: Vec::new(),
    }
}

fn mac(digit: char) -> MacAddr {
    format!("02:00:00:00:00:0{digit}").parse().unwrap()
}

fn view(networks: Vec<Network>, containers: Vec<Container>) -> View {
    View {
        networks: networks.into_iter().map(|network| (network.id.clone(), network)).collect(),
        containers: containers.into_iter().map(|it| (it.name.clone(), it)).collect(),
        unknown: BTreeSet::new(),
    }
}

/// A host where every network's bridge leads to every container.
fn facts(view: &View) -> Facts {
    let mut facts = Facts::default();
    for network in view.networks.values() {
        let options = &network.options;
        let bridge = options.get("com.docker.network.bridge.name").cloned();
        let bridge = bridge.unwrap_or_else(|| format!("br-{}", &network.id[..12]));
        let gateways = network.pools.iter().map(|pool| {
            let first = pool.subnet.hosts().next().unwrap();
            ipnet::IpNet::new(first, pool.subnet.prefix_len()).unwrap()
        });
        facts.bridge_addresses.insert(bridge.clone(), gateways.collect());
        for attachment in view.containers.values().flat_map(|it| it.attachments.values()) {
            let host_ifname = format!("veth{}", attachment.endpoint_id);
            let link = HostLink { host_ifname, ifname: Some("eth0".to_owned()) };
            facts.links.insert((bridge.clone(), attachment.mac), link);
        }
    }
    facts
}

fn adopted(networks: Vec<Network>, containers: Vec<Container>) -> Adopted {
    let view = view(networks, containers);
    adopt(&view, &Desired::default(), &facts(&view))
}

/// The desired state that an adoption leads to.
fn desired(adopted: &Adopted) -> Desired {
    let (networks, endpoints) = (adopted.networks.clone(), adopted.endpoints.clone());
    Desired::new(networks, endpoints, Default::default())
}

fn rows(adopted: &Adopted, endpoint: &str) -> Vec<String> {
    adopted.endpoints[endpoint].ports.iter().map(ToString::to_string).collect()
}

#[test]
fn docker0_goes_by_the_daemon_and_others_by_their_options() {
    let off = ("com.docker.network.bridge.enable_ip_masquerade", "false");
    let docker0 = [("com.docker.network.bridge.name", "docker0"), off];
    let routed = [
        off,
        ("com.docker.network.bridge.enable_icc", "false"),
        ("com.docker.network.bridge.gateway_mode_ipv4", "routed"),
        ("com.docker.network.driver.mtu", "1400"),
        ("somebody.elses", "business"),
    ];
    let networks = vec![
        network('1', "bridge", &["172.21.0.0/16"], &docker0),
        network('2', "front", &["fd02::/64", "172.22.0.0/16"], &routed),
    ];
    let adopted = adopted(networks, vec![]);
    let docker0 = &adopted.networks["bridge"];
    assert_eq!((docker0.bridge.as_str(), docker0.masquerade, docker0.icc), ("docker0", true, true));
    assert_eq!(docker0.subnets[0].gateway, "172.21.0.1".parse().ok());
    assert_eq!((docker0.manager, docker0.mtu), (Manager::Docker, 1500));
    let front = &adopted.networks["front"];
    assert_eq!((front.bridge.as_str(), front.masquerade), ("br-222222222222", false));
    assert_eq!((front.icc, front.mtu), (false, 1400));
    let modes: Vec<_> = front.subnets.iter().map(|it| (it.subnet, it.gateway_mode)).collect();
    let expected = [
        ("172.22.0.0/16".parse().unwrap(), GatewayMode::Routed),
        ("fd02::/64".parse().unwrap(), GatewayMode::Nat),
    ];
    assert_eq!(modes, expected);
    assert!(adopted.faults.is_empty());
}

#[test]
fn a_container_publishes_by_the_way_that_leads_to_it() {
    let networks = || {
        vec![
            network('1', "alpha", &["172.21.0.0/16"], &[]),
            network('2', "beta", &["172.22.0.0/16", "fd02::/64"], &[]),
            network('3', "inside", &["172.23.0.0/16"], &[]),
            network('6', "six", &["fd06::/64"], &[]),
        ]
    };
    let adopted = adopted(networks(), vec![container("web", "123")]);
    assert_eq!(rows(&adopted, "web.beta"), ["8080:80/tcp"]);
    assert!(rows(&adopted, "web").is_empty() && rows(&adopted, "web.inside").is_empty());
    // Each family by another network.
    let adopted = self::adopted(networks(), vec![container("web", "16")]);
    assert_eq!(rows(&adopted, "web"), ["0.0.0.0:8080:80/tcp"]);
    assert_eq!(rows(&adopted, "web.six"), ["[::]:8080:80/tcp"]);
    // The highest priority first, whatever the names.
    let mut web = container("web", "12");
    web.attachments.get_mut(&id('1')).unwrap().gw_priority = 1;
    let adopted = self::adopted(networks(), vec![web]);
    assert_eq!(rows(&adopted, "web"), ["0.0.0.0:8080:80/tcp"]);
    assert_eq!(rows(&adopted, "web.beta"), ["[::]:8080:80/tcp"]);
}

#[test]
fn what_is_there_keeps_its_number_its_slots_and_its_name() {
    let networks = || vec![network('1', "alpha", &["172.21.0.0/16"], &[])];
    let first = adopted(networks(), vec![container("b", "1")]);
    let state = desired(&first);
    let mut other = container("a", "1");
    other.attachments.get_mut(&id('1')).unwrap().mac = mac('9');
    other.ports = None;
    let now = view(
        vec![network('0', "aaa", &["172.20.0.0/16"], &[]), networks().remove(0)],
        vec![other, container("b", "1")],
    );
    let second = adopt(&now, &state, &facts(&now));
    assert_eq!(second.networks["alpha"], first.networks["alpha"]);
    assert_eq!(second.endpoints["b"], first.endpoints["b"]);
    let slots: Vec<u32> = second
        .endpoints
        .values()
        .flat_map(|it| it.ports.iter().map(|port| port.slot).chain([it.slot]))
        .collect();
    assert_eq!(slots.len(), 3);
    assert!(slots.iter().all(|slot| slots.iter().filter(|it| *it == slot).count() == 1));
    // While a container's own account is not there, what it has published stays.
    let mut unknown = container("b", "1");
    unknown.ports = None;
    let now = view(networks(), vec![unknown]);
    assert_eq!(adopt(&now, &state, &facts(&now)).endpoints, first.endpoints);
    // Another name is another endpoint for users, and the same one for packets.
    let mut renamed = container("b", "1");
    renamed.name = "c".to_owned();
    let now = view(networks(), vec![renamed]);
    let third = adopt(&now, &state, &facts(&now));
    assert_eq!(third.endpoints["c"].slot, first.endpoints["b"].slot);
    assert_eq!(third.endpoints["c"].ports, first.endpoints["b"].ports);
}

#[test]
fn a_container_whose_link_is_not_there_waits() {
    let now =
        view(vec![network('1', "alpha", &["172.21.0.0/16"], &[])], vec![container("web", "1")]);
    let adopted = adopt(&now, &Desired::default(), &Facts::default());
    assert!(adopted.is_pending && adopted.endpoints.is_empty());
    assert_eq!(adopted.networks.len(), 1);
}

#[test]
fn a_network_of_the_same_name_gets_another_one() {
    let twice = vec![
        network('1', "front", &["172.21.0.0/16"], &[]),
        network('2', "front", &["172.22.0.0/16"], &[]),
    ];
    let adopted = adopted(twice, vec![]);
    let names: Vec<&str> = adopted.networks.keys().map(String::as_str).collect();
    assert_eq!(names, ["front", "front-222222222222"]);
}

#[test]
fn what_nothing_is_known_of_stays_as_it_is() {
    let networks = vec![
        network('1', "alpha", &["172.21.0.0/16"], &[]),
        network('2', "beta", &["172.22.0.0/16"], &[]),
    ];
    let first = adopted(networks.clone(), vec![container("web", "1")]);
    let state = desired(&first);
    let now =
        View { unknown: BTreeSet::from([id('1')]), ..view(vec![networks[1].clone()], vec![]) };
    let second = adopt(&now, &state, &facts(&now));
    assert_eq!((&second.networks, &second.endpoints), (&first.networks, &first.endpoints));
}

#[test]
fn links_lead_to_what_is_exposed_where_docker0_has_no_icc() {
    let docker0 = [("com.docker.network.bridge.name", "docker0")];
    let quiet = [("com.docker.network.bridge.enable_icc", "false")];
    let networks = || {
        vec![
            network('1', "bridge", &["172.21.0.0/16"], &docker0),
            network('3', "quiet", &["172.23.0.0/16"], &quiet),
        ]
    };
    let links = |icc: Option<bool>| {
        let mut client = container("client", "13");
        client.attachments.get_mut(&id('1')).unwrap().mac = mac('4');
        client.attachments.get_mut(&id('3')).unwrap().mac = mac('5');
        client.links = vec!["db".to_owned(), "gone".to_owned()];
        let mut db = container("db", "13");
        db.ports.as_mut().unwrap().exposed = vec![(Proto::Tcp, 6379), (Proto::Udp, 53)];
        let view = view(networks(), vec![db, client, container("other", "1")]);
        let mut facts = facts(&view);
        facts.config.icc = icc;
        let adopted = adopt(&view, &Desired::default(), &facts);
        let links = adopted
            .endpoints
            .values()
            .flat_map(|it| it.links.iter().map(move |link| format!("{} -> {link}", it.name)));
        links.collect::<Vec<_>>()
    };
    assert_eq!(links(None), Vec::<String>::new());
    // And back, nothing; nor on another network, where a link is a name.
    assert_eq!(links(Some(false)), ["client -> db:6379/tcp", "client -> db:53/udp"]);
}

#[test]
fn before_it_starts_a_container_is_published_where_its_networks_ports_are_bound() {
    for (address, expected) in [("0.0.0.0", "*:8080:80"), ("127.0.0.1", "127.0.0.1:8080:80")] {
        let binding = [("com.docker.network.bridge.host_binding_ipv4", address)];
        let front = network('2', "front", &["172.22.0.0/16", "fd02::/64"], &binding);
        let starting = Container { is_started: false, ..container("web", "2") };
        let adopted = adopted(vec![front], vec![starting]);
        let rows = adopted.endpoints["web"].ports.iter();
        let row = |row: &PublishedPort| format!("{}:{}:{}", row.host_ip, row.host_port, row.port);
        assert_eq!(rows.map(row).collect::<Vec<_>>(), [expected]);
    }
}

#[test]
fn what_dockerd_was_told_holds_until_it_can_be_read_again() {
    let docker0 = [("com.docker.network.bridge.name", "docker0")];
    let view = view(vec![network('1', "bridge", &["172.21.0.0/16"], &docker0)], vec![]);
    let told = |desired: &Desired, settings| {
        let facts = Facts { settings, ..facts(&view) };
        let adopted = adopt(&view, desired, &facts);
        let bridge = &adopted.networks["bridge"];
        let told = (bridge.masquerade, bridge.direct_routing, bridge.accept_mark.is_some());
        (told, self::desired(&adopted))
    };
    let settings = Settings {
        iptables: false,
        ip6tables: None,
        userland_proxy: false,
        ip_masq: false,
        allow_direct_routing: true,
        accept_mark: "1".parse().ok(),
    };
    let (first, _) = told(&Desired::default(), None);
    assert_eq!(first, (true, false, false));
    let (read, known) = told(&Desired::default(), Some(settings));
    assert_eq!(read, (false, true, true));
    assert_eq!(told(&known, None).0, read);
    let other = Settings { ip_masq: true, allow_direct_routing: false, ..settings };
    assert_eq!(told(&known, Some(other)).0, (true, false, true));
}

#[test]
fn what_docker_has_not_bound_comes_after_what_it_has() {
    let networks = || {
        vec![
            network('1', "alpha", &["172.21.0.0/16"], &[]),
            network('2', "beta", &["172.22.0.0/16", "fd02::/64"], &[]),
        ]
    };
    let named = |port| {
        let mut named = container("a", "1");
        let host_ip = "2001:db8::1".parse().unwrap();
        let unbound = vec![Binding { proto: Proto::Tcp, host_ip, host_port: port, port: 80 }];
        named.ports = Some(Ports { unbound, ..Ports::default() });
        named
    };
    let both = adopted(networks(), vec![named(8081), container("b", "2")]);
    assert_eq!(rows(&both, "a"), ["[2001:db8::1]:8081:80/tcp"]);
    assert_eq!(rows(&both, "b"), ["8080:80/tcp"]);
    assert!(both.faults.is_empty());
    // Nor does one that starts take it from one that runs.
    let starting = Container { name: "0".to_owned(), is_started: false, ..named(8081) };
    let second = Container { attachments: container("0", "1").attachments, ..starting };
    let mut view = view(networks(), vec![named(8081), second]);
    view.containers.get_mut("0").unwrap().attachments.get_mut(&id('1')).unwrap().mac = mac('9');
    let facts = facts(&view);
    let both = adopt(&view, &Desired::default(), &facts);
    assert_eq!(rows(&both, "a"), ["[2001:db8::1]:8081:80/tcp"]);
    assert_eq!(rows(&both, "0"), Vec::<String>::new());
    let clash = adopted(networks(), vec![named(8080), container("b", "2")]);
    assert_eq!(rows(&clash, "a"), Vec::<String>::new());
    assert_eq!(rows(&clash, "b"), ["8080:80/tcp"]);
    let fault = "container a: port [2001:db8::1]:8080:80/tcp is published by b as 8080:80/tcp";
    assert!(clash.faults.contains(fault), "{:?}", clash.faults);
}
