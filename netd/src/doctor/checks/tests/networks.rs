//! The checks of `networks.rs`.

use super::*;
use crate::model;

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

fn listener(proto: Proto, address: IpAddr, port: u16, name: Option<&str>) -> Listener {
    let socket = model::Listener { proto, address, port, inode: 1 };
    Listener { socket, process: name.map(|name| (name.to_owned(), 42)) }
}

#[test]
fn dockerd_may_hold_what_its_containers_publish() {
    for is_dockers in [true, false] {
        let mut facts = healthy();
        facts.wanted.ports = vec![WantedPort { is_dockers, ..published("*") }];
        let any = "0.0.0.0".parse().unwrap();
        facts.listeners = Ok(vec![listener(Proto::Tcp, any, 8080, Some("dockerd"))]);
        let found = judge(&facts).iter().any(|finding| finding.status == Status::Finding);
        assert_eq!(found, !is_dockers);
    }
}

#[test]
fn a_process_that_listens_on_a_published_port_is_named() {
    let row = |host_ip: &str, proto: Proto, listens: &str, port: u16, is_clash: bool| {
        let address: IpAddr = listens.parse().unwrap();
        let listener = listener(proto, address, port, Some("nginx"));
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
    let any: IpAddr = "::".parse().unwrap();
    check(
        |facts| facts.listeners = Ok(vec![listener(tcp, any, 8081, Some("nginx"))]),
        &[
            "finding ports: tcp port 8081 is published for web, and nginx (pid 42) listens on it at [::]:8081: its \
           clients reach the container instead | netd port rm web 8080-8089:80-89/tcp   # or: kill 42",
        ],
    );
    check(
        |facts| facts.listeners = Ok(vec![listener(tcp, any, 8081, None)]),
        &[
            "finding ports: tcp port 8081 is published for web, and a process listens on it at [::]:8081: its clients \
           reach the container instead | netd port rm web 8080-8089:80-89/tcp",
        ],
    );
}
