//! Very many connections one after the other.

use std::{
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use netd_tests::{
    condition::within,
    family::Family,
    netns::Namespace,
    topology::{World, at},
};

const CONNECTIONS: u32 = 100_000;

/// The timers below, and two scans of the table: it rests for up to half a minute after one that has
/// met many flows.
const EMPTIED_WITHIN: Duration = Duration::from_secs(70);

/// Timers that let the table empty itself while the test looks on, and room for every connection.
const CONFIG: &str = "
    [timeouts]
    tcp_fin_wait = 2
    tcp_time_wait = 2
    tcp_close = 2
    [datapath]
    max_flows = 262144
";

#[test]
fn a_hundred_thousand_connections_in_a_row_do_not_fail_once() {
    let world = World::with_config(CONFIG);
    world.network("front", 1, "");
    let web = world.container("web", "front", "-p 8080:80");
    // More connections than ports: they come back while the server still has them in TIME_WAIT.
    world.client.set_sysctl("ipv4/ip_local_port_range", "1024 65535");
    for family in Family::BOTH {
        let before = dropped(&world);
        let server = at(world.address("web", family), 80);
        let failures = connect_in_a_row(&web.namespace, server, || {
            world.client.inside(|| count_failures(at(family.host(), 8080)))
        });
        assert!(failures.is_empty(), "{family}: {failures:#?}");
        assert_eq!(dropped(&world), before, "{family}");
    }
    let rows = world.netd("port ls --json").json();
    assert_eq!(rows[0]["flows"], 2 * u64::from(CONNECTIONS), "{rows}");
    let emptied = within(EMPTIED_WITHIN, || (world.flows() == 0).then_some(()));
    assert!(emptied.is_some(), "{} flows are left after {EMPTIED_WITHIN:?}", world.flows());
}

/// Runs a server while the clients work.
fn connect_in_a_row<T>(server: &Namespace, address: SocketAddr, clients: impl FnOnce() -> T) -> T {
    let listener = server.inside(|| TcpListener::bind(address)).unwrap();
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for stream in listener.incoming() {
                if is_over.load(Ordering::Relaxed) {
                    break;
                }
                // What goes wrong here goes wrong for the client, which counts it.
                let _ = stream.and_then(answer);
            }
        });
        let result = clients();
        is_over.store(true, Ordering::Relaxed);
        drop(server.inside(|| TcpStream::connect(address)));
        result
    })
}

/// Sends back what comes and closes first, so that TIME_WAIT is the server's.
fn answer(mut stream: TcpStream) -> io::Result<()> {
    let mut byte = [0];
    stream.read_exact(&mut byte)?;
    stream.write_all(&byte)
}

/// Connects again and again, and returns the first few errors.
fn count_failures(to: SocketAddr) -> Vec<String> {
    let connect = |number: u32| {
        let byte = number.to_le_bytes()[0];
        match ask(to, byte) {
            Ok(answer) if answer == [byte] => None,
            Ok(answer) => Some(format!("connection {number}: {answer:?} in place of {byte}")),
            Err(error) => Some(format!("connection {number}: {error}")),
        }
    };
    (0..CONNECTIONS).filter_map(connect).take(5).collect()
}

fn ask(to: SocketAddr, byte: u8) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(to)?;
    stream.write_all(&[byte])?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(answer)
}

/// How many packets have been dropped for whatever reason.
fn dropped(world: &World) -> u64 {
    let stats = world.netd("stats --json").json();
    let rows = stats.as_array().unwrap().iter();
    let dropped = rows.filter(|row| row["verdict"] == "drop");
    dropped.map(|row| row["packets"].as_u64().unwrap()).sum()
}
