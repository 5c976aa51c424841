//! What the daemon tells systemd, which is a socket here, and the unit that systemd is told.

use std::{
    io::ErrorKind, os::unix::net::UnixDatagram, path::Path, process::Command, time::Duration,
};

use netd_tests::{
    condition::{deadline, eventually},
    process::run,
    topology::World,
};
use nix::sys::signal::Signal;

/// How often systemd wants to hear of the event loop. Units: microseconds.
const WATCHDOG_USEC: u64 = 200_000;

/// The next message of the daemon.
#[track_caller]
fn message(socket: &UnixDatagram) -> String {
    let mut buffer = [0; 256];
    let len = socket.recv(&mut buffer).unwrap();
    String::from_utf8_lossy(&buffer[..len]).trim().to_owned()
}

#[test]
fn systemd_hears_of_the_start_of_the_event_loop_and_of_the_end() {
    let mut world = World::without_daemon("");
    let path = world.daemon.config().with_file_name("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(deadline())).unwrap();
    let notify = format!("NOTIFY_SOCKET={}", path.display());
    world.daemon.start_by(&["env", &notify, &format!("WATCHDOG_USEC={WATCHDOG_USEC}")]);
    assert_eq!(message(&socket), "READY=1");
    for _ in 0..5 {
        assert_eq!(message(&socket), "WATCHDOG=1");
    }

    // A loop that hangs is not vouched for by anybody else.
    world.daemon.signal(Signal::SIGSTOP);
    socket.set_read_timeout(Some(Duration::from_micros(WATCHDOG_USEC))).unwrap();
    let silence = loop {
        match socket.recv(&mut [0; 256]) {
            Ok(_sent_before) => {}
            Err(error) => break error.kind(),
        }
    };
    assert_eq!(silence, ErrorKind::WouldBlock);
    world.daemon.signal(Signal::SIGCONT);
    socket.set_read_timeout(Some(deadline())).unwrap();
    assert_eq!(message(&socket), "WATCHDOG=1");

    world.daemon.signal(Signal::SIGTERM);
    let mut last = message(&socket);
    while last == "WATCHDOG=1" {
        last = message(&socket);
    }
    assert_eq!(last, "STOPPING=1");
    assert!(world.daemon.wait().success());
}

/// The first process of a PID namespace, which holds Docker's socket and starts what follows.
const SOCKET_UNIT: &str = r#"
import socket, subprocess, sys, threading
docker = socket.socket(socket.AF_UNIX)
docker.bind(sys.argv[1])
docker.listen()
def answer():
    while docker.accept():
        print("somebody starts Docker", flush=True)
threading.Thread(target=answer, daemon=True).start()
sys.exit(subprocess.call(sys.argv[2:]))
"#;

#[test]
fn a_docker_that_was_stopped_is_not_started_by_a_question() {
    let mut world = World::without_daemon("");
    let docker = world.daemon.config().with_file_name("docker.sock");
    world.daemon.configure(&format!("[docker]\nhost = \"unix://{}\"\n", docker.display()));
    let first = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "python3", "-c"];
    let path = docker.to_string_lossy();
    let wrapper: Vec<&str> = first.into_iter().chain([SOCKET_UNIT, &path]).collect();
    world.daemon.start_by(&wrapper);
    eventually("netd has looked", || {
        let status = world.netd("docker status").ok();
        status.contains("no dockerd runs, and a question would start one")
    });
    assert!(!world.daemon.log().contains("somebody starts Docker"));
}

#[test]
fn systemd_understands_the_unit() {
    let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../netd/packaging/netd.service");
    let unit = std::fs::read_to_string(unit).unwrap();
    let world = World::without_daemon("");
    let copy = world.daemon.config().with_file_name("netd.service");
    let netd = netd_tests::daemon::binary().canonicalize().unwrap();
    // Its program is looked for, and netd is not installed.
    let unit = unit.replace("/usr/bin/netd", &netd.display().to_string());
    std::fs::write(&copy, unit.replace("Documentation=man:netd(1)\n", "")).unwrap();
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        return;
    }
    let outcome = run(Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&copy), "");
    let complaints: Vec<&str> =
        outcome.stderr.lines().filter(|line| line.contains("netd.service")).collect();
    assert_eq!(complaints, [""; 0], "{outcome}");
}
