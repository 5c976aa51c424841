//! Checks of what netd runs on: the kernel, its file systems, and another daemon.

use super::{Verdict, Verdicts, devices::dotted, or_ok};
use crate::{
    datapath::probe::Loaded,
    doctor::facts::{Bpffs, Cgroup2, Daemon, Facts, Programs},
};

/// The oldest kernel that all tests are run on.
const OLDEST_KERNEL: (u32, u32) = (6, 1);

const NEWER_KERNEL: &str = "boot Linux 6.1 or later";

pub(super) fn configuration(facts: &Facts) -> Verdicts<'_> {
    Ok(match &facts.config_error {
        // The error says itself what to do.
        Some(error) => {
            let (message, fix) = error.rsplit_once("; ").unwrap_or((error, "correct it"));
            vec![Verdict::fatal(message, fix)]
        }
        None => vec![Verdict::ok("no error in it")],
    })
}

pub(super) fn privileges(facts: &Facts) -> Verdicts<'_> {
    let missing = facts.missing_capabilities.as_ref()?;
    Ok(if missing.is_empty() {
        vec![Verdict::ok("all capabilities that netd needs")]
    } else {
        let missing = missing.join(", ");
        vec![Verdict::fatal(format!("without {missing}"), "sudo netd doctor")]
    })
}

pub(super) fn kernel(facts: &Facts) -> Verdicts<'_> {
    let release = facts.release.as_ref()?;
    let missing = facts.missing_features.as_ref()?;
    let verdict = if !missing.is_empty() {
        let missing = missing.join(", ");
        Verdict::fatal(format!("Linux {release} is without {missing}"), NEWER_KERNEL)
    } else if version(release).is_some_and(|version| version < OLDEST_KERNEL) {
        let message = format!("Linux {release} is older than any that netd is tested on");
        Verdict::finding(message, NEWER_KERNEL)
    } else {
        Verdict::ok(format!("Linux {release}, everything netd needs"))
    };
    Ok(vec![verdict])
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

pub(super) fn programs(facts: &Facts) -> Verdicts<'_> {
    Ok(vec![match facts.programs.as_ref()? {
        Programs::Loaded(Loaded::Compiled) => Verdict::ok("accepted and compiled by the kernel"),
        Programs::Loaded(Loaded::Interpreted) => Verdict::finding(
            "the kernel interprets them, which is slow",
            "sysctl -w net.core.bpf_jit_enable=1",
        ),
        Programs::Refused(why) => {
            Verdict::fatal(format!("the kernel refuses them: {why}"), NEWER_KERNEL)
        }
    }])
}

pub(super) fn cgroup(facts: &Facts) -> Verdicts<'_> {
    Ok(vec![match facts.cgroup2.as_ref()? {
        Cgroup2::At(path) => Verdict::ok(format!("cgroup2 at {}", path.display())),
        Cgroup2::NotMounted => {
            let state = facts.config.daemon.state_dir.display();
            Verdict::ok(format!("cgroup2 is mounted nowhere; netd mounts it at {state}/cgroup"))
        }
        Cgroup2::Absent => Verdict::fatal(
            "the kernel has no cgroup2, where netd hooks the host's own connections",
            "boot a kernel with CONFIG_CGROUPS and CONFIG_CGROUP_BPF",
        ),
    }])
}

pub(super) fn bpffs(facts: &Facts) -> Verdicts<'_> {
    let Bpffs { is_supported, is_mounted, is_daemons, outlives, namespace, owner_error } =
        facts.bpffs.as_ref()?;
    let path = facts.config.daemon.bpffs.display();
    if !is_supported {
        let message = format!("the kernel has no bpffs to pin programs in at {path}");
        return Ok(vec![Verdict::fatal(message, "boot a kernel with CONFIG_BPF_SYSCALL")]);
    }
    if let Some(error) = owner_error {
        return Ok(vec![Verdict::fatal(error, "give another --bpffs")]);
    }
    if !*outlives.as_ref()? {
        let whose = if *is_daemons { " of the daemon that runs" } else { "" };
        let message = format!(
            "{path} is in a private /sys or mount namespace{whose}: pins would die with it, and the traffic with \
             the daemon"
        );
        return Ok(vec![Verdict::finding(message, from_outside(namespace.as_deref()))]);
    }
    let mounted = if *is_mounted { "mounted" } else { "is mounted when netd starts" };
    Ok(vec![Verdict::ok(format!("{path}: {mounted}, pins outlive the daemon"))])
}

/// How to run the daemon without a private mount namespace.
fn from_outside(namespace: Option<&str>) -> String {
    match namespace {
        // Not from inside of `ip netns exec`, which is what mostly makes a private /sys.
        Some(name) => {
            format!("nsenter --net=/run/netns/{name} netd run   # not by `ip netns exec {name}`")
        }
        None => "nsenter --mount=/proc/1/ns/mnt netd run".to_owned(),
    }
}

pub(super) fn state(facts: &Facts) -> Verdicts<'_> {
    let path = facts.config.daemon.state_dir.display();
    let mut found = Vec::new();
    if let Some(error) = facts.state_error.as_ref()? {
        let message = format!("{path} cannot be written: {error}");
        found.push(Verdict::fatal(message, "give another --state-dir, or remount its file system"));
    }
    if let Some(error) = &facts.wanted.error {
        let (message, fix) = split_advice(error);
        found.push(Verdict::fatal(message, fix));
    }
    let held = if facts.wanted.exists {
        let (networks, ports) = (facts.wanted.networks.len(), facts.wanted.ports.len());
        format!("{path}: networks: {networks}, published ports: {ports}")
    } else {
        format!("{path}: no state yet")
    };
    Ok(or_ok(found, held))
}

/// Errors of the store end with what to do.
fn split_advice(error: &str) -> (&str, &str) {
    error
        .rsplit_once([':', ';'])
        .map_or((error, "see the daemon's log"), |(error, advice)| (error, advice.trim()))
}

pub(super) fn daemon(facts: &Facts) -> Verdicts<'_> {
    let socket = facts.config.daemon.socket.display();
    let bpffs = facts.config.daemon.bpffs.display();
    Ok(vec![match facts.daemon.as_ref()? {
        Daemon::Here => Verdict::ok(format!("runs, and answers at {socket}")),
        Daemon::None => Verdict::ok("does not run"),
        Daemon::Silent => Verdict::fatal(
            format!("another netd runs in this network namespace, and does not answer at {socket}"),
            "name its socket with --socket, and end it with `netd stop`",
        ),
        Daemon::Elsewhere => Verdict::fatal(
            format!("a netd of another network namespace answers at {socket}"),
            "give another --socket",
        ),
        Daemon::NotASocket => {
            Verdict::fatal(format!("{socket} exists and is no socket"), format!("rm {socket}"))
        }
        Daemon::OnOurPins => Verdict::fatal(
            format!("a netd of another network namespace has its pins in {bpffs}"),
            "give another --bpffs",
        ),
    }])
}

pub(super) fn sysctls(facts: &Facts) -> Verdicts<'_> {
    let sysctls = &facts.sysctls;
    let remount = "mount -o remount,rw /proc/sys   # in a container: start it with --privileged";
    let mut found: Vec<Verdict> =
        sysctls.refused.as_ref()?.iter().map(|refused| Verdict::fatal(refused, remount)).collect();
    if facts.wanted.has_ipv6() && !sysctls.has_ipv6 {
        found.push(Verdict::finding(
            "IPv6 is switched off on this host, and there are networks with IPv6",
            "sysctl -w net.ipv6.conf.all.disable_ipv6=0 net.ipv6.conf.default.disable_ipv6=0",
        ));
    }
    found.extend(sysctls.not_forwarding.iter().map(|ifname| {
        Verdict::finding(
            format!(
                "{ifname} does not forward IPv4: what comes by it is dropped on the stack's way"
            ),
            format!("sysctl -w net.ipv4.conf.{}.forwarding=1", dotted(ifname)),
        )
    }));
    Ok(or_ok(found, "forwarding is on, or netd switches it on"))
}
