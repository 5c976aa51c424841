use std::net::IpAddr;

use proptest::prelude::{Just, Strategy, any, prop, prop_assert_eq, prop_oneof, proptest};

use super::{PortRange, PortSpec, PortSpecError};
use crate::model::{HostIp, Proto};

#[track_caller]
fn check(text: &str, normalised: &str) {
    let spec: PortSpec = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
    assert_eq!(spec.to_string(), normalised);
}

#[track_caller]
fn check_refused(text: &str, message: &str) {
    let error = text.parse::<PortSpec>().map(|spec| spec.to_string()).expect_err(text);
    assert!(error.to_string().contains(message), "{text}: {error}");
}

#[test]
fn the_short_form_is_dockers() {
    check("80", "80/tcp");
    check("80/udp", "80/udp");
    check("80/TCP", "80/tcp");
    check("9899:9899/sctp", "9899:9899/sctp");
    check("8080:80", "8080:80/tcp");
    check(":80", "80/tcp");
    check(":8080:80", "8080:80/tcp");
    check("0:80", "80/tcp");
    check("8000-8010:80", "8000-8010:80/tcp");
    check("8000-8010:9000-9010/udp", "8000-8010:9000-9010/udp");
    check("7000-7002", "7000-7002/tcp");
    check("192.0.2.1:8080:80", "192.0.2.1:8080:80/tcp");
    check("192.0.2.1::80", "192.0.2.1::80/tcp");
    check("0.0.0.0:8080:80", "0.0.0.0:8080:80/tcp");
    check("[2001:db8::1]:8080:80", "[2001:db8::1]:8080:80/tcp");
    check("[::]:8080:80/udp", "[::]:8080:80/udp");
    check("[2001:db8::1]::80", "[2001:db8::1]::80/tcp");
    check("%eth0:8080:80", "%eth0:8080:80/tcp");
    check("%eth0.100::80", "%eth0.100::80/tcp");
}

#[test]
fn the_long_form_means_the_same() {
    check("published=8080,target=80", "8080:80/tcp");
    check("target=80", "80/tcp");
    check("target=53,published=53,protocol=udp,host_ip=192.0.2.1", "192.0.2.1:53:53/udp");
    check("published=36412,target=36412,protocol=SCTP", "36412:36412/sctp");
    check("target=80,published=8080,host_ip=2001:db8::1", "[2001:db8::1]:8080:80/tcp");
    check("target=80,published=8080,host_ip=[2001:db8::1]", "[2001:db8::1]:8080:80/tcp");
    check("target=80,published=8000-8010,host_ip=%eth0", "%eth0:8000-8010:80/tcp");
}

#[test]
fn what_is_wrong_is_said() {
    check_refused("", "the container port is missing");
    check_refused("8080:", "the container port is missing");
    check_refused("published=8080", "the container port is missing");
    check_refused("http", "\"http\" is not a port");
    check_refused("80:http", "\"http\" is not a port");
    check_refused("0", "\"0\" is not a port");
    check_refused("+80", "\"+80\" is not a port");
    check_refused("65536", "\"65536\" is not a port");
    check_refused("90-80:90-80", "the range 90-80 runs backwards: write 80-90");
    check_refused("80-90:80-91", "host ports 80-90 and container ports 80-91 differ in number");
    check_refused("80:80-81", "differ in number");
    check_refused("80/icmp", "\"icmp\" is not a protocol");
    check_refused("80/", "\"\" is not a protocol");
    check_refused("localhost:80:80", "\"localhost\" is not a host address");
    check_refused("2001:db8::1:80:80", "\"2001:db8::1\" is not a host address");
    check_refused("[192.0.2.1]:80:80", "\"[192.0.2.1]\" is not a host address");
    check_refused("%:80:80", "\"%\" is not a host address");
    check_refused("%averyveryverylongname:80:80", "is not a host address");
    check_refused("*:80:80", "\"*\" is not a host address");
    check_refused("127.0.0.1:80", "write 127.0.0.1::PORT");
    check_refused("[::1]:80", "write [::1]::PORT");
    check_refused("%eth0:80", "write %eth0::PORT");
    check_refused("[::1]", "is not a port");
    check_refused("target=80,mode=host", "\"mode\" is not a key of a port");
    check_refused("target=80,target=81", "target is given twice");
    check_refused("target=80,8080", "\"8080\" is not a key of a port");
}

#[test]
fn a_range_of_the_wire_is_checked_like_one_of_a_user() {
    assert!(serde_json::from_str::<PortRange>("[80,81]").is_ok());
    assert!(serde_json::from_str::<PortRange>("[81,80]").is_err());
    assert!(serde_json::from_str::<PortRange>("[0,80]").is_err());
    assert_eq!(PortRange::new(2, 1), Err(PortSpecError::Backwards { first: 2, last: 1 }));
}

fn specs() -> impl Strategy<Value = PortSpec> {
    let host_ip = prop_oneof![
        Just(HostIp::Any),
        any::<IpAddr>().prop_map(HostIp::Address),
        "[a-z]{1,10}[0-9]{1,4}".prop_map(HostIp::Interface),
    ];
    let proto = prop_oneof![Just(Proto::Tcp), Just(Proto::Udp), Just(Proto::Sctp)];
    let range = (1_u16.., any::<u16>())
        .prop_map(|(first, span)| PortRange::new(first, first.saturating_add(span)).unwrap());
    let both = (range, 1_u16.., any::<bool>()).prop_map(|(host, first, is_single)| {
        let span = if is_single { 0 } else { host.span() };
        let first = first.min(u16::MAX - span).max(1);
        (host, PortRange::new(first, first + span.min(u16::MAX - first)).unwrap())
    });
    let both = both.prop_filter("equally long", |(host, ports)| {
        ports.span() == 0 || ports.span() == host.span()
    });
    (host_ip, both, any::<bool>(), proto).prop_map(|(host_ip, (host, ports), is_picked, proto)| {
        PortSpec { host_ip, host_ports: (!is_picked).then_some(host), ports, proto }
    })
}

proptest! {
    #[test]
    fn a_spec_survives_its_text(spec in specs()) {
        prop_assert_eq!(spec.to_string().parse::<PortSpec>(), Ok(spec));
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in prop::string::string_regex("[0-9a-z:%/=,\\[\\].*-]{0,30}").unwrap()) {
        let _ = text.parse::<PortSpec>();
    }
}
