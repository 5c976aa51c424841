//! A kernel that refuses, forgets to tell, or tells another time.

use std::{
    fs,
    path::{Path, PathBuf},
    process,
};

use netd_tests::{
    clients::{Connection, fetch},
    condition::eventually,
    family::Family,
    mounts::FileSystem,
    topology::{World, at},
};
use nix::sys::signal::Signal;

use crate::restarts::Web;

#[test]
fn pins_that_cannot_be_made_stop_the_daemon_and_nothing_else() {
    let mut world = World::without_daemon("");
    let pins = FileSystem::bpffs(world.daemon.bpffs());
    let run =
        format!("run {} --config {}", world.daemon.remains(), world.daemon.config().display());
    let before = links(&world);
    pins.make_read_only(true);
    let refused = |world: &World| {
        let error = world.refused(&run);
        assert!(error.contains("Read-only file system"), "{error}");
        let path = world.daemon.bpffs().display().to_string();
        assert!(error.contains(&path), "{error}");
    };
    refused(&world);
    assert_eq!(links(&world), before);
    pins.make_read_only(false);
    world.daemon.start();
    let mut web = Web::new(&world);
    world.daemon.kill();
    pins.make_read_only(true);
    refused(&world);
    web.check(&world);
    pins.make_read_only(false);
    world.daemon.start();
    web.check(&world);
}

#[test]
fn a_table_that_there_is_no_memory_for_stops_the_daemon_and_nothing_else() {
    let group = ControlGroup::of_memory(64 << 20);
    let mut world = World::without_daemon("[datapath]\nmax_flows = 16777216\n");
    let before = links(&world);
    world.daemon.spawn_by(&group.wrapper(), &[]);
    assert!(!world.daemon.is_ready_or_ended());
    assert_eq!(world.daemon.wait().code(), Some(1), "{}", world.daemon.log());
    let log = world.daemon.log();
    assert!(log.contains("error: ") && log.contains("Cannot allocate memory"), "{log}");
    assert!(log.contains("max_flows"), "{log}");
    assert!(!world.daemon.bpffs().exists());
    assert_eq!(links(&world), before);
    world.daemon.configure("");
    world.daemon.start();
    Web::new(&world).check(&world);
}

#[test]
fn a_start_without_a_thread_for_expiry_leaves_nothing() {
    let group = ControlGroup::of_threads(1);
    let mut world = World::without_daemon("");
    let before = links(&world);
    world.daemon.spawn_by(&group.wrapper(), &[]);
    assert!(!world.daemon.is_ready_or_ended());
    assert_eq!(world.daemon.wait().code(), Some(1), "{}", world.daemon.log());
    assert!(world.daemon.log().contains("no thread"), "{}", world.daemon.log());
    assert!(!world.daemon.bpffs().exists());
    assert!(!world.daemon.socket().exists());
    assert_eq!(links(&world), before);
    world.daemon.start();
    Web::new(&world).check(&world);
}

#[test]
fn a_daemon_whose_log_nobody_reads_any_more_goes_on() {
    let mut world = World::without_daemon("");
    let until_ready = "exec \"$@\" 2> >(sed -u /ready/q)";
    world.daemon.start_by(&["bash", "-c", until_ready, "bash"]);
    let web = Web::new(&world);
    for _ in 0..5 {
        world.netd("network create back").ok();
        world.netd("network rm back").ok();
    }
    web.check_new_flows(&world);
    world.daemon.signal(Signal::SIGTERM);
    assert!(world.daemon.wait().success());
}

/// The devices of the host, and what is on them.
fn links(world: &World) -> String {
    world.host.run("ip -details -oneline link").ok()
}

/// A control group whose processes have little of something.
struct ControlGroup {
    path: PathBuf,
}

impl ControlGroup {
    /// With little memory, the kernel's on their behalf included.
    fn of_memory(bytes: u64) -> Self {
        Self::new("memory", ["memory.limit_in_bytes", "memory.max"], bytes)
    }

    /// With few threads and processes.
    fn of_threads(threads: u64) -> Self {
        Self::new("pids", ["pids.max"; 2], threads)
    }

    /// Of a controller, whose limit has a name in the first version of control groups and one in the second.
    fn new(controller: &str, limits: [&str; 2], limit: u64) -> Self {
        let second = Path::new("/sys/fs/cgroup");
        let first = second.join(controller);
        let name = format!("netd-test-{controller}-{}", process::id());
        let (path, file) = if first.join("cgroup.procs").exists() {
            (first.join(name), limits[0])
        } else {
            fs::write(second.join("cgroup.subtree_control"), format!("+{controller}")).unwrap();
            (second.join(name), limits[1])
        };
        fs::create_dir(&path).unwrap();
        let this = Self { path };
        fs::write(this.path.join(file), limit.to_string()).unwrap();
        this
    }

    /// What starts a program inside.
    fn wrapper(&self) -> [String; 4] {
        let enter = format!("echo $$ > {}/cgroup.procs && exec \"$@\"", self.path.display());
        ["sh".to_owned(), "-c".to_owned(), enter, "sh".to_owned()]
    }
}

impl Drop for ControlGroup {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.path);
    }
}

/// More than a socket's buffer takes of the kernel's notifications.
const CHANGES: usize = 10_000;

#[test]
fn what_changes_while_the_kernel_cannot_tell_is_found() {
    let mut world = World::new();
    let web = Web::new(&world);
    let bridge = world.netd("network inspect front --json").json()[0]["bridge"].take();
    let bridge = bridge.as_str().unwrap();
    world.host.ip(&["link add noise up type bridge"]);
    world.daemon.signal(Signal::SIGSTOP);
    let noise: Vec<String> = (0..CHANGES).map(|n| format!("link set noise alias n{n}")).collect();
    world.host.ip(&noise.iter().map(String::as_str).collect::<Vec<_>>());
    let lost = notifications_lost(&world);
    world.host.ip(&[&format!("link del {bridge}")]);
    assert!(notifications_lost(&world) > lost, "the kernel could tell of the bridge");
    world.daemon.signal(Signal::SIGCONT);
    eventually("the container is reached again", || {
        Family::BOTH.iter().all(|family| {
            netd_tests::clients::try_fetch(&world.client, at(family.host(), 8080)).is_ok()
        })
    });
    web.check_new_flows(&world);
}

/// How many notifications the sockets of the host's namespace have missed.
fn notifications_lost(world: &World) -> u64 {
    let sockets = world.host.run("cat /proc/net/netlink").ok();
    let drops = sockets.lines().skip(1).filter_map(|line| line.split_whitespace().nth(8));
    drops.filter_map(|drops| drops.parse::<u64>().ok()).sum()
}

/// The timeout of an established connection that is idle. Units: seconds.
const ESTABLISHED_SECS: i64 = 432_000;

/// How much less it may be by the time that it is listed.
const LISTED_WITHIN_SECS: i64 = 600;

#[test]
fn flows_live_as_long_whatever_the_daemons_clock_says() {
    let mut world = World::new();
    let mut web = Web::new(&world);
    for offset_secs in [1_000_000, -1_000] {
        world.daemon.kill();
        let offset = offset_secs.to_string();
        let unshare = ["unshare", "--time", "--fork", "--kill-child", "--monotonic", &offset];
        world.daemon.start_by(&unshare);
        for family in Family::BOTH {
            let mut connection = Connection::open(&world.client, at(family.host(), 8080));
            connection.fetch();
            let flows = world.netd("conntrack ls -p tcp --state ESTABLISHED --json").json();
            let flows = flows.as_array().unwrap();
            assert!(!flows.is_empty());
            for flow in flows {
                let timeout_secs = flow["timeout_secs"].as_i64().unwrap();
                let expected = ESTABLISHED_SECS - LISTED_WITHIN_SECS..=ESTABLISHED_SECS;
                assert!(expected.contains(&timeout_secs), "{offset} seconds off: {flow}");
            }
            fetch(&world.client, at(family.host(), 8080));
        }
        web.check(&world);
    }
}
