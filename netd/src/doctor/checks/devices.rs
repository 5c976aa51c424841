//! Checks of the uplinks, and of what others have put on them.

use super::{Verdict, Verdicts, or_ok};
use crate::{
    datapath::probe::{Direction, Foreign, OUR_PRIORITY, is_our_classifier},
    doctor::facts::{Facts, Manager, XdpProgram},
    netlink::classifier::Classifier,
};

pub(super) fn uplinks(facts: &Facts) -> Verdicts<'_> {
    let host = facts.host.as_ref()?;
    let is_there = |name: &&String| host.links.iter().any(|link| link.name == **name);
    let named = &facts.config.uplinks.names;
    let mut found: Vec<Verdict> = named
        .iter()
        .filter(|name| !is_there(name))
        .map(|name| {
            let message = format!("there is no device {name}, which is to be an uplink");
            Verdict::finding(message, format!("name one of `ip link` in place of {name}"))
        })
        .collect();
    if host.uplinks.is_empty() && found.is_empty() {
        let message = "no device leads out of this host";
        found.push(Verdict::finding(message, "name one with --uplink, or set one up"));
    }
    let names: Vec<&str> = host.uplinks.iter().map(|uplink| uplink.name.as_str()).collect();
    Ok(or_ok(found, names.join(", ")))
}

pub(super) fn xdp(facts: &Facts) -> Verdicts<'_> {
    let hooks = facts.hooks.as_ref()?;
    let found = hooks.xdp.iter().map(|(ifname, XdpProgram { program, is_generic })| {
        let (id, name) = (program.id, &program.name);
        let message = format!(
            "{ifname} carries the XDP program {name} (id {id}): it sees packets before netd, which leaves it alone"
        );
        let mode = if *is_generic { "xdpgeneric" } else { "xdp" };
        Verdict::finding(message, detach(program, format!("ip link set dev {ifname} {mode} off")))
    });
    Ok(or_ok(found.collect(), "no programs of others on uplinks"))
}

/// What a link holds cannot be taken away otherwise.
fn detach(program: &Foreign, otherwise: String) -> String {
    program.link.map_or(otherwise, |link| format!("bpftool link detach id {link}"))
}

pub(super) fn classifiers(facts: &Facts) -> Verdicts<'_> {
    let hooks = facts.hooks.as_ref()?;
    let qdiscs = hooks.ingress_qdiscs.iter().map(|ifname| {
        let message = format!("{ifname} has the qdisc ingress where netd needs clsact");
        Verdict::fatal(message, format!("tc qdisc del dev {ifname} ingress"))
    });
    let tcx = hooks.tcx.iter().map(|(ifname, direction, program)| {
        let (id, name, way) = (program.id, &program.name, way(*direction == Direction::Egress));
        let message = format!(
            "{ifname} has the TCX program {name} (id {id}) on {way}: netd does not see what it drops or redirects"
        );
        let fix = format!("bpftool net detach tcx_{way} dev {ifname}");
        Verdict::finding(message, detach(program, fix))
    });
    let foreign =
        |classifier: &Classifier| !is_our_classifier(classifier.priority, classifier.handle);
    let mut found: Vec<Verdict> = qdiscs.chain(tcx).collect();
    for (ifname, classifier) in hooks.classifiers.iter().filter(|(_, c)| foreign(c)) {
        let verdict = foreign_classifier(ifname, classifier);
        // One of some kinds is listed with its parts.
        if !found.contains(&verdict) {
            found.push(verdict);
        }
    }
    Ok(or_ok(found, "none of others on uplinks"))
}

fn foreign_classifier(ifname: &str, classifier: &Classifier) -> Verdict {
    /// ETH_P_ALL of linux/if_ether.h.
    const ANY_PROTOCOL: u16 = 3;
    let Classifier { kind, priority, protocol, program, .. } = classifier;
    let way = way(classifier.is_egress);
    let name = program.as_ref().map(|name| format!(" {name}")).unwrap_or_default();
    let what = format!("{ifname} has a {kind} filter{name} of preference {priority} on {way}");
    let fix = format!("tc filter del dev {ifname} {way} pref {priority}");
    let is_same_kind = kind == "bpf" && *protocol == ANY_PROTOCOL;
    if *priority != OUR_PRIORITY {
        Verdict::finding(format!("{what}: it sees only what netd lets pass to the stack"), fix)
    } else if is_same_kind {
        // Both are deleted by preference; the handle tells them apart.
        let handle = classifier.handle;
        let fix = format!("tc filter del dev {ifname} {way} pref {priority} handle {handle} bpf");
        Verdict::finding(format!("{what}: netd does not see what it decides first"), fix)
    } else {
        Verdict::fatal(format!("{what}, which netd needs for its own"), fix)
    }
}

fn way(is_egress: bool) -> &'static str {
    if is_egress { "egress" } else { "ingress" }
}

pub(super) fn rp_filter(facts: &Facts) -> Verdicts<'_> {
    let uplinks = &facts.host.as_ref()?.uplinks;
    // With one way out there is none that a packet could come by wrongly.
    let strict = facts.sysctls.strict_uplinks.iter().filter(|_| uplinks.len() > 1);
    let found = strict.map(|ifname| {
        let message = format!(
            "{ifname} is strict (1) and not the only uplink: what comes by it from where another one leads is \
             dropped on the stack's way"
        );
        Verdict::finding(message, format!("sysctl -w net.ipv4.conf.{}.rp_filter=2", dotted(ifname)))
    });
    Ok(or_ok(found.collect(), "drops nothing of netd's"))
}

pub(super) fn accept_ra(facts: &Facts) -> Verdicts<'_> {
    let losing = facts.sysctls.losing_routes.iter();
    let found = losing.map(|ifname| {
        let message = format!(
            "{ifname} forwards IPv6 with accept_ra=1: its default route, which a router advertised, will be lost"
        );
        Verdict::finding(message, format!("sysctl -w net.ipv6.conf.{}.accept_ra=2", dotted(ifname)))
    });
    Ok(or_ok(found.collect(), "no route depends on it, or netd sets it"))
}

/// A device as sysctl(8) takes it: the dots of `eth0.5` are written as slashes.
pub(super) fn dotted(ifname: &str) -> String {
    ifname.replace('.', "/")
}

pub(super) fn managers(facts: &Facts) -> Verdicts<'_> {
    let found = facts.managed.iter().map(|managed| {
        let (ifname, (name, fix)) = (
            &managed.ifname,
            match managed.manager {
                Manager::NetworkManager => ("NetworkManager", "nmcli device set DEVICE managed no"),
                Manager::Networkd => (
                    "systemd-networkd",
                    "printf '[Match]\\nName=DEVICE\\n[Link]\\nUnmanaged=yes\\n' \
                 > /etc/systemd/network/05-DEVICE.network && networkctl reload",
                ),
            },
        );
        let message = format!("{name} manages {ifname}, which is netd's");
        Verdict::finding(message, fix.replace("DEVICE", ifname))
    });
    Ok(or_ok(found.collect(), "nobody else manages netd's devices"))
}
