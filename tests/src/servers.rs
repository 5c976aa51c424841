//! What stands for containers' services and for the world outside: real programs, and a UDP echo.

use std::{
    fs,
    net::{IpAddr, SocketAddr, UdpSocket},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use crate::{
    clients::{any_address, bind_udp},
    condition::eventually,
    family::Family,
    netns::Namespace,
    process::Running,
};

/// How large the file is that [`nginx`] serves as `/big`.
pub const BIG_FILE_BYTES: u64 = 4 << 20;

/// A service in a namespace: ended with its files when it is dropped.
#[derive(Debug)]
pub struct Server {
    _running: Vec<Running>,
    _echo: Option<UdpEcho>,
    dir: PathBuf,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// Starts nginx on TCP ports of a namespace, for both families. Any request is answered with
/// `NAMESPACE CLIENT-ADDRESS PORT`, `/big` with a file.
///
/// # Panics
/// Where it cannot be started.
#[track_caller]
pub fn nginx(namespace: &Namespace, ports: &[u16]) -> Server {
    let dir = directory(namespace, "nginx", ports[0]);
    let big = fs::File::create(dir.join("big")).and_then(|file| file.set_len(BIG_FILE_BYTES));
    big.unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    let config = dir.join("nginx.conf");
    write(&config, &nginx_config(&dir, namespace.name(), ports));
    let (dir_text, config) = (dir.to_string_lossy(), config.to_string_lossy());
    let args = ["-p", &dir_text, "-c", &config, "-e", "stderr"];
    let running = Running::start(namespace.path(), &dir.join("log"), "nginx", &args);
    for &port in ports {
        namespace.wait_for_listener("tcp", port);
        namespace.wait_for_listener("tcp6", port);
    }
    Server { _running: vec![running], _echo: None, dir }
}

fn nginx_config(dir: &Path, name: &str, ports: &[u16]) -> String {
    let dir = dir.display();
    let listen = |port: &u16| format!("listen {port}; listen [::]:{port} ipv6only=on;");
    let listens: String = ports.iter().map(listen).collect();
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let temporary = temporary.map(|kind| format!("{kind}_temp_path {dir}/{kind};")).concat();
    format!(
        r#"daemon off; master_process off; pid {dir}/pid;
        events {{ worker_connections 512; }}
        http {{
            access_log off; {temporary}
            server {{
                {listens}
                default_type text/plain;
                location / {{ return 200 "{name} $remote_addr $server_port"; }}
                location = /big {{ root {dir}; }}
            }}
        }}"#
    )
}

/// A UDP echo, which ends when it is dropped.
#[derive(Debug)]
struct UdpEcho {
    is_over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Drop for UdpEcho {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        self.threads.drain(..).for_each(|thread| drop(thread.join()));
    }
}

/// Starts a UDP echo on a port of a namespace, for both families. A datagram is answered with the sender's
/// address and what it carried, separated by a space.
///
/// # Panics
/// Where it cannot be started.
#[track_caller]
pub fn udp_echo(namespace: &Namespace, port: u16) -> Server {
    let any = |family: Family| any_address(SocketAddr::new(family.loopback(), 0), port).ip();
    udp_echo_at(namespace, &Family::BOTH.map(any), port)
}

/// The same on these addresses only: answers come from the one that was asked, also where the kernel would take
/// another.
///
/// # Panics
/// Where it cannot be started.
#[track_caller]
pub fn udp_echo_at(namespace: &Namespace, addresses: &[IpAddr], port: u16) -> Server {
    let is_over = Arc::new(AtomicBool::new(false));
    let echo = |address: &IpAddr| {
        let own = SocketAddr::new(*address, port);
        let socket = namespace.inside(|| bind_udp(own)).unwrap_or_else(|error| panic!("{error}"));
        let is_over = Arc::clone(&is_over);
        thread::spawn(move || answer(&socket, &is_over))
    };
    let threads = addresses.iter().map(echo).collect();
    let echo = UdpEcho { is_over, threads };
    Server { _running: Vec::new(), _echo: Some(echo), dir: directory(namespace, "echo", port) }
}

/// Answers until it is over, or the socket breaks.
fn answer(socket: &UdpSocket, is_over: &AtomicBool) {
    const LOOK_AFTER: Duration = Duration::from_millis(50);
    let mut buffer = [0; 1 << 16];
    let _ = socket.set_read_timeout(Some(LOOK_AFTER));
    while !is_over.load(Ordering::Relaxed) {
        // An error may be that of an earlier answer, which nobody took.
        let Ok((len, peer)) = socket.recv_from(&mut buffer) else { continue };
        let text = [peer.ip().to_string().as_bytes(), b" ", &buffer[..len]].concat();
        let _ = socket.send_to(&text, peer);
    }
}

/// Starts a TCP echo on a port of a namespace, for both families.
///
/// # Panics
/// Where it cannot be started.
#[track_caller]
pub fn tcp_echo(namespace: &Namespace, port: u16) -> Server {
    let dir = directory(namespace, "tcp-echo", port);
    let listen = format!("TCP6-LISTEN:{port},ipv6only=0,reuseaddr,fork");
    let running = Running::start(namespace.path(), &dir.join("log"), "socat", &[&listen, "PIPE"]);
    namespace.wait_for_listener("tcp6", port);
    Server { _running: vec![running], _echo: None, dir }
}

/// Starts an iperf3 server on a port of a namespace.
///
/// # Panics
/// Where it cannot be started.
#[track_caller]
pub fn iperf3(namespace: &Namespace, port: u16) -> Server {
    let dir = directory(namespace, "iperf3", port);
    let args = ["--server", "--port", &port.to_string()];
    let running = Running::start(namespace.path(), &dir.join("log"), "iperf3", &args);
    namespace.wait_for_listener("tcp6", port);
    Server { _running: vec![running], _echo: None, dir }
}

/// The name that [`dns`] knows.
pub const DNS_NAME: &str = "www.example.test";

/// Starts dnsmasq on port 53 of a namespace. It knows [`DNS_NAME`] with both addresses given.
///
/// # Panics
/// Where it cannot be started.
#[track_caller]
pub fn dns(namespace: &Namespace, ipv4: &str, ipv6: &str) -> Server {
    let dir = directory(namespace, "dnsmasq", 53);
    let (ipv4, ipv6) =
        (format!("--address=/{DNS_NAME}/{ipv4}"), format!("--address=/{DNS_NAME}/{ipv6}"));
    let args = [
        "--keep-in-foreground",
        "--conf-file=/dev/null",
        "--log-facility=-",
        "--pid-file",
        "--user=root",
        "--no-resolv",
        "--no-hosts",
        &ipv4,
        &ipv6,
    ];
    let running = Running::start(namespace.path(), &dir.join("log"), "dnsmasq", &args);
    for table in ["tcp", "tcp6", "udp", "udp6"] {
        namespace.wait_for_listener(table, 53);
    }
    Server { _running: vec![running], _echo: None, dir }
}

/// Starts a tunnel of IP packets without link-layer header between two machines, in UDP over IPv4: socat.
/// The device is called `tun0` on both.
///
/// # Panics
/// Where it cannot be started.
#[track_caller]
pub fn tunnel(one: (&Namespace, IpAddr), other: (&Namespace, IpAddr)) -> Server {
    let dir = directory(one.0, "tunnel", TUNNEL_PORT);
    let running = [(one.0, other.1), (other.0, one.1)].map(|(namespace, peer)| {
        let device = "TUN,tun-name=tun0,iff-no-pi,iff-up";
        let datagrams = format!("UDP4-DATAGRAM:{peer}:{TUNNEL_PORT},bind=:{TUNNEL_PORT}");
        let log = dir.join(namespace.name());
        let running = Running::start(namespace.path(), &log, "socat", &[device, &datagrams]);
        eventually("the tunnel is there", || namespace.has_link("tun0"));
        namespace.wait_for_listener("udp", TUNNEL_PORT);
        running
    });
    Server { _running: running.into(), _echo: None, dir }
}

const TUNNEL_PORT: u16 = 4754;

#[track_caller]
fn directory(namespace: &Namespace, program: &str, port: u16) -> PathBuf {
    let dir = std::env::temp_dir().join(format!("{}-{program}-{port}", namespace.name()));
    let made = fs::create_dir_all(&dir);
    made.unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    dir
}

#[track_caller]
fn write(path: &Path, text: &str) {
    fs::write(path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}
