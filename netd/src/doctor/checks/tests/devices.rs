//! The checks of `devices.rs`.

use super::*;

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
