use std::net::IpAddr;

use super::judge;
use crate::{
    config::Config,
    datapath::probe::{Direction, Foreign, Loaded},
    doctor::{
        Status,
        facts::{
            Bpffs, Cgroup2, Daemon, Facts, Hooks, Host, Listener, Managed, Manager, Programs,
            Sysctls, Unknown, Wanted, WantedNetwork, WantedPort, XdpProgram,
        },
    },
    firewall::{Chain, Policy, Rule, Target},
    model::{DatapathMode, HostIp, Proto, PublishedPort},
    netlink::{
        addr::{Address, Scope},
        classifier::Classifier,
        link::Link,
        route::Route,
    },
    uplinks::Uplink,
};

/// A host on which everything is well: one uplink, one network with a published port.
fn healthy() -> Facts {
    let host = Host {
        links: vec![link(2, "up0", 1500), link(3, "br-1", 1500)],
        addresses: vec![address(2, "192.0.2.1/24"), address(3, "10.77.1.1/24")],
        routes: vec![route(2, "0.0.0.0/0"), route(3, "10.77.1.0/24")],
        uplinks: vec![uplink(2, "up0")],
    };
    Facts {
        config_error: None,
        config: Config::default(),
        missing_capabilities: Ok(Vec::new()),
        release: Ok("6.1.0-13-amd64".to_owned()),
        missing_features: Ok(Vec::new()),
        programs: Ok(Programs::Loaded(Loaded::Compiled)),
        cgroup2: Ok(Cgroup2::At("/sys/fs/cgroup".into())),
        bpffs: Ok(bpffs()),
        state_error: Ok(None),
        daemon: Ok(Daemon::None),
        wanted: wanted(),
        host: Ok(host),
        hooks: Ok(Hooks::default()),
        chains: Ok(Vec::new()),
        sysctls: Sysctls {
            refused: Ok(Vec::new()),
            has_ipv6: true,
            strict_uplinks: Vec::new(),
            losing_routes: Vec::new(),
            bridge_filters: Vec::new(),
        },
        listeners: Ok(Vec::new()),
        managed: Vec::new(),
    }
}

fn bpffs() -> Bpffs {
    Bpffs {
        is_supported: true,
        is_mounted: true,
        outlives: Ok(true),
        namespace: None,
        owner_error: None,
    }
}

fn wanted() -> Wanted {
    let network = WantedNetwork {
        name: "front".to_owned(),
        bridge: "br-1".to_owned(),
        mtu: 1500,
        subnets: vec!["10.77.1.0/24".parse().unwrap(), "fd77:1::/64".parse().unwrap()],
        has_mss_clamp: false,
    };
    Wanted {
        exists: true,
        networks: vec![network],
        ports: vec![published("*")],
        ..Wanted::default()
    }
}

fn published(host_ip: &str) -> WantedPort {
    WantedPort {
        endpoint: "web".to_owned(),
        port: PublishedPort {
            slot: 1,
            proto: Proto::Tcp,
            host_ip: host_ip.parse::<HostIp>().unwrap(),
            host_port: 8080,
            host_port_end: 8089,
            port: 80,
            port_end: 89,
        },
    }
}

fn link(ifindex: u32, name: &str, mtu: u32) -> Link {
    Link { ifindex, name: name.to_owned(), mtu, ethernet: true, ..Link::default() }
}

fn uplink(ifindex: u32, name: &str) -> Uplink {
    Uplink { ifindex, name: name.to_owned(), ethernet: true }
}

fn address(ifindex: u32, net: &str) -> Address {
    Address {
        ifindex,
        net: net.parse().unwrap(),
        peer: None,
        scope: Scope::Universe,
        deprecated: false,
        temporary: false,
        tentative: false,
        secondary: false,
        ours: false,
    }
}

fn route(ifindex: u32, destination: &str) -> Route {
    Route {
        destination: destination.parse().unwrap(),
        gateway: None,
        ifindex: Some(ifindex),
        source: None,
        metric: 0,
        unicast: true,
        from_router_advertisement: false,
    }
}

fn chain(table: &str, name: &str, forward: Option<Policy>) -> Chain {
    Chain { table: table.to_owned(), name: name.to_owned(), forward, rules: Vec::new() }
}

fn classifier(kind: &str, priority: u16, handle: u32) -> Hooks {
    let classifier = Classifier {
        ifindex: 2,
        is_egress: false,
        kind: kind.to_owned(),
        priority,
        protocol: 3,
        handle,
        program: None,
    };
    Hooks { classifiers: vec![("up0".to_owned(), classifier)], ..Hooks::default() }
}

/// Changes a healthy host and compares all that is not well then, as `STATUS CHECK: MESSAGE | FIX`.
#[track_caller]
fn check(change: impl FnOnce(&mut Facts), expected: &[&str]) {
    let mut facts = healthy();
    change(&mut facts);
    let findings = judge(&facts).into_iter().filter(|finding| finding.status != Status::Ok);
    let lines: Vec<String> = findings
        .map(|finding| {
            let status = if finding.status == Status::Fatal { "fatal" } else { "finding" };
            let fix = finding.fix.unwrap_or_default();
            format!("{status} {}: {} | {fix}", finding.check, finding.message)
        })
        .collect();
    assert_eq!(lines, expected);
}

fn host(facts: &mut Facts) -> &mut Host {
    facts.host.as_mut().unwrap()
}

#[test]
fn a_healthy_host_has_no_findings() {
    check(|_| {}, &[]);
    assert!(judge(&healthy()).iter().all(|finding| finding.fix.is_none()));
}

#[test]
fn names_of_checks_are_stable_and_each_has_one() {
    let names: Vec<&str> = judge(&healthy()).iter().map(|finding| finding.check).collect();
    assert_eq!(
        names.join(" "),
        "configuration privileges kernel programs cgroup bpffs state daemon sysctls uplinks xdp classifiers \
         rp_filter accept_ra managers leftovers forward_policy br_netfilter data_path mtu subnets ports"
    );
}

#[test]
fn what_is_not_known_is_said_by_who_needs_it_and_stops_nobody_else() {
    check(
        |facts| facts.missing_features = Err(Unknown("only root can tell".to_owned())),
        &["finding kernel: could not be looked at: only root can tell | "],
    );
    check(
        |facts| {
            facts.listeners = Err(Unknown("no /proc".to_owned()));
            facts.missing_capabilities = Ok(vec!["CAP_BPF".to_owned(), "CAP_NET_ADMIN".to_owned()]);
        },
        &[
            "fatal privileges: without CAP_BPF, CAP_NET_ADMIN | sudo netd doctor",
            "finding ports: could not be looked at: no /proc | ",
        ],
    );
}

#[test]
fn an_error_of_the_configuration_stops_netd() {
    let error = "/etc/netd/netd.toml, line 3: unknown field; correct the line or remove it";
    check(
        |facts| facts.config_error = Some(error.to_owned()),
        &[
            "fatal configuration: /etc/netd/netd.toml, line 3: unknown field | correct the line or remove it",
        ],
    );
}

#[test]
fn a_kernel_is_judged_by_what_it_has_and_then_by_its_age() {
    check(
        |facts| {
            facts.release = Ok("5.10.0".to_owned());
            facts.missing_features = Ok(vec!["bpf_loop (5.17)"]);
        },
        &["fatal kernel: Linux 5.10.0 is without bpf_loop (5.17) | boot Linux 6.1 or later"],
    );
    let old = "finding kernel: Linux 5.19.17 is older than any that netd is tested on | boot Linux 6.1 or later";
    check(|facts| facts.release = Ok("5.19.17".to_owned()), &[old]);
    check(|facts| facts.release = Ok("7.0-rc1".to_owned()), &[]);
}

#[test]
fn programs_are_to_be_accepted_and_compiled() {
    check(
        |facts| facts.programs = Ok(Programs::Loaded(Loaded::Interpreted)),
        &[
            "finding programs: the kernel interprets them, which is slow | sysctl -w net.core.bpf_jit_enable=1",
        ],
    );
    check(
        |facts| facts.programs = Ok(Programs::Refused("too complex".to_owned())),
        &["fatal programs: the kernel refuses them: too complex | boot Linux 6.1 or later"],
    );
}

#[test]
fn cgroup2_may_be_unmounted_but_not_absent() {
    check(|facts| facts.cgroup2 = Ok(Cgroup2::NotMounted), &[]);
    check(
        |facts| facts.cgroup2 = Ok(Cgroup2::Absent),
        &[
            "fatal cgroup: the kernel has no cgroup2, where netd hooks the host's own connections | boot a kernel \
           with CONFIG_CGROUPS and CONFIG_CGROUP_BPF",
        ],
    );
}

#[test]
fn pins_are_to_outlive_the_daemon() {
    let message = "finding bpffs: /sys/fs/bpf/netd is in a private /sys or mount namespace: pins would die with \
        it, and the traffic with the daemon";
    let fix = "nsenter --net=/run/netns/host netd run   # not by `ip netns exec host`";
    for is_mounted in [false, true] {
        let private = Bpffs {
            outlives: Ok(false),
            namespace: Some("host".to_owned()),
            is_mounted,
            ..bpffs()
        };
        check(|facts| facts.bpffs = Ok(private), &[&format!("{message} | {fix}")]);
    }
    let unnamed = Bpffs { outlives: Ok(false), ..bpffs() };
    let fix = "nsenter --mount=/proc/1/ns/mnt netd run";
    check(|facts| facts.bpffs = Ok(unnamed), &[&format!("{message} | {fix}")]);
    check(|facts| facts.bpffs = Ok(Bpffs { is_mounted: false, ..bpffs() }), &[]);
    check(
        |facts| facts.bpffs = Ok(Bpffs { is_supported: false, ..bpffs() }),
        &[
            "fatal bpffs: the kernel has no bpffs to pin programs in at /sys/fs/bpf/netd | boot a kernel with \
           CONFIG_BPF_SYSCALL",
        ],
    );
    let owned = Bpffs { owner_error: Some("foreign pins".to_owned()), ..bpffs() };
    check(|facts| facts.bpffs = Ok(owned), &["fatal bpffs: foreign pins | give another --bpffs"]);
}

#[test]
fn the_state_is_to_be_readable_and_writable() {
    check(
        |facts| facts.state_error = Ok(Some("Read-only file system".to_owned())),
        &[
            "fatal state: /var/lib/netd cannot be written: Read-only file system | give another --state-dir, or \
           remount its file system",
        ],
    );
    let error =
        "/var/lib/netd/netd.redb is of schema 9, this netd knows 1: use the netd that wrote it";
    check(
        |facts| facts.wanted.error = Some(error.to_owned()),
        &[
            "fatal state: /var/lib/netd/netd.redb is of schema 9, this netd knows 1 | use the netd that wrote it",
        ],
    );
}

#[test]
fn another_daemon_is_in_the_way_unless_it_is_ours() {
    check(|facts| facts.daemon = Ok(Daemon::Here), &[]);
    let (socket, bpffs) = ("/run/netd/netd.sock", "/sys/fs/bpf/netd");
    for (daemon, message, fix) in [
        (
            Daemon::Silent,
            format!("another netd runs in this network namespace, and does not answer at {socket}"),
            "name its socket with --socket, and end it with `netd stop`".to_owned(),
        ),
        (
            Daemon::Elsewhere,
            format!("a netd of another network namespace answers at {socket}"),
            "give another --socket".to_owned(),
        ),
        (Daemon::NotASocket, format!("{socket} exists and is no socket"), format!("rm {socket}")),
        (
            Daemon::OnOurPins,
            format!("a netd of another network namespace has its pins in {bpffs}"),
            "give another --bpffs".to_owned(),
        ),
    ] {
        let line = format!("fatal daemon: {message} | {fix}");
        check(|facts| facts.daemon = Ok(daemon), &[&line]);
    }
}

#[test]
fn settings_are_to_be_writable_and_ipv6_is_to_be_there_if_it_is_used() {
    check(
        |facts| facts.sysctls.refused = Ok(vec!["cannot set x to 1".to_owned()]),
        &[
            "fatal sysctls: cannot set x to 1 | mount -o remount,rw /proc/sys   # in a container: start it with \
           --privileged",
        ],
    );
    let off = |facts: &mut Facts| facts.sysctls.has_ipv6 = false;
    check(
        off,
        &[
            "finding sysctls: IPv6 is switched off on this host, and there are networks with IPv6 | sysctl -w \
           net.ipv6.conf.all.disable_ipv6=0 net.ipv6.conf.default.disable_ipv6=0",
        ],
    );
    check(
        |facts| {
            off(facts);
            facts.wanted.networks[0].subnets.truncate(1);
        },
        &[],
    );
}

#[test]
fn uplinks_are_to_exist() {
    check(
        |facts| facts.config.uplinks.names = vec!["up0".to_owned(), "eth9".to_owned()],
        &[
            "finding uplinks: there is no device eth9, which is to be an uplink | name one of `ip link` in place of \
           eth9",
        ],
    );
    check(
        |facts| host(facts).uplinks.clear(),
        &[
            "finding uplinks: no device leads out of this host | name one with --uplink, or set one up",
        ],
    );
}

#[test]
fn programs_of_others_on_uplinks_are_named() {
    for (is_generic, link, fix) in [
        (false, None, "ip link set dev up0 xdp off"),
        (true, None, "ip link set dev up0 xdpgeneric off"),
        (false, Some(3), "bpftool link detach id 3"),
    ] {
        let program = XdpProgram { program: foreign("guard", link), is_generic };
        let xdp = vec![("up0".to_owned(), program)];
        let line = format!(
            "finding xdp: up0 carries the XDP program guard (id 7): it sees packets before netd, which leaves it \
             alone | {fix}"
        );
        check(|facts| facts.hooks = Ok(Hooks { xdp, ..Hooks::default() }), &[&line]);
    }
    for (direction, way, link, fix) in [
        (Direction::Egress, "egress", None, "bpftool net detach tcx_egress dev up0"),
        (Direction::Ingress, "ingress", Some(3), "bpftool link detach id 3"),
    ] {
        let tcx = vec![("up0".to_owned(), direction, foreign("shaper", link))];
        let line = format!(
            "finding classifiers: up0 has the TCX program shaper (id 7) on {way}: netd does not see what it drops \
             or redirects | {fix}"
        );
        check(|facts| facts.hooks = Ok(Hooks { tcx, ..Hooks::default() }), &[&line]);
    }
}

fn foreign(name: &str, link: Option<u32>) -> Foreign {
    Foreign { id: 7, name: name.to_owned(), link }
}

#[test]
fn classifiers_of_others_are_judged_by_their_place() {
    check(|facts| facts.hooks = Ok(classifier("bpf", 1, 0x6e64)), &[]);
    check(
        |facts| facts.hooks = Ok(classifier("bpf", 1, 9)),
        &[
            "finding classifiers: up0 has a bpf filter of preference 1 on ingress: netd does not see what it decides \
           first | tc filter del dev up0 ingress pref 1 handle 9 bpf",
        ],
    );
    check(
        |facts| facts.hooks = Ok(classifier("u32", 1, 9)),
        &[
            "fatal classifiers: up0 has a u32 filter of preference 1 on ingress, which netd needs for its own | tc \
           filter del dev up0 ingress pref 1",
        ],
    );
    let later = "finding classifiers: up0 has a u32 filter of preference 50 on ingress: it sees only what netd lets \
        pass to the stack | tc filter del dev up0 ingress pref 50";
    check(
        |facts| {
            let mut hooks = classifier("u32", 50, 9);
            hooks.classifiers.extend(classifier("u32", 50, 10).classifiers);
            facts.hooks = Ok(hooks);
        },
        &[later],
    );
    check(
        |facts| {
            let ingress_qdiscs = vec!["up0".to_owned()];
            facts.hooks = Ok(Hooks { ingress_qdiscs, ..Hooks::default() });
        },
        &[
            "fatal classifiers: up0 has the qdisc ingress where netd needs clsact | tc qdisc del dev up0 ingress",
        ],
    );
}

#[test]
fn strict_filters_bite_where_there_are_two_uplinks() {
    let strict = |facts: &mut Facts| facts.sysctls.strict_uplinks = vec!["up0.5".to_owned()];
    check(strict, &[]);
    check(
        |facts| {
            strict(facts);
            host(facts).uplinks.push(uplink(9, "up1"));
        },
        &[
            "finding rp_filter: up0.5 is strict (1) and not the only uplink: what comes by it from where another one \
           leads is dropped on the stack's way | sysctl -w net.ipv4.conf.up0/5.rp_filter=2",
        ],
    );
    check(
        |facts| facts.sysctls.losing_routes = vec!["up0".to_owned()],
        &[
            "finding accept_ra: up0 forwards IPv6 with accept_ra=1: its default route, which a router advertised, \
           will be lost | sysctl -w net.ipv6.conf.up0.accept_ra=2",
        ],
    );
}

#[test]
fn devices_of_netds_that_others_manage_are_named() {
    let managed = |manager| Managed { manager, ifname: "br-1".to_owned() };
    check(
        |facts| facts.managed = vec![managed(Manager::NetworkManager)],
        &[
            "finding managers: NetworkManager manages br-1, which is netd's | nmcli device set br-1 managed no",
        ],
    );
    check(
        |facts| facts.managed = vec![managed(Manager::Networkd)],
        &["finding managers: systemd-networkd manages br-1, which is netd's | printf \
           '[Match]\\nName=br-1\\n[Link]\\nUnmanaged=yes\\n' > /etc/systemd/network/05-br-1.network && networkctl \
           reload"],
    );
}

#[test]
fn rules_that_others_left_are_named_with_the_program_that_removes_them() {
    for (table, name, whose, fix) in [
        (
            "table ip nat",
            "DOCKER",
            "Docker",
            "iptables-nft-save | grep -v DOCKER | iptables-nft-restore",
        ),
        (
            "table filter of ip6tables-legacy",
            "DOCKER-ISOLATION-STAGE-1",
            "Docker",
            "ip6tables-legacy-save | grep -v DOCKER | ip6tables-legacy-restore",
        ),
        ("table ip6 docker-bridges", "nat", "Docker", "nft delete table ip6 docker-bridges"),
        ("table inet netavark", "INPUT", "netavark", "nft delete table inet netavark"),
        (
            "table ip nat",
            "CNI-HOSTPORT-DNAT",
            "CNI",
            "iptables-nft-save | grep -v CNI- | iptables-nft-restore",
        ),
        (
            "table ip6 filter",
            "KUBE-FORWARD",
            "Kubernetes",
            "ip6tables-nft-save | grep -v KUBE- | ip6tables-nft-restore",
        ),
        (
            "table inet own",
            "DOCKER-X",
            "Docker",
            "nft flush chain inet own DOCKER-X && nft delete chain inet own DOCKER-X",
        ),
    ] {
        let line = format!("finding leftovers: {whose} has left chains in {table}: {name} | {fix}");
        check(|facts| facts.chains = Ok(vec![chain(table, name, None)]), &[&line]);
    }
    check(|facts| facts.chains = Ok(vec![chain("table inet mine", "input", None)]), &[]);
}

#[test]
fn dockers_rules_are_no_leftovers_while_its_bridge_is_there() {
    check(
        |facts| {
            host(facts).links.push(link(9, "docker0", 1500));
            let tables = ["table ip filter", "table ip nat"];
            let mut chains = tables.map(|table| chain(table, "DOCKER", None)).to_vec();
            chains.push(chain("table ip filter", "DOCKER-USER", None));
            facts.chains = Ok(chains);
        },
        &[
            "finding leftovers: Docker has chains in table ip filter, table ip nat: DOCKER, DOCKER-USER; DOCKER-USER \
           may have rules of yours | iptables-nft-save | grep -v DOCKER | iptables-nft-restore   # after \
           \"iptables\": false in /etc/docker/daemon.json and a restart",
        ],
    );
}

#[test]
fn policies_that_stop_forwarded_packets_are_named_each_with_its_own_fix() {
    for (table, name, fix) in [
        ("table ip filter", "FORWARD", "iptables-nft -P FORWARD ACCEPT"),
        ("table filter of ip6tables-legacy", "FORWARD", "ip6tables-legacy -P FORWARD ACCEPT"),
        ("table ip filter", "forward", "nft add chain ip filter forward '{ policy accept ; }'"),
        ("table inet mine", "f", "nft add chain inet mine f '{ policy accept ; }'"),
    ] {
        let line = format!(
            "finding forward_policy: the policy DROP of chain {name} of {table} stops packets that take the stack's \
             way and no rule accepts | {fix}"
        );
        check(|facts| facts.chains = Ok(vec![chain(table, name, Some(Policy::Drop))]), &[&line]);
    }
    check(|facts| facts.chains = Ok(vec![chain("table inet m", "f", Some(Policy::Accept))]), &[]);
}

#[test]
fn br_netfilter_matters_where_there_are_rules_to_meet() {
    let on = |facts: &mut Facts| {
        facts.sysctls.bridge_filters = vec!["bridge-nf-call-iptables"];
    };
    check(on, &[]);
    check(
        |facts| {
            on(facts);
            let mut forward = chain("table ip filter", "FORWARD", Some(Policy::Accept));
            forward.rules = vec![Rule { target: Target::Other, is_bare: false }];
            facts.chains = Ok(vec![forward]);
        },
        &[
            "finding br_netfilter: bridge-nf-call-iptables = 1: rules in chain FORWARD of table ip filter judge frames \
           that a bridge switches within a network | sysctl -w net.bridge.bridge-nf-call-iptables=0",
        ],
    );
}

#[test]
fn a_way_past_rules_is_doubtful_only_if_it_was_asked_for() {
    let mut forward = chain("table ip filter", "FORWARD", Some(Policy::Accept));
    forward.rules = vec![Rule { target: Target::Other, is_bare: false }];
    check(|facts| facts.chains = Ok(vec![forward.clone()]), &[]);
    check(
        |facts| {
            facts.config.datapath.mode = DatapathMode::Fast;
            facts.chains = Ok(vec![forward.clone()]);
        },
        &[
            "finding data_path: fast: asked for by the daemon's configuration, although rules in chain FORWARD of \
           table ip filter judge forwarded packets | netd run --datapath auto",
        ],
    );
}

#[test]
fn a_network_is_not_to_be_wider_than_the_way_out() {
    let narrow = |facts: &mut Facts| host(facts).links[0].mtu = 1400;
    check(
        narrow,
        &[
            "finding mtu: network front has MTU 1500, the default route's device 1400: connections hang where ICMP is \
           filtered | netd network rm front && netd network create front --mtu 1400   # or with -o mss_clamp=auto; \
           give its other options too",
        ],
    );
    check(
        |facts| {
            narrow(facts);
            facts.wanted.networks[0].has_mss_clamp = true;
        },
        &[],
    );
}

#[test]
fn subnets_are_not_to_overlap_with_what_the_host_reaches() {
    let line = |subnet: &str, net: &str| {
        format!(
            "finding subnets: {subnet} of network front overlaps with {net}, to which up0 leads | netd network rm \
             front && netd network create front   # with another --subnet, or the next free pool"
        )
    };
    let v4 = line("10.77.1.0/24", "10.0.0.0/8");
    check(|facts| host(facts).routes.push(route(2, "10.0.0.0/8")), &[&v4]);
    let v6 = line("fd77:1::/64", "fd77:1::/64");
    check(|facts| host(facts).addresses.push(address(2, "fd77:1::9/64")), &[&v6]);
    check(|facts| host(facts).routes.push(route(2, "10.77.2.0/24")), &[]);
}

#[test]
fn a_process_that_listens_on_a_published_port_is_named() {
    let row = |host_ip: &str, proto: Proto, listens: &str, port: u16, is_clash: bool| {
        let address: IpAddr = listens.parse().unwrap();
        let listener = Listener { proto, address, port, process: Some(("nginx".to_owned(), 42)) };
        let mut facts = healthy();
        facts.wanted.ports = vec![published(host_ip)];
        facts.listeners = Ok(vec![listener]);
        let found = judge(&facts).iter().any(|finding| finding.status == Status::Finding);
        assert_eq!(found, is_clash, "{host_ip} {listens} {port}");
    };
    let tcp = Proto::Tcp;
    row("*", tcp, "0.0.0.0", 8080, true);
    row("*", tcp, "::", 8089, true);
    row("*", tcp, "127.0.0.1", 8080, true);
    row("*", tcp, "0.0.0.0", 8090, false);
    row("*", Proto::Udp, "0.0.0.0", 8080, false);
    row("0.0.0.0", tcp, "192.0.2.1", 8080, true);
    row("0.0.0.0", tcp, "2001:db8::1", 8080, false);
    row("0.0.0.0", tcp, "::", 8080, true);
    row("::", tcp, "2001:db8::1", 8080, true);
    row("::", tcp, "0.0.0.0", 8080, false);
    row("192.0.2.1", tcp, "192.0.2.1", 8080, true);
    row("192.0.2.1", tcp, "192.0.2.9", 8080, false);
    row("192.0.2.1", tcp, "::", 8080, true);
    row("%up0", tcp, "192.0.2.1", 8080, true);
    row("%up0", tcp, "10.77.1.1", 8080, false);
    row("-", tcp, "0.0.0.0", 8080, false);
    let listener =
        |process| Listener { proto: tcp, address: "::".parse().unwrap(), port: 8081, process };
    check(
        |facts| facts.listeners = Ok(vec![listener(Some(("nginx".to_owned(), 42)))]),
        &[
            "finding ports: tcp port 8081 is published for web, and nginx (pid 42) listens on it at [::]:8081: its \
           clients reach the container instead | netd port rm web 8080-8089:80-89/tcp   # or: kill 42",
        ],
    );
    check(
        |facts| facts.listeners = Ok(vec![listener(None)]),
        &[
            "finding ports: tcp port 8081 is published for web, and a process listens on it at [::]:8081: its clients \
           reach the container instead | netd port rm web 8080-8089:80-89/tcp",
        ],
    );
}
