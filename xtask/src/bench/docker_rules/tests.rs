use super::*;

/// moby's own file, with our addresses and numbers in it.
const IPV4: &str = "\
*raw
:PREROUTING ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
-A PREROUTING -d 10.88.0.2/32 ! -i br0 -j DROP
COMMIT
*filter
:INPUT ACCEPT [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
:DOCKER - [0:0]
:DOCKER-BRIDGE - [0:0]
:DOCKER-CT - [0:0]
:DOCKER-FORWARD - [0:0]
:DOCKER-INTERNAL - [0:0]
:DOCKER-USER - [0:0]
-A FORWARD -j DOCKER-USER
-A FORWARD -j DOCKER-FORWARD
-A DOCKER -d 10.88.0.2/32 ! -i br0 -o br0 -p tcp -m tcp --dport 8080 -j ACCEPT
-A DOCKER ! -i br0 -o br0 -j DROP
-A DOCKER-BRIDGE -o br0 -j DOCKER
-A DOCKER-CT -o br0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A DOCKER-FORWARD -j DOCKER-CT
-A DOCKER-FORWARD -j DOCKER-INTERNAL
-A DOCKER-FORWARD -j DOCKER-BRIDGE
-A DOCKER-FORWARD -i br0 -j ACCEPT
COMMIT
*nat
:PREROUTING ACCEPT [0:0]
:INPUT ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
:DOCKER - [0:0]
-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
-A OUTPUT -m addrtype --dst-type LOCAL -j DOCKER
-A POSTROUTING -o br0 -m addrtype --src-type LOCAL -j MASQUERADE
-A POSTROUTING -s 10.88.0.0/24 ! -o br0 -j MASQUERADE
-A POSTROUTING -s 10.88.0.2/32 -d 10.88.0.2/32 -p tcp -m tcp --dport 8080 -j MASQUERADE
-A DOCKER -p tcp -m tcp --dport 8080 -j DNAT --to-destination 10.88.0.2:8080
COMMIT
";

fn rules(family: Family, ports: &[PublishedPort]) -> String {
    tables(&Network { bridge: "br0", family }, ports)
}

#[test]
fn one_port_has_the_rules_that_dockers_own_test_expects() {
    assert_eq!(rules(Family::V4, &[PublishedPort { protocol: "tcp", number: 8080 }]), IPV4);
}

#[test]
fn ipv6_differs_by_the_link_local_exception_and_brackets() {
    let text = rules(Family::V6, &[PublishedPort { protocol: "udp", number: 53 }]);
    let dnat = "-A DOCKER ! -s fe80::/10 -p udp -m udp --dport 53 -j DNAT \
                --to-destination [fd88::2]:53\n";
    assert!(text.contains(dnat), "{text}");
    assert!(text.contains("-A PREROUTING -d fd88::2/128 ! -i br0 -j DROP\n"), "{text}");
}

#[test]
fn each_port_adds_three_rules() {
    let port = |number| PublishedPort { protocol: "tcp", number };
    let count = |numbers: std::ops::Range<u16>| {
        rules(Family::V4, &numbers.map(port).collect::<Vec<_>>()).lines().count()
    };
    assert_eq!(count(1..101) - count(1..1), 300);
}
