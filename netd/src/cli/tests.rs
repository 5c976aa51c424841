use std::{
    io::{BufRead as _, BufReader, Write as _},
    os::unix::net::UnixListener,
    path::PathBuf,
    process::ExitCode,
    sync::atomic::{AtomicU32, Ordering},
    thread,
};

use clap::{CommandFactory as _, Parser as _, error::ErrorKind};

use super::{Cli, CliError, Command, Stopped, ask, man_pages, print_completions, state, stop};
use crate::api::{
    ConntrackInfo, EndpointInfo, Envelope, Item, NetworkInfo, PortInfo, Reply, Request, StatsAnswer,
};

#[test]
fn the_command_line_is_sound() {
    Cli::command().debug_assert();
}

#[track_caller]
fn check_usage(line: &str, expected: Option<ErrorKind>) {
    let parsed = Cli::try_parse_from(line.split_whitespace());
    assert_eq!(parsed.as_ref().err().map(clap::Error::kind), expected, "{line}");
    if let Err(error) = parsed.map_err(|error| error.exit_code()) {
        assert_eq!(error, 2, "{line}");
    }
}

#[test]
fn every_command_is_understood() {
    for line in [
        "netd run",
        "netd run --config a --state-dir b --bpffs c --socket d --datapath stack --uplink e --uplink f",
        "netd run --xdp drop",
        "netd --socket d run",
        "netd stop --detach --state-dir a --bpffs b --config c",
        "netd network create a",
        "netd network create a --subnet 10.1.0.0/16 --subnet 2001:db8::/64 --gateway 10.1.0.1 \
            --ip-range 10.1.5.0/24 --aux-address r=10.1.0.9 --ipv6 --driver bridge --internal --icc false \
            --masquerade=true --snat-address 192.0.2.1 --mtu 1400 --bridge br0 -o mtu=1400 -o a=b \
            --label x=y --label z=",
        "netd network ls --json",
        "netd --json network ls -q",
        "netd network inspect a b",
        "netd network rm a b",
        "netd network prune",
        "netd network connect a web --name w --alias x --alias y --ip 10.1.0.2 --ip6 2001:db8::2 \
            --mac 02:00:00:00:00:01 --ifname eth7 --gw-priority -3 -p 80:80 -p 53:53/udp",
        "netd network connect a pid:7 -p [::1]:8080:80 -p %eth0:81:80",
        "netd network disconnect a web --force",
        "netd network allow a b",
        "netd network disallow a b",
        "netd endpoint ls",
        "netd endpoint inspect a",
        "netd port add web 80 81:81/udp published=82,target=82",
        "netd port rm web 80:80 --kill",
        "netd port ls",
        "netd port ls web --color never -vv",
        "netd conntrack ls -p tcp -s 10.0.0.1 -d 10.0.0.0/8 --sport 1 --dport 2 --network a --endpoint b --state ESTABLISHED",
        "netd conntrack flush --state time_wait",
        "netd conntrack ls --orig-src 10.0.0.1 --orig-dst 2001:db8::/32",
        "netd conntrack count",
        "netd conntrack flush --proto udp",
        "netd stats",
        "netd state export",
        "netd state export - --state-dir a --config b",
        "netd state import a",
        "netd doctor",
        "netd doctor --config a --state-dir b --bpffs c --uplink d --json -q",
        "netd completions bash",
        "netd man",
        "netd man pages",
    ] {
        check_usage(line, None);
    }
}

#[test]
fn wrong_usage_is_refused() {
    use ErrorKind::{
        ArgumentConflict, DisplayHelpOnMissingArgumentOrSubcommand, InvalidSubcommand,
        InvalidValue, MissingRequiredArgument, UnknownArgument, ValueValidation,
    };
    for (line, kind) in [
        ("netd", DisplayHelpOnMissingArgumentOrSubcommand),
        ("netd network", DisplayHelpOnMissingArgumentOrSubcommand),
        ("netd fly", InvalidSubcommand),
        ("netd help", InvalidSubcommand),
        ("netd doctor web", UnknownArgument),
        ("netd doctor --takeover", UnknownArgument),
        ("netd run --xdp forward", InvalidValue),
        ("netd run --datapath warp", InvalidValue),
        ("netd stop --bpffs x", MissingRequiredArgument),
        ("netd network create", MissingRequiredArgument),
        ("netd network create a b", UnknownArgument),
        ("netd network create a --subnet 10.1.0.0", ValueValidation),
        ("netd network create a --subnet 10.1.0.0/33", ValueValidation),
        ("netd network create a --gateway x", ValueValidation),
        ("netd network create a --driver macvlan", InvalidValue),
        ("netd network create a --icc maybe", ValueValidation),
        ("netd network create a --mtu -1", UnknownArgument),
        ("netd network create a -o mtu", ValueValidation),
        ("netd network create a --label =x", ValueValidation),
        ("netd network create a --aux-address r", ValueValidation),
        ("netd network create a --aux-address r=x", ValueValidation),
        ("netd network create a --ipv6 --ipv6", ArgumentConflict),
        ("netd network create a --gateway-mode bridged", InvalidValue),
        ("netd network create a --datapath warp", InvalidValue),
        ("netd network connect a", MissingRequiredArgument),
        ("netd network connect a b --ip 2001:db8::1", ValueValidation),
        ("netd network connect a b --mac 02", ValueValidation),
        ("netd network connect a b -p 80/dccp", ValueValidation),
        ("netd network rm", MissingRequiredArgument),
        ("netd network allow a", MissingRequiredArgument),
        ("netd port add web", MissingRequiredArgument),
        ("netd port add web 0", ValueValidation),
        ("netd port ls web db", UnknownArgument),
        ("netd conntrack ls --dport 65536", ValueValidation),
        ("netd conntrack ls -p gre", InvalidValue),
        ("netd conntrack ls --state open", InvalidValue),
        ("netd conntrack flush --state=", InvalidValue),
        ("netd conntrack count -p tcp", UnknownArgument),
        ("netd stats --watch", UnknownArgument),
        ("netd completions tcsh", InvalidValue),
        ("netd state import", MissingRequiredArgument),
        ("netd state import a b", UnknownArgument),
        ("netd stats --color blue", InvalidValue),
    ] {
        check_usage(line, Some(kind));
    }
}

#[test]
fn a_wrong_state_is_answered_with_the_right_ones() {
    let error = Cli::try_parse_from(["netd", "conntrack", "ls", "--state", "open"]).unwrap_err();
    let states = "SYN_SENT, SYN_SENT2, SYN_RECV, ESTABLISHED, UNACKNOWLEDGED, FIN_WAIT, CLOSE_WAIT, \
        LAST_ACK, TIME_WAIT, CLOSE, UNREPLIED, REPLIED, ASSURED, ";
    assert!(error.to_string().contains(states), "{error}");
}

#[test]
fn global_options_mean_the_same_before_and_after() {
    for line in
        ["netd --socket /a --json -q -v network ls", "netd network ls --socket /a --json -q -v"]
    {
        let global = Cli::try_parse_from(line.split_whitespace()).unwrap().global;
        assert_eq!(global.socket(), PathBuf::from("/a"));
        assert_eq!((global.json, global.quiet, global.verbose), (true, true, 1));
    }
}

/// Runs a command line against a daemon that answers every request with the same lines.
fn answered(line: &str, replies: Vec<Reply>) -> (Vec<Request>, Result<String, CliError>) {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let path = std::env::temp_dir().join(format!("netd-cli-{}-{number}.sock", std::process::id()));
    let listener = UnixListener::bind(&path).unwrap();
    let daemon = thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut requests = Vec::new();
        for line in BufReader::new(&stream).lines() {
            let envelope: Envelope = serde_json::from_str(&line.unwrap()).unwrap();
            for reply in &replies {
                // A client that has seen enough hangs up.
                let _ = writeln!(&stream, "{}", serde_json::to_string(reply).unwrap());
            }
            requests.push(envelope.request);
            if matches!(requests.last(), Some(Request::Stop { .. })) {
                break;
            }
        }
        requests
    });
    let line = format!("{line} --socket {}", path.display());
    let Cli { global, command } = Cli::try_parse_from(line.split_whitespace()).unwrap();
    let mut out = Vec::new();
    let result = match command {
        Command::Stop(args) => stop(&args, &global).map(|_| ()),
        Command::Ask(command) => ask(command, &global, &mut out),
        Command::State(command) => state(command, &global, &mut out),
        Command::Run { .. }
        | Command::Doctor(_)
        | Command::Completions { .. }
        | Command::Man { .. } => {
            unreachable!("{line} is no request")
        }
    };
    std::fs::remove_file(path).unwrap();
    (daemon.join().unwrap(), result.map(|()| String::from_utf8(out).unwrap()))
}

#[track_caller]
fn check_output(line: &str, items: &[Item], expected: &str) {
    let items = items.iter().cloned().map(Reply::Item);
    let (_, output) = answered(line, items.chain([Reply::End]).collect());
    assert_eq!(output.unwrap(), expected, "{line}");
}

const NETWORK: &str = r#"{"name":"front","id":"0123456789abcdef","driver":"bridge","scope":"local",
    "created":"2024-01-01T00:00:00Z","bridge":"br-0123456789ab",
    "subnets":[{"subnet":"172.17.0.0/16","gateway":"172.17.0.1","gateway_mode":"nat","ip_range":null,"aux_addresses":{}}],
    "internal":false,"icc":true,"masquerade":true,"snat_addresses":[],"gateway_mode":"nat","mtu":1500,"max_flows":null,"nat":"edm","nptv6":null,"manager":"netd","direct_routing":false,"accept_mark":null,
    "datapath":{"asked":"auto","path":"fast","reason":"nothing speaks against it"},
    "endpoints":["web"],"allowed":[],"options":{},"labels":{}}"#;

const PORT: &str = r#"{"endpoint":"web","proto":"tcp","host_ip":"*","host_port":8080,"host_port_end":8081,
    "port":80,"port_end":81,"packets":1,"bytes":60,"flows":1}"#;

const FLOW: &str = r#"{"proto":"udp","state":"REPLIED","orig":{"src":"10.0.0.1","sport":1,"dst":"10.0.0.2","dport":2},
    "reply":{"src":"10.0.0.2","sport":2,"dst":"10.0.0.1","dport":1},"endpoint":"web","network":"front","timeout_secs":9}"#;

const TABLE: &str = r#"{"count":7,"max_flows":8,"pressure":"high","displaced":1}"#;

fn table() -> Item {
    Item::Table(serde_json::from_str(TABLE).unwrap())
}

fn network() -> Item {
    Item::Network(serde_json::from_str::<NetworkInfo>(NETWORK).unwrap())
}

fn port() -> Item {
    Item::Port(serde_json::from_str::<PortInfo>(PORT).unwrap())
}

fn flow() -> Item {
    Item::Conntrack(serde_json::from_str::<ConntrackInfo>(FLOW).unwrap())
}

fn endpoint() -> Item {
    let json = format!(
        r#"{{"name":"web","id":"0123","network":"front","network_id":"4567","sandbox":"web","ifname":"eth0",
        "host_ifname":"veth1234567","mac":"02:00:00:00:00:01","ipv4":"172.17.0.2/16","ipv6":"fd00::2/64",
        "gateway":"172.17.0.1","gateway6":null,"aliases":[],"gw_priority":0,"max_flows":null,"links":[],"ports":[{PORT}]}}"#
    );
    Item::Endpoint(serde_json::from_str::<EndpointInfo>(&json).unwrap())
}

#[test]
fn answers_read_well() {
    check_output("netd network create front", &[network()], "front\n");
    check_output("netd network ls -q", &[network(), network()], "front\nfront\n");
    check_output(
        "netd network ls",
        &[network()],
        "NAME   ID            DRIVER  BRIDGE           SUBNETS        ENDPOINTS\n\
         front  0123456789ab  bridge  br-0123456789ab  172.17.0.0/16  1\n",
    );
    check_output("netd network connect front web", &[endpoint()], "172.17.0.2/16\nfd00::2/64\n");
    check_output("netd network connect front web -q", &[endpoint()], "web\n");
    check_output("netd network rm front", &[Item::Name("front".to_owned())], "front\n");
    check_output("netd network allow a b", &[], "");
    check_output(
        "netd port ls",
        &[port()],
        "ENDPOINT  PROTO  HOST         PORT   PACKETS  BYTES  FLOWS\n\
         web       tcp    *:8080-8081  80-81  1        60     1\n",
    );
    check_output("netd port add web 80 -q", &[port()], "8080-8081:80-81/tcp\n");
    check_output(
        "netd conntrack ls",
        &[flow()],
        "udp      9 REPLIED src=10.0.0.1 dst=10.0.0.2 sport=1 dport=2 \
         src=10.0.0.2 dst=10.0.0.1 sport=2 dport=1 endpoint=web network=front\n",
    );
    check_output("netd conntrack count", &[table()], "7\n");
    check_output("netd conntrack flush", &[Item::Count(1)], "1 flow ended\n");
}

#[track_caller]
fn check_json(line: &str, items: &[Item], expected: &str) {
    let items = items.iter().cloned().map(Reply::Item);
    let (_, output) = answered(line, items.chain([Reply::End]).collect());
    let output: serde_json::Value = serde_json::from_str(&output.unwrap()).unwrap();
    assert_eq!(output, serde_json::from_str::<serde_json::Value>(expected).unwrap(), "{line}");
}

#[test]
fn json_is_one_document() {
    check_json("netd network create front --json", &[network()], NETWORK);
    check_json("netd network ls --json", &[], "[]");
    check_json(
        "netd network ls --json",
        &[network(), network()],
        &format!("[{NETWORK},{NETWORK}]"),
    );
    check_json("netd network inspect front --json", &[network()], &format!("[{NETWORK}]"));
    check_json("netd port add web 80 --json", &[port()], &format!("[{PORT}]"));
    check_json("netd conntrack ls --json", &[flow(), flow()], &format!("[{FLOW},{FLOW}]"));
    check_json("netd conntrack count --json", &[table()], TABLE);
    check_json("netd network rm front --json", &[Item::Name("front".to_owned())], r#"["front"]"#);
    check_json("netd network allow a b --json", &[], "[]");
    let row = r#"{"reason":"direct_routing","verdict":"drop","packets":1,"bytes":60}"#;
    let stats = format!(r#"{{"reasons":[{row}],"endpoints":[],"ports":[]}}"#);
    let stats = Item::Stats(serde_json::from_str::<StatsAnswer>(&stats).unwrap());
    check_json("netd stats --json", &[stats], &format!("[{row}]"));
}

#[test]
fn a_refusal_is_an_error_that_names_the_object() {
    let refusal = vec![Reply::Error { message: "network x does not exist".to_owned() }];
    let (requests, result) = answered("netd network inspect x", refusal.clone());
    let error = result.unwrap_err();
    assert_eq!(requests, [Request::NetworkInspect { names: vec!["x".to_owned()] }]);
    assert_eq!(error.to_string(), "network x does not exist");
    assert_eq!(error.exit_code(), ExitCode::FAILURE);
    let (requests, result) = answered("netd network rm x y", refusal);
    assert_eq!(requests.len(), 2);
    assert_eq!(
        result.unwrap_err().to_string(),
        "network x does not exist\nnetwork x does not exist"
    );
}

#[test]
fn an_answer_of_another_kind_is_an_error() {
    let (_, result) =
        answered("netd network create x", vec![Reply::Item(Item::Count(1)), Reply::End]);
    assert!(matches!(result, Err(CliError::Unexpected(_))));
    let (_, result) = answered("netd network create x", vec![Reply::End]);
    assert!(matches!(result, Err(CliError::Unexpected(_))));
}

#[test]
fn no_daemon_is_status_3_but_detaching_needs_none() {
    let parse = |line: &str| Cli::try_parse_from(line.split_whitespace()).unwrap();
    let Cli { global, command } = parse("netd network ls --socket /nonexistent/netd.sock");
    let Command::Ask(command) = command else { unreachable!("the line is a request") };
    let error = ask(command, &global, &mut Vec::new()).unwrap_err();
    assert_eq!(error.exit_code(), ExitCode::from(3));
    assert!(error.to_string().contains("start it with `netd run`"), "{error}");

    let Cli { global, command } =
        parse("netd stop --detach --bpffs /b --socket /nonexistent/netd.sock");
    let Command::Stop(args) = command else { unreachable!("the line says stop") };
    let Stopped::NoDaemon(options) = stop(&args, &global).unwrap() else {
        unreachable!("there is none")
    };
    assert_eq!(options.bpffs, Some(PathBuf::from("/b")));
    let Command::Stop(args) = parse("netd stop").command else {
        unreachable!("the line says stop")
    };
    assert_eq!(stop(&args, &global).unwrap_err().exit_code(), ExitCode::from(3));
}

#[test]
fn stopping_waits_for_the_end() {
    let (requests, result) = answered("netd stop", vec![Reply::End]);
    assert_eq!((requests, result.unwrap().as_str()), (vec![Request::Stop { detach: false }], ""));
}

#[test]
fn there_is_a_script_for_every_shell() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let line = format!("netd completions {shell}");
        let Command::Completions { shell } = Cli::try_parse_from(line.split(' ')).unwrap().command
        else {
            unreachable!("the line says completions")
        };
        let mut script = Vec::new();
        print_completions(shell, &mut script).unwrap();
        assert!(script.len() > 1_000);
    }
}

#[test]
fn the_manual_page_names_every_command() {
    let mut page = Vec::new();
    man_pages(None, &mut page).unwrap();
    let page = String::from_utf8(page).unwrap();
    assert!(page.contains(".TH netd 1"), "{page}");
    for command in Cli::command().get_subcommands() {
        let entry = format!("netd\\-{}(1)", command.get_name());
        assert!(page.contains(&entry), "{entry} is missing in {page}");
    }
}

#[test]
fn every_command_has_a_page_of_its_own() {
    let dir = std::env::temp_dir().join(format!("netd-man-{}", std::process::id()));
    man_pages(Some(&dir), &mut Vec::new()).unwrap();
    for page in ["netd.1", "netd-run.1", "netd-network.1", "netd-network-create.1"] {
        assert!(dir.join(page).is_file(), "{page}");
    }
    // What lies in the way is named.
    let file = dir.join("netd.1");
    let error = man_pages(Some(&file), &mut Vec::new()).unwrap_err().to_string();
    assert!(error.contains(&file.display().to_string()), "{error}");
    std::fs::remove_dir_all(&dir).unwrap();
}
