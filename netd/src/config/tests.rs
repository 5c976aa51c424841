use std::{num::NonZeroU32, path::Path};

use netd_common::config::Timeout;

use super::{Config, ConfigError, DatapathMode, NatMode, RunOptions, Timeouts, XdpMode};

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(text, Path::new("netd.toml"))
}

#[track_caller]
fn check_refused(text: &str, expected: &str) {
    let error = parse(text).expect_err(text).to_string();
    assert!(error.contains(expected), "{error}");
    assert!(!error.contains('\n'), "{error}");
}

#[test]
fn an_empty_file_means_the_defaults() {
    let config = parse("").unwrap();
    assert_eq!(config, Config::default());
    assert_eq!(config.daemon.socket, Path::new("/run/netd/netd.sock"));
    assert_eq!(config.daemon.state_dir, Path::new("/var/lib/netd"));
    assert_eq!(config.daemon.bpffs, Path::new("/sys/fs/bpf/netd"));
    assert_eq!(config.datapath.max_flows.get(), 262_144);
    assert!(!config.datapath.flow_accounting);
    assert!(config.datapath.tcp_loose);
    assert_eq!(config.datapath.max_flows_per_endpoint, None);
    assert_eq!(config.datapath.xdp, XdpMode::Auto);
    assert_eq!(config.datapath.nat, NatMode::Edm);
    assert_eq!(config.timeouts.secs(Timeout::TcpEstablished), 432_000);
}

#[test]
fn every_section_is_read() {
    let config = parse(
        r#"
        [daemon]
        socket = "/tmp/netd.sock"
        state_dir = "/tmp/state"
        bpffs = "/sys/fs/bpf/other"
        [uplinks]
        names = ["eth0", "wlan0"]
        [datapath]
        mode = "stack"
        xdp = "drop"
        flow_accounting = true
        max_flows = 1000
        max_flows_per_endpoint = 100
        max_flows_per_network = 500
        tcp_loose = false
        nat = "eim"
        [timeouts]
        profile = "linux"
        udp = 10
        [pools]
        default_address_pools = [{ base = "10.10.0.0/16", size = 24 }]
        "#,
    );
    let config = config.unwrap();
    assert_eq!(config.daemon.state_dir, Path::new("/tmp/state"));
    assert_eq!(config.uplinks.names, ["eth0", "wlan0"]);
    assert_eq!(config.datapath.mode, DatapathMode::Stack);
    assert_eq!(config.datapath.xdp, XdpMode::Drop);
    assert!(config.datapath.flow_accounting);
    assert!(!config.datapath.tcp_loose);
    assert_eq!(config.datapath.max_flows_per_endpoint.map(NonZeroU32::get), Some(100));
    assert_eq!(config.datapath.max_flows_per_network.map(NonZeroU32::get), Some(500));
    assert_eq!(config.timeouts.secs(Timeout::Udp), 10);
    assert_eq!(config.timeouts.secs(Timeout::UdpStream), 120);
    assert_eq!(config.pools.default_address_pools.len(), 1);
}

#[test]
fn every_timeout_has_its_key() {
    for (timeout, name, secs) in Timeout::ALL {
        assert_eq!(Timeouts::default().secs(timeout), secs[0]);
        let config = parse(&format!("[timeouts]\n{name} = 7")).unwrap();
        assert_eq!(config.timeouts.secs(timeout), 7, "{name}");
    }
}

#[test]
fn a_profile_is_where_timeouts_begin() {
    for (index, profile) in ["linux", "rfc", "lean"].into_iter().enumerate() {
        // Wherever in the section it stands.
        let config = parse(&format!("[timeouts]\nudp = 7\nprofile = \"{profile}\"")).unwrap();
        for (timeout, name, secs) in Timeout::ALL {
            let expected = if timeout == Timeout::Udp { 7 } else { secs[index] };
            assert_eq!(config.timeouts.secs(timeout), expected, "{profile}: {name}");
        }
    }
}

#[test]
fn dockers_spelling_of_the_pools_is_taken() {
    let text = "[[pools.default-address-pools]]\nbase = \"10.0.0.0/8\"\nsize = 24";
    assert_eq!(parse(text).unwrap().pools.default_address_pools.len(), 1);
}

#[test]
fn an_error_names_its_line() {
    check_refused("[daemon]\n\ncolour = \"red\"", "netd.toml, line 3: unknown field `colour`");
    check_refused("\n[nat]", "line 2: unknown field `nat`");
    check_refused("[timeouts]\nudp = 0", "line 2");
    check_refused("[timeouts]\nudp = -1", "line 2");
    check_refused("[timeouts]\nudp = 1\ntcp_open = 1", "line 3: unknown field `tcp_open`");
    check_refused("[datapath]\nmax_flows_per_endpoint = 0", "line 2");
    check_refused("[timeouts]\nprofile = \"fast\"", "line 2: unknown variant `fast`");
    check_refused("[datapath]\nxdp = \"forward\"", "line 2: unknown variant `forward`");
    check_refused("[datapath]\nmode = \"warp\"", "line 2: unknown variant `warp`");
    check_refused("[datapath]\nmax_flows = 0", "line 2");
    check_refused("[datapath]\nmax_flows = 16777217", "at most 16777216 flows");
    check_refused("[daemon\n", "line 1");
    check_refused("[uplinks]\nnames = \"eth0\"", "line 2");
    check_refused(
        "[pools]\ndefault_address_pools = [\n { base = \"10.0.0.0/16\", size = 8 },\n]",
        "line 2: pool 10.0.0.0/16 cannot be cut into subnets of /8",
    );
}

#[test]
fn a_named_file_must_exist() {
    let missing = Path::new("/nonexistent/netd.toml");
    assert!(matches!(Config::load(Some(missing)), Err(ConfigError::Read { .. })));
}

#[test]
fn the_command_line_wins_over_the_file() {
    let path = std::env::temp_dir().join(format!("netd-config-{}.toml", std::process::id()));
    std::fs::write(&path, "[daemon]\nsocket = \"/a\"\nbpffs = \"/b\"\n[uplinks]\nnames = [\"c\"]")
        .unwrap();
    let options = RunOptions {
        config: Some(path.clone()),
        xdp: Some(XdpMode::Off),
        socket: Some("/x".into()),
        uplinks: vec!["z".to_owned()],
        ..RunOptions::default()
    };
    let config = options.resolve();
    std::fs::remove_file(path).unwrap();
    let config = config.unwrap();
    assert_eq!(config.daemon.socket, Path::new("/x"));
    assert_eq!(config.daemon.bpffs, Path::new("/b"));
    assert_eq!(config.uplinks.names, ["z"]);
    assert_eq!(config.datapath.xdp, XdpMode::Off);
}

#[test]
fn pins_and_state_are_apart() {
    #[track_caller]
    fn check(bpffs: &str, state_dir: &str, is_fine: bool) {
        let options = RunOptions {
            config: Some("/dev/null".into()),
            bpffs: Some(bpffs.into()),
            state_dir: Some(state_dir.into()),
            ..RunOptions::default()
        };
        assert_eq!(options.resolve().is_ok(), is_fine, "{bpffs} and {state_dir}");
    }
    check("/nowhere/a", "/nowhere/b", true);
    check("/nowhere/a", "/nowhere/ab", true);
    check("/nowhere/a", "/nowhere/a", false);
    check("/nowhere/a/", "/nowhere/a/b", false);
    check("/nowhere/a/b", "/nowhere/./a", false);
    check("/nowhere/b/../a/c", "/nowhere/a", false);
    // A link that every Linux has.
    check("/proc/self", &format!("/proc/{}/fd", std::process::id()), false);
    let link = std::env::temp_dir().join(format!("netd-nested-{}", std::process::id()));
    std::os::unix::fs::symlink("/nowhere/a", &link).unwrap();
    check("/nowhere", &link.join("b/c").display().to_string(), false);
    check("/nowhere/a/b", &link.join("../b").display().to_string(), true);
    std::fs::remove_file(link).unwrap();
}

#[test]
fn the_packaged_example_changes_nothing_and_each_of_its_lines_can_be_used() {
    let example = include_str!("../../packaging/netd.toml");
    assert_eq!(parse(example).unwrap(), Config::default());
    let used: String = example.lines().map(|line| used_line(line).to_owned() + "\n").collect();
    assert_ne!(parse(&used).unwrap(), Config::default());
}

/// A setting that is commented out, without its `#`; comments have a space behind it.
fn used_line(line: &str) -> &str {
    line.strip_prefix('#').filter(|line| !line.starts_with(' ')).unwrap_or(line)
}
