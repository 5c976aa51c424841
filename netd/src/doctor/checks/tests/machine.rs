//! The checks of `machine.rs`.

use super::*;

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
    let message_of_daemon = message.replace("namespace:", "namespace of the daemon that runs:");
    let daemons = Bpffs {
        outlives: Ok(false),
        namespace: Some("host".to_owned()),
        is_daemons: true,
        ..bpffs()
    };
    check(|facts| facts.bpffs = Ok(daemons), &[&format!("{message_of_daemon} | {fix}")]);
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
