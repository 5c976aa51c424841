//! What the demo does and what it expects. Pure: others do it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{
    check::{Check, Expected},
    world::DIR,
};

/// The machines, as they are before netd. The link to the client is the host's uplink.
pub(super) const MACHINES: [&str; 11] = [
    "ip netns add client",
    "ip netns add web",
    "ip netns add app",
    "ip link set lo up",
    "ip link add up0 type veth peer name eth0 netns client",
    "ip address add 192.0.2.1/24 dev up0",
    "ip address add 2001:db8::1/64 dev up0",
    "ip -n client address add 192.0.2.9/24 dev eth0",
    "ip -n client address add 2001:db8::9/64 dev eth0",
    "ip link set up0 up",
    "ip -n client link set eth0 up",
];

/// The networks, each with its container.
pub(super) const NETWORKS: [&str; 4] = [
    "netd network create front --ipv6",
    "netd network create back --ipv6",
    "netd network connect front web -p 8080:80",
    "netd network connect back app",
];

const HOST: Both = Both {
    v4: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
    v6: IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
};
const CLIENT: Both = Both {
    v4: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 9)),
    v6: IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 9)),
};
const LOCALHOST: Both =
    Both { v4: IpAddr::V4(Ipv4Addr::LOCALHOST), v6: IpAddr::V6(Ipv6Addr::LOCALHOST) };

/// How long curl and ping wait for an answer; what is refused silently takes as long.
const PATIENCE_SECS: u32 = 2;

const PUBLISHED: u16 = 8080;
const NOT_PUBLISHED: u16 = 8081;
const WEB: u16 = 80;

/// An address of each family.
#[derive(Clone, Copy, Debug)]
pub(super) struct Both {
    pub(super) v4: IpAddr,
    pub(super) v6: IpAddr,
}

/// The addresses that netd has given out.
#[derive(Debug)]
pub(super) struct Addresses {
    pub(super) web: Both,
    pub(super) web_gateway: Both,
    pub(super) app: Both,
}

/// A part of the demo.
#[derive(Debug)]
pub(super) enum Act {
    /// What is to be said about the next parts.
    Title(&'static str),
    /// A command that is to succeed.
    Run(String),
    /// Commands to try, all at once.
    Try(Vec<Check>),
}

/// Everything that is shown once the machines are there, in this order.
pub(super) fn acts(addresses: &Addresses) -> Vec<Act> {
    let mut acts = what_works(addresses);
    acts.extend(what_is_refused(addresses));
    acts.extend(networks_allowed(addresses));
    acts
}

fn what_works(addresses: &Addresses) -> Vec<Act> {
    vec![
        Act::Title("A client reaches the published port, and the server sees who it is"),
        Act::Try(curl("client", HOST, PUBLISHED, page("web", CLIENT))),
        Act::Title("The host itself reaches it at localhost"),
        Act::Try(curl("", LOCALHOST, PUBLISHED, page_of("web"))),
        Act::Title("A container reaches the world, which sees the host: masquerade"),
        Act::Try(curl("app", CLIENT, WEB, page("client", HOST))),
        Act::Title("A container reaches its gateway"),
        Act::Try(ping("web", addresses.web_gateway, always(Expected::Reply))),
        Act::Title("A container of another network reaches the port too, seen as the gateway"),
        Act::Try(curl("app", HOST, PUBLISHED, page("web", addresses.web_gateway))),
    ]
}

fn what_is_refused(addresses: &Addresses) -> Vec<Act> {
    let mut acts = vec![
        Act::Title("A port that is not published is closed"),
        Act::Try(curl("client", HOST, NOT_PUBLISHED, always(Expected::Refused))),
        Act::Title("Nobody outside reaches a container by its own address, not even with a route"),
    ];
    acts.extend(FAMILIES.map(|family| {
        let (web, host) = (addresses.web.of(family), HOST.of(family));
        Act::Run(format!("ip -n client route add {web} via {host}"))
    }));
    let mut direct = curl("client", addresses.web, WEB, always(Expected::NoAnswer));
    direct.extend(ping("client", addresses.web, always(Expected::NoAnswer)));
    acts.extend([Act::Try(direct), Act::Title("Networks are apart"), Act::Try(apart(addresses))]);
    acts
}

fn networks_allowed(addresses: &Addresses) -> Vec<Act> {
    let Addresses { web, app, .. } = *addresses;
    let mut together = curl("web", app, WEB, page("app", web));
    together.extend(ping("web", app, always(Expected::Reply)));
    together.extend(curl("app", web, WEB, page("web", app)));
    vec![
        Act::Title("... until they are allowed to talk"),
        Act::Run("netd network allow front back".to_owned()),
        Act::Try(together),
        Act::Title("... and apart again"),
        Act::Run("netd network disallow front back".to_owned()),
        Act::Try(apart(addresses)),
    ]
}

fn apart(addresses: &Addresses) -> Vec<Check> {
    let mut checks = curl("web", addresses.app, WEB, always(Expected::NoAnswer));
    checks.extend(ping("web", addresses.app, always(Expected::NoAnswer)));
    checks
}

/// What somebody may type who wants to try more.
pub(super) fn suggestions(addresses: &Addresses) -> Vec<String> {
    let first = |checks: Vec<Check>| checks.into_iter().next().map(|check| check.line);
    let any = || always(Expected::Reply);
    let lines = [
        first(curl("client", HOST, PUBLISHED, any())),
        first(curl("app", CLIENT, WEB, any())),
        first(ping("web", addresses.app, any())),
    ];
    let mut lines: Vec<String> = lines.into_iter().flatten().collect();
    lines.extend(["conntrack ls", "port add app 8081:80"].map(|line| format!("{DIR}/netd {line}")));
    lines
}

#[derive(Clone, Copy, Debug)]
enum Family {
    V4,
    V6,
}

const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

impl Both {
    fn of(self, family: Family) -> IpAddr {
        match family {
            Family::V4 => self.v4,
            Family::V6 => self.v6,
        }
    }
}

/// Fetches a page in each family, from a namespace or, without a name, from the host.
fn curl(from: &str, to: Both, port: u16, expected: impl Fn(Family) -> Expected) -> Vec<Check> {
    let url = |to: IpAddr| match (port, to) {
        (80, IpAddr::V4(to)) => format!("http://{to}/"),
        (80, IpAddr::V6(to)) => format!("http://[{to}]/"),
        (port, to) => format!("http://{}/", SocketAddr::new(to, port)),
    };
    let line = |to| format!("curl -sS -m {PATIENCE_SECS} {}", url(to));
    check_both(from, to, line, expected)
}

/// Sends one ping in each family.
fn ping(from: &str, to: Both, expected: impl Fn(Family) -> Expected) -> Vec<Check> {
    check_both(from, to, |to| format!("ping -c 1 -W {PATIENCE_SECS} {to}"), expected)
}

fn check_both(
    from: &str,
    to: Both,
    line: impl Fn(IpAddr) -> String,
    expected: impl Fn(Family) -> Expected,
) -> Vec<Check> {
    let enter = if from.is_empty() { String::new() } else { format!("ip netns exec {from} ") };
    let check = |family| {
        let line = format!("{enter}{}", line(to.of(family)));
        Check { line, expected: expected(family) }
    };
    FAMILIES.map(check).into()
}

fn page(server: &'static str, seen: Both) -> impl Fn(Family) -> Expected {
    move |family| Expected::Page { server, seen: Some(seen.of(family)) }
}

fn page_of(server: &'static str) -> impl Fn(Family) -> Expected {
    move |_| Expected::Page { server, seen: None }
}

fn always(expected: Expected) -> impl Fn(Family) -> Expected {
    move |_| expected.clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses() -> Addresses {
        let both = |v4: &str, v6: &str| Both { v4: v4.parse().unwrap(), v6: v6.parse().unwrap() };
        Addresses {
            web: both("10.9.0.2", "fd00::2"),
            web_gateway: both("10.9.0.1", "fd00::1"),
            app: both("10.9.1.2", "fd00:1::2"),
        }
    }

    #[track_caller]
    fn check_lines(checks: Vec<Check>, expected: [&str; 2]) {
        let lines: Vec<String> = checks.into_iter().map(|check| check.line).collect();
        assert_eq!(lines, expected);
    }

    #[test]
    fn commands_are_written_as_a_person_types_them() {
        let any = || always(Expected::Reply);
        check_lines(
            curl("client", HOST, PUBLISHED, any()),
            [
                "ip netns exec client curl -sS -m 2 http://192.0.2.1:8080/",
                "ip netns exec client curl -sS -m 2 http://[2001:db8::1]:8080/",
            ],
        );
        check_lines(
            curl("", LOCALHOST, WEB, any()),
            ["curl -sS -m 2 http://127.0.0.1/", "curl -sS -m 2 http://[::1]/"],
        );
        check_lines(
            ping("web", addresses().app, any()),
            [
                "ip netns exec web ping -c 1 -W 2 10.9.1.2",
                "ip netns exec web ping -c 1 -W 2 fd00:1::2",
            ],
        );
    }

    /// Otherwise the source that a server has seen last may be another check's.
    #[test]
    fn a_server_tells_its_source_once_a_family_in_checks_that_run_at_once() {
        for act in acts(&addresses()) {
            let Act::Try(checks) = act else { continue };
            let mut told = Vec::new();
            for check in checks {
                let Expected::Page { server, seen: Some(seen) } = check.expected else { continue };
                assert!(!told.contains(&(server, seen.is_ipv4())), "{}", check.line);
                told.push((server, seen.is_ipv4()));
            }
        }
    }
}
