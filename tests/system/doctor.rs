//! `netd doctor` names what is wrong with a host; the fix that it names, typed in, makes it right; and it changes
//! nothing itself.

mod others;

use std::{
    collections::BTreeMap,
    fs,
    net::{TcpListener, UdpSocket},
    os::unix::net::UnixListener,
    path::Path,
};

use aya::{
    EbpfLoader,
    programs::{LinkOrder, SchedClassifier, TcAttachType, Xdp, XdpMode, tc},
};
use netd_tests::{
    condition::{eventually, eventually_some},
    family::Family,
    process::{Outcome, run_in},
    prog::object_path,
    topology::{UPLINK, World},
};
use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sys::signal::Signal,
};
use serde_json::Value;

/// Runs the doctor for the world's daemon, whether it runs or not.
fn doctor(world: &World, options: &str) -> Outcome {
    world.netd(&format!("doctor {} {options}", world.daemon.remains()))
}

/// What a check says that is not `ok`: its status, its message and its fix.
fn found(world: &World, check: &str) -> Vec<[String; 3]> {
    let outcome = doctor(world, "--json");
    let findings: Vec<Value> = serde_json::from_str(&outcome.stdout).unwrap();
    let is_fatal = findings.iter().any(|finding| finding["status"] == "fatal");
    assert_eq!(outcome.status, Some(i32::from(is_fatal)), "{outcome}");
    let of_check = |finding: &&Value| finding["check"] == check && finding["status"] != "ok";
    let texts = |finding: &Value| {
        ["status", "message", "fix"].map(|key| finding[key].as_str().unwrap_or("").to_owned())
    };
    findings.iter().filter(of_check).map(texts).collect()
}

/// Types a fix into a shell on the host.
#[track_caller]
fn type_in(world: &World, fix: &str) {
    run_in(world.host.path(), "sh", &["-c", fix], "").ok();
}

/// The check finds these things and no others, each of this status and with these words; their fixes, typed in, take
/// them away.
#[track_caller]
fn check_mended(world: &World, check: &str, status: &str, rows: &[&[&str]]) {
    let all = found(world, check);
    assert_eq!(all.len(), rows.len(), "{all:#?}");
    for words in rows {
        let is_it = |[is, message, _]: &&[String; 3]| {
            is == status && words.iter().all(|word| message.contains(word))
        };
        assert!(all.iter().any(|finding| is_it(&finding)), "no {status} with {words:?}: {all:#?}");
    }
    all.iter().for_each(|[_, _, fix]| type_in(world, fix));
    assert_eq!(found(world, check), NOTHING);
}

const NOTHING: [[String; 3]; 0] = [];

#[test]
fn a_host_is_well_with_and_without_a_daemon() {
    let mut world = World::without_daemon("");
    let expect = |world: &World, words: &[&str]| {
        let shown = doctor(world, "").ok();
        assert!(shown.lines().all(|line| !line.starts_with("fatal")), "{shown}");
        assert!(words.iter().all(|word| shown.contains(word)), "{shown}");
        assert!(shown.ends_with(" 0 fatal\n"), "{shown}");
        assert_eq!(doctor(world, "--quiet").ok(), "", "{shown}");
    };
    expect(&world, &["does not run", "no state yet", "everything netd needs", UPLINK]);
    world.daemon.start();
    world.network("front", 1, "");
    let _web = world.container("web", "front", "-p 8080:80");
    let held = "networks: 1, published ports: 1";
    expect(&world, &["runs, and answers at", held]);
    world.daemon.signal(Signal::SIGSTOP);
    let shown = doctor(&world, "--quiet");
    assert!(shown.stdout.contains("does not answer"), "{shown}");
    // Killed, it leaves a store that the next one is to mend, and pins.
    world.daemon.kill();
    expect(&world, &["does not run", held]);
    world.daemon.start();
    expect(&world, &["runs, and answers at", held]);
}

#[test]
fn findings_have_stable_fields_and_words_have_colours_if_asked() {
    let world = World::without_daemon("");
    let findings = doctor(&world, "--json").json();
    let findings = findings.as_array().unwrap();
    for finding in findings {
        let keys: Vec<&String> = finding.as_object().unwrap().keys().collect();
        assert_eq!(keys.len(), 4, "{keys:?}");
        assert_eq!(finding["status"], "ok");
        assert!(finding["check"].is_string() && finding["message"].is_string());
        assert!(finding["fix"].is_null(), "{finding}");
    }
    assert!(findings.len() > 20, "{findings:?}");
    assert_eq!(doctor(&world, "--json --quiet").json(), Value::Array(Vec::new()));
    assert!(!doctor(&world, "").ok().contains('\x1b'));
    assert!(doctor(&world, "--color always").ok().contains("\x1b[32mok"));
}

/// Everything on the host that a doctor could have changed.
fn state(world: &World) -> String {
    let mut text = String::new();
    // As it stands among the mounts.
    let own = format!("{} ", world.daemon.bpffs().display());
    for line in [
        "ip -oneline link",
        "ip -oneline address",
        "ip route show table all",
        "ip -6 route show table all",
        "tc qdisc",
        "nft list ruleset",
        "iptables-legacy-save",
        "sysctl net.ipv4.conf net.ipv4.ip_forward net.ipv6.conf net.bridge",
        "cat /proc/self/mounts",
    ] {
        let lines = world.host.run(line).ok();
        // Counted down meanwhile, the time, or another test's.
        let is_steady = |line: &&str| {
            let words = ["expires", "#", "/run/netns", "/tmp", "/netd-test-"];
            line.contains(&own) || !words.iter().any(|word| line.contains(word))
        };
        text.extend(lines.lines().filter(is_steady).flat_map(|line| [line, "\n"]));
    }
    for dir in [world.daemon.state_dir(), world.daemon.bpffs().to_owned()] {
        text += &files(&dir).into_iter().map(|row| format!("{row:?}\n")).collect::<String>();
    }
    text
}

/// The files below a directory with what is in them; pins cannot be read.
fn files(dir: &Path) -> BTreeMap<String, Option<Vec<u8>>> {
    let mut rows = BTreeMap::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        rows.insert(path.display().to_string(), fs::read(&path).ok());
        rows.extend(files(&path));
    }
    rows
}

#[test]
fn the_doctor_changes_nothing() {
    let mut world = World::without_daemon("");
    for path in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
        world.host.set_sysctl(path, "0");
    }
    let unchanged = |world: &World| {
        eventually("no address is tentative", || {
            world.host.run("ip -6 address show tentative").ok().is_empty()
        });
        // iptables-legacy-save makes its tables when it is first run.
        let _ = state(world);
        let before = state(world);
        doctor(world, "").ok();
        let after = state(world);
        let is_new = |line: &&str| !before.lines().any(|old| old == *line);
        assert_eq!(after.lines().filter(is_new).collect::<Vec<_>>(), Vec::<&str>::new());
        assert_eq!(after.lines().count(), before.lines().count(), "something is gone");
    };
    unchanged(&world);
    assert!(!world.daemon.state_dir().exists() && !world.daemon.bpffs().exists());
    world.daemon.start();
    world.network("front", 1, "");
    let _web = world.container("web", "front", "-p 8080:80");
    world.daemon.kill();
    unchanged(&world);
}

const IPTABLES: [&str; 4] =
    ["iptables-nft", "ip6tables-nft", "iptables-legacy", "ip6tables-legacy"];

#[test]
fn a_private_mount_namespace_is_named() {
    let mut world = World::without_daemon("");
    let (host, places) = (world.host.name(), world.daemon.places());
    let netd = netd_tests::daemon::binary();
    let netd = netd.display();
    let line = format!("ip netns exec {host} {netd} doctor --quiet {places}");
    let private = run_in(world.client.path(), "sh", &["-c", &line], "").ok();
    assert!(private.starts_with("finding  bpffs"), "{private}");
    assert!(private.contains("pins would die"), "{private}");
    let fix = format!("nsenter --net=/run/netns/{host} netd run ");
    assert!(private.contains(&fix), "{private}");
    let line = fix.replace("netd run", &format!("{netd} doctor --quiet {places}"));
    assert_eq!(run_in(world.client.path(), "sh", &["-c", &line], "").ok(), "");

    const WARNING: &str = "the data path ends with the daemon";
    let name = world.host.name().to_owned();
    for (wrapper, is_private) in [(&["ip", "netns", "exec", &name][..], true), (&["env"], false)] {
        world.daemon.start_by(wrapper);
        assert_eq!(world.daemon.log().contains(WARNING), is_private, "{wrapper:?}");
        // Asked from outside, where pins would stay, and from inside.
        for line in [format!("nsenter --net=/run/netns/{name}"), format!("ip netns exec {name}")] {
            let line = format!("{line} {netd} doctor --quiet {places}");
            let found = run_in(world.client.path(), "sh", &["-c", &line], "").ok();
            assert_eq!(found.contains("of the daemon that runs: pins would die"), is_private);
            assert_eq!(found.contains("finding  bpffs"), is_private, "{found}");
        }
        world.daemon.end();
        world.daemon.forget_log();
    }
}

/// What is said of ports once it names this process: another test that just starts a program has the sockets for a
/// moment too.
fn naming_this_process(world: &World) -> Vec<[String; 3]> {
    let own = format!("(pid {})", std::process::id());
    eventually_some("this process is named", || {
        let all = found(world, "ports");
        all.iter().any(|[_, message, _]| message.contains(&own)).then_some(all)
    })
}

#[test]
fn a_process_on_a_published_port_is_named_and_can_be_made_way_for() {
    let mut world = World::new();
    world.network("front", 1, "");
    let _web = world.container("web", "front", "-p 8080:80 -p 192.0.2.1:9000-9009:9000-9009/udp");
    // Nobody takes a published port; but somebody may have it before netd.
    let before_netd = |world: &mut World| {
        world.netd("stop --detach").ok();
        world.daemon.wait();
    };
    for port in ["[::]:8080", "127.0.0.1:8080"] {
        before_netd(&mut world);
        let _listener = world.host.inside(|| TcpListener::bind(port).unwrap());
        world.daemon.start();
        let words = ["tcp port 8080", "published for web", "system", port];
        let all = naming_this_process(&world);
        assert_eq!(all.len(), 1, "{all:?}");
        assert!(words.iter().all(|word| all[0][1].contains(word)), "{all:?}");
    }
    assert_eq!(found(&world, "ports"), NOTHING, "nobody listens any more");
    before_netd(&mut world);
    let _socket = world.host.inside(|| UdpSocket::bind("192.0.2.1:9005").unwrap());
    world.daemon.start();
    let all = naming_this_process(&world);
    let [[_, message, fix]] = all.as_slice() else { panic!("not one finding: {all:?}") };
    assert!(message.contains("udp port 9005"), "{message}");
    world.daemon.kill();
    assert_eq!(naming_this_process(&world), all, "the store says what the daemon said");
    world.daemon.start();
    let line = fix.strip_prefix("netd ").and_then(|fix| fix.split("   #").next()).unwrap();
    world.netd(line).ok();
    assert_eq!(found(&world, "ports"), NOTHING);
}

#[test]
fn a_network_that_is_wider_than_the_way_out_is_named() {
    let world = World::new();
    world.network("front", 1, "");
    world.network("clamped", 2, "-o mss_clamp=auto");
    world.host.ip(&[&format!("link set {UPLINK} mtu 1400")]);
    let all = found(&world, "mtu");
    let [[status, message, fix]] = all.as_slice() else { panic!("not one finding: {all:?}") };
    assert_eq!(status, "finding");
    assert!(message.contains("network front has MTU 1500"), "{message}");
    let commands = fix.split("   #").next().unwrap();
    for line in commands.split(" && ") {
        world.netd(line.strip_prefix("netd ").unwrap()).ok();
    }
    assert_eq!(found(&world, "mtu"), NOTHING);
}

#[test]
fn a_subnet_that_the_host_reaches_elsewhere_is_named_in_both_families() {
    let world = World::new();
    world.network("front", 1, "");
    assert_eq!(found(&world, "subnets"), NOTHING);
    for family in Family::BOTH {
        let (net, via) = (family.pick("10.77.0.0/16", "fd77::/16"), family.client());
        world.host.ip(&[&format!("route add {net} via {via}")]);
        let all = found(&world, "subnets");
        assert_eq!(all.len(), 1, "{all:?}");
        assert!(all[0][1].contains(net) && all[0][1].contains(UPLINK), "{all:?}");
        world.host.ip(&[&format!("route del {net} via {via}")]);
    }
}

#[test]
fn strict_filters_are_named_where_there_are_two_ways_out() {
    let world = World::without_daemon("");
    world.host.set_sysctl(&format!("ipv4/conf/{UPLINK}/rp_filter"), "1");
    world.host.set_sysctl("ipv4/conf/all/rp_filter", "0");
    assert_eq!(found(&world, "rp_filter"), NOTHING);
    world.add_link("up1", "eth1");
    world.host.set_sysctl("ipv4/conf/up1/rp_filter", "0");
    check_mended(&world, "rp_filter", "finding", &[&[UPLINK, "strict"]]);
}

#[test]
fn devices_that_do_not_forward_are_named() {
    let world = World::new();
    world.network("front", 1, "");
    let bridge = world.netd("network inspect front --json").json()[0]["bridge"].take();
    let bridge = bridge.as_str().unwrap();
    assert_eq!(found(&world, "sysctls"), NOTHING);
    for device in [UPLINK, bridge] {
        world.host.set_sysctl(&format!("ipv4/conf/{device}/forwarding"), "0");
        check_mended(&world, "sysctls", "finding", &[&[device, "does not forward"]]);
    }
}

#[test]
fn a_daemon_that_is_in_the_way_is_named() {
    let mut world = World::new();
    let elsewhere = World::without_daemon("");
    // Its socket is another one, its state and its pins are ours.
    let all = doctor(&world, "--socket /nonexistent/sock --json");
    assert_eq!(all.status, Some(1), "{all}");
    assert!(all.stdout.contains("another netd runs in this network namespace"), "{all}");
    assert!(all.stderr.starts_with("error: netd cannot run on this host"), "{all}");
    // From another network namespace: its socket, and then its pins.
    let netd = |line: &str| {
        let args: Vec<&str> = line.split_whitespace().collect();
        let program = netd_tests::daemon::binary();
        run_in(elsewhere.host.path(), &program.to_string_lossy(), &args, "")
    };
    let socket = netd(&format!("doctor --quiet {}", world.daemon.places()));
    assert_eq!(socket.status, Some(1), "{socket}");
    assert!(socket.stdout.contains("of another network namespace answers at"), "{socket}");
    let own = elsewhere.daemon.socket();
    let remains = format!("doctor --quiet {} --socket {}", world.daemon.remains(), own.display());
    let pins = netd(&remains);
    assert!(pins.stdout.contains("a netd of another network namespace has its pins in"), "{pins}");
    assert!(pins.stdout.contains("another netd uses the state directory"), "{pins}");
    world.daemon.kill();
    let pins = netd(&remains);
    assert!(pins.stdout.contains("the pins of a netd in another network namespace"), "{pins}");
}

#[test]
fn what_keeps_netd_from_starting_is_fatal() {
    let mut world = World::without_daemon("");
    let state = world.daemon.state_dir();
    fs::create_dir_all(&state).unwrap();
    let file = state.join("netd.redb");
    fs::write(&file, "not a database").unwrap();
    let all = found(&world, "state");
    assert_eq!(all[0][0], "fatal");
    assert!(all[0][1].contains(&file.display().to_string()), "{all:?}");
    assert!(all[0][2].contains("restore it from a backup"), "{all:?}");
    assert_eq!(fs::read(&file).unwrap(), b"not a database");
    fs::remove_file(&file).unwrap();

    let disk = ReadOnly::mount(&state);
    let all = found(&world, "state");
    assert!(all[0][1].contains("cannot be written: Read-only file system"), "{all:?}");
    drop(disk);
    assert_eq!(found(&world, "state"), NOTHING);

    world.daemon.configure("[nonsense]\n");
    let config = format!("--config {} --json", world.daemon.config().display());
    let outcome = doctor(&world, &config);
    assert_eq!(outcome.status, Some(1), "{outcome}");
    assert!(outcome.stdout.contains("netd.toml, line"), "{outcome}");

    fs::write(world.daemon.socket(), "").unwrap();
    check_mended(&world, "daemon", "fatal", &[&["exists and is no socket"]]);
    // A socket that a daemon left which was killed is in nobody's way.
    drop(UnixListener::bind(world.daemon.socket()).unwrap());
    assert_eq!(found(&world, "daemon"), NOTHING);
    world.daemon.configure("");
    world.daemon.start();
}

/// A file system that nothing can be written to.
struct ReadOnly<'a>(&'a Path);

impl<'a> ReadOnly<'a> {
    fn mount(path: &'a Path) -> Self {
        mount(Some("tmpfs"), path, Some("tmpfs"), MsFlags::MS_RDONLY, None::<&str>).unwrap();
        Self(path)
    }
}

impl Drop for ReadOnly<'_> {
    fn drop(&mut self) {
        let _ = umount2(self.0, MntFlags::MNT_DETACH);
    }
}

#[test]
fn settings_that_cannot_be_written_stop_netd() {
    let world = World::without_daemon("");
    world.host.set_sysctl("ipv4/ip_forward", "0");
    let netd = netd_tests::daemon::binary();
    let (netd, places) = (netd.display(), world.daemon.places());
    let inside = |remount: &str| {
        // In a mount namespace of its own, as a container without privileges has it.
        let line = format!(
            "mount --bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys && {remount} {netd} doctor \
             --json {places}"
        );
        run_in(world.host.path(), "unshare", &["--mount", "sh", "-c", &line], "")
    };
    let outcome = inside("");
    assert_eq!(outcome.status, Some(1), "{outcome}");
    assert!(outcome.stdout.contains("/proc/sys/net/ipv4/ip_forward to 1"), "{outcome}");
    let findings: Vec<Value> = serde_json::from_str(&outcome.stdout).unwrap();
    let fatal = findings.iter().find(|finding| finding["check"] == "sysctls").unwrap();
    let mended =
        inside(&format!("{} && ", fatal["fix"].as_str().unwrap().split("   #").next().unwrap()));
    assert_eq!(mended.status, Some(0), "{mended}");
    assert_eq!(world.host.sysctl("ipv4/ip_forward"), "0");
}
