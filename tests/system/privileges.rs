//! Who may give the daemon orders, and what it may do itself.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
};

use netd_tests::{
    clients::fetch,
    condition::eventually,
    family::Family,
    servers,
    topology::{World, at},
};

#[test]
fn the_socket_is_closed_to_strangers() {
    let world = World::new();
    let socket = fs::metadata(world.daemon.socket()).unwrap();
    assert_eq!(socket.permissions().mode() & 0o777, 0o660);
    assert_eq!(socket.uid(), 0);
    let groups = fs::read_to_string("/etc/group").unwrap_or_default();
    let group = groups.lines().find_map(|line| line.strip_prefix("netd:x:")?.split(':').next());
    assert_eq!(socket.gid().to_string(), group.unwrap_or("0"));
    let state = fs::metadata(world.daemon.state_dir()).unwrap();
    assert_eq!(state.permissions().mode() & 0o007, 0, "the state is for root alone");
}

#[test]
fn the_socket_is_roots_where_there_is_no_group_netd_and_else_the_groups() {
    for (groups, expected) in [("root:x:0:\n", 0), ("root:x:0:\nnetd:x:4321:\n", 4321)] {
        let mut world = World::without_daemon("");
        let file = world.daemon.config().with_file_name("group");
        fs::write(&file, groups).unwrap();
        // The daemon alone sees these groups.
        let hide = format!("mount --bind {} /etc/group && exec \"$@\"", file.display());
        world.daemon.start_by(&["unshare", "--mount", "sh", "-c", &hide, "sh"]);
        let socket = fs::metadata(world.daemon.socket()).unwrap();
        assert_eq!((socket.uid(), socket.gid()), (0, expected), "{groups}");
        assert_eq!(socket.permissions().mode() & 0o777, 0o660, "{groups}");
    }
}

/// A container made of nothing but programs, say.
#[test]
fn the_socket_is_roots_where_there_are_no_groups_at_all() {
    let mut world = World::without_daemon("");
    let hide = "mount -t tmpfs none /etc && exec \"$@\"";
    world.daemon.start_by(&["unshare", "--mount", "sh", "-c", hide, "sh"]);
    let socket = fs::metadata(world.daemon.socket()).unwrap();
    assert_eq!((socket.uid(), socket.gid()), (0, 0));
    assert_eq!(socket.permissions().mode() & 0o777, 0o660);
}

/// What the kernel says of each thread of a process.
fn statuses(pid: u32) -> Vec<String> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    threads.map(|it| fs::read_to_string(it.unwrap().path().join("status")).unwrap()).collect()
}

#[test]
fn the_daemon_keeps_no_capability_that_it_does_not_need() {
    // Source: linux/capability.h.
    const UNNEEDED: [(&str, u32); 7] = [
        ("CAP_SETUID", 7),
        ("CAP_SYS_MODULE", 16),
        ("CAP_SYS_RAWIO", 17),
        ("CAP_SYS_BOOT", 22),
        ("CAP_SYS_TIME", 25),
        ("CAP_MKNOD", 27),
        ("CAP_MAC_ADMIN", 33),
    ];
    let mut world = World::new();
    let unneeded = UNNEEDED.iter().fold(0, |all, (_, number)| all | 1 << number);
    // A thread has capabilities of its own, and gives them up when it begins.
    eventually("no thread has any of them", || {
        let statuses = statuses(world.daemon.pid());
        assert!(statuses.len() > 1, "expiry has a thread");
        statuses.iter().all(|status| {
            ["CapEff:", "CapPrm:"].iter().all(|set| {
                let line = status.lines().find_map(|line| line.strip_prefix(set)).unwrap();
                u64::from_str_radix(line.trim(), 16).unwrap() & unneeded == 0
            })
        })
    });
    // What is left is enough to work with.
    world.network("front", 1, "");
    let web = world.container("web", "front", "-p 8080:80");
    let _nginx = servers::nginx(&web.namespace, &[80]);
    for family in Family::BOTH {
        fetch(&world.client, at(family.host(), 8080));
    }
    world.netd("stop --detach").ok();
}
