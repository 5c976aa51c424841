//! `netd.toml`: what is refused, and what is read again.

use std::fs;

use netd_tests::{clients::pings, condition::eventually, family::Family, topology::World};
use nix::sys::signal::Signal;

#[test]
fn an_unknown_key_is_refused_with_its_line() {
    let world = World::without_daemon("");
    for (text, line, word) in [
        ("[timeouts]\ntcp_etsablished = 5\n", 2, "tcp_etsablished"),
        ("\n\n[timeout]\ntcp_established = 5\n", 3, "timeout"),
        ("[daemon]\nsocket = 7\n", 2, "7"),
        ("[timeouts]\nudp = 0\n", 2, "0"),
        ("[datapath]\nmode = \"warp\"\n", 2, "warp"),
        ("[timeouts\n", 1, "1"),
    ] {
        fs::write(world.daemon.config(), text).unwrap();
        let config = world.daemon.config();
        let run = format!("run --config {} {}", config.display(), world.daemon.remains());
        let error = world.refused(&run);
        assert!(error.contains(&format!("line {line}")), "{text}: {error}");
        assert!(error.contains(word) && error.contains("netd.toml"), "{text}: {error}");
    }
    assert!(!world.daemon.bpffs().exists());
}

#[test]
fn timeouts_are_read_again_on_sighup() {
    let mut world = World::new();
    world.network("front", 1, "");
    let app = world.container("app", "front", "");
    // The timers of a fresh flow of each family.
    let timeout_secs = |world: &World| {
        Family::BOTH.map(|family| {
            assert!(pings(&app.namespace, family.remote()));
            let proto = family.pick("icmp", "icmpv6");
            let flows = world.netd(&format!("conntrack ls -p {proto} --json")).json();
            flows
                .as_array()
                .unwrap()
                .iter()
                .map(|flow| flow["timeout_secs"].as_u64().unwrap())
                .max()
        })
    };
    assert!(timeout_secs(&world).iter().all(|secs| *secs > Some(20)));

    world.daemon.configure("[timeouts]\nicmp = 7\nicmpv6 = 7\n");
    world.daemon.signal(Signal::SIGHUP);
    let is_short = |world: &World| timeout_secs(world).iter().all(|secs| *secs <= Some(7));
    eventually("the timeout is the new one", || is_short(&world));

    // A configuration with an error changes nothing, and is said.
    world.daemon.configure("[timeouts]\nicmp = 90\nicpm = 5\n");
    world.daemon.signal(Signal::SIGHUP);
    eventually("the error is logged with its line", || {
        let log = world.daemon.log();
        log.lines().any(|line| line.contains("WARN") && line.contains("icpm"))
    });
    assert!(is_short(&world));
}

#[test]
fn the_files_places_hold_where_the_command_line_names_none() {
    let world = World::without_daemon("");
    let dir = world.daemon.state_dir().with_file_name("elsewhere");
    let bpffs = world.daemon.bpffs().display().to_string();
    let text = format!(
        "[daemon]\nstate_dir = \"{0}/state\"\nsocket = \"{0}/sock\"\nbpffs = \"{bpffs}\"\n",
        dir.display()
    );
    world.daemon.configure(&text);
    let config = world.daemon.config();
    let log = config.with_file_name("elsewhere.log");
    let args = ["run", "--config", &config.to_string_lossy()];
    let binary = netd_tests::daemon::binary();
    let mut running = netd_tests::process::Running::start(
        world.host.path(),
        &log,
        &binary.to_string_lossy(),
        &args,
    );
    eventually("it is ready", || {
        assert_eq!(running.status(), None);
        running.log().contains("ready")
    });
    assert!(dir.join("sock").exists() && dir.join("state").exists());
}
