//! Docker's own name server, which answers in each container of a network that a user has made: netd is no part of
//! it, and leaves it alone. What it does not know it asks outside, from the container's namespace.

use std::fs;

use netd_tests::{
    clients::Transport,
    docker::{DockerContainer, DockerHost, Release},
    family::Family,
    netns::Namespace,
    servers::{self, DNS_NAME},
};

use super::create_network;

/// The system that dockerd lives in, as a container's: its C library asks for names.
const SYSTEM: &str = "-v /usr:/usr:ro -v /usr/lib:/lib:ro -v /usr/lib64:/lib64:ro";

/// Fetches a page by name, in one family.
const FETCH: &str = r#"
use IO::Socket::IP;
my ($name, $family) = @ARGV;
my $socket = IO::Socket::IP->new(
    PeerHost => $name, PeerPort => 80, Family => $family == 4 ? AF_INET : AF_INET6, Timeout => 10,
) or die "$name: $@";
print $socket "GET / HTTP/1.0\r\n\r\n";
local $/;
my (undef, $page) = split /\r\n\r\n/, <$socket>;
print $page;
"#;

/// What Docker's name server answers in a container.
#[track_caller]
fn asked(from: &Namespace, name: &str, family: Family, transport: Transport) -> String {
    let record = family.pick("A", "AAAA");
    let tcp = if transport == Transport::Tcp { "+tcp" } else { "+notcp" };
    let line = format!("dig +short +time=3 +tries=3 {tcp} @127.0.0.11 {name} {record}");
    from.run(&line).ok().trim_end().to_owned()
}

/// Docker 20.10 asks servers outside by IPv4 only.
fn asks_outside(release: Release, outside: Family) -> bool {
    release != Release::Old || outside == Family::V4
}

/// A container that asks a name server outside for what Docker does not know.
#[track_caller]
fn asker(host: &DockerHost, name: &str, network: &str, outside: Family) -> DockerContainer {
    let (dns, dir) = (outside.remote(), host.directory().display());
    let asker = host
        .container(name, &format!("--network {network} --dns {dns} {SYSTEM} -v {dir}:{dir}:ro"));
    host.known(name);
    asker
}

#[track_caller]
fn check(release: Release) {
    let host = DockerHost::new(release);
    let world = &host.world;
    fs::write(host.directory().join("fetch.pl"), FETCH).unwrap();
    create_network(&host, "front", 1, "");
    create_network(&host, "back", 2, "");
    let web = host.container("web", "--network front --network-alias shop");
    host.known("web");
    let _nginx = servers::nginx(&web.namespace, &[80]);
    let beyond = Family::BOTH.map(|family| family.pick("198.51.100.80", "2001:db8:2::80"));
    let _dns = servers::dns(&world.client, beyond[0], beyond[1]);
    for outside in Family::BOTH {
        let name = outside.pick("four", "six");
        let asker = asker(&host, name, "front", outside);
        for (family, beyond) in Family::BOTH.into_iter().zip(beyond) {
            let own = world.address("web", family).to_string();
            for name in ["web", "shop", "web.front"] {
                assert_eq!(asked(&asker.namespace, name, family, Transport::Udp), own, "{name}");
            }
            assert_eq!(asked(&asker.namespace, "web", family, Transport::Tcp), own);
            if asks_outside(release, outside) {
                for transport in [Transport::Udp, Transport::Tcp] {
                    assert_eq!(asked(&asker.namespace, DNS_NAME, family, transport), beyond);
                }
            }
            let script = host.directory().join("fetch.pl");
            let version = family.pick(4, 6);
            let line = format!("exec {name} /usr/bin/perl {} web {version}", script.display());
            let client = world.address(name, family);
            let expected = format!("{} {client} 80", web.namespace.name());
            assert_eq!(host.docker(&line).ok(), expected);
        }
    }
    // Names stay in their network.
    let stranger = asker(&host, "stranger", "back", Family::V4);
    for family in Family::BOTH {
        assert_eq!(asked(&stranger.namespace, "web", family, Transport::Udp), "");
    }
}

#[test]
fn containers_of_docker_20_10_find_each_other_by_name() {
    check(Release::Old);
}

#[test]
fn containers_of_docker_28_find_each_other_by_name() {
    check(Release::New);
}
