//! The real programs that stand for users: curl, ping, dig and iperf3, and a UDP socket.

use std::{
    fmt,
    io::{self, Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpStream, UdpSocket},
    os::fd::AsRawFd as _,
    time::Duration,
};

use nix::sys::{
    socket::{
        AddressFamily, SockFlag, SockType, SockaddrStorage, bind, connect, setsockopt, socket,
        sockopt,
    },
    time::TimeVal,
};

use crate::{
    condition::eventually_some, family::Family, netns::Namespace, process::Outcome,
    servers::BIG_FILE_BYTES,
};

/// How long a packet is waited for that should come.
const PATIENCE_SECS: &str = "10";

/// How long a packet is waited for that should not come.
const IMPATIENCE_SECS: &str = "0.7";

/// How long is waited for what should come at once: less than a neighbour entry lives on before the kernel
/// looks again (`delay_first_probe_time`, 5 s).
const AT_ONCE_SECS: &str = "4";

/// How long one datagram is waited for before the next is sent.
const UDP_RETRY: Duration = Duration::from_secs(1);

/// What [`crate::servers::nginx`] answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The name of the server's namespace.
    pub server: String,
    /// The client's address, as the server saw it.
    pub client: IpAddr,
    /// The server's own port.
    pub port: u16,
}

/// Why there was no connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoConnection {
    /// A reset, or an ICMP error.
    Refused,
    /// Silence.
    TimedOut,
    /// There was one, and it broke.
    Broken,
}

/// Fetches the page at an address with curl.
///
/// # Panics
/// Where it does not come.
#[track_caller]
pub fn fetch(from: &Namespace, to: SocketAddr) -> Page {
    fetch_url(from, &format!("http://{to}/"))
}

/// Fetches the page at an address or name with curl.
///
/// # Panics
/// Where it does not come.
#[track_caller]
pub fn fetch_url(from: &Namespace, url: &str) -> Page {
    page(&curl(from, PATIENCE_SECS, url).ok())
}

/// Fetches the page at an address, which must not take a retry of more than the connection's first packet.
///
/// # Panics
/// Where it does not come.
#[track_caller]
pub fn fetch_at_once(from: &Namespace, to: SocketAddr) -> Page {
    page(&curl(from, AT_ONCE_SECS, &format!("http://{to}/")).ok())
}

/// Tries to fetch the page at an address, for a short time: meant for what should not be reached.
///
/// # Errors
/// Where nobody answers.
///
/// # Panics
/// Where curl fails in another way.
#[track_caller]
pub fn try_fetch(from: &Namespace, to: SocketAddr) -> Result<Page, NoConnection> {
    // Source: "EXIT CODES" of curl(1).
    const COULD_NOT_CONNECT: i32 = 7;
    const TIMED_OUT: i32 = 28;
    const RECEIVE_FAILED: i32 = 56;
    let outcome = curl(from, IMPATIENCE_SECS, &format!("http://{to}/"));
    match outcome.status {
        Some(COULD_NOT_CONNECT) => Err(NoConnection::Refused),
        Some(TIMED_OUT) => Err(NoConnection::TimedOut),
        Some(RECEIVE_FAILED) => Err(NoConnection::Broken),
        _ => Ok(page(&outcome.ok())),
    }
}

/// Fetches the large file and checks its size.
///
/// # Panics
/// Where it does not come whole.
#[track_caller]
pub fn fetch_big(from: &Namespace, to: SocketAddr) {
    assert_eq!(try_fetch_big(from, to).ok(), BIG_FILE_BYTES.to_string());
}

/// Fetches the large file; the outcome tells its size.
pub fn try_fetch_big(from: &Namespace, to: SocketAddr) -> Outcome {
    let url = format!("http://{to}/big");
    from.run(&format!("curl -sS --max-time 20 -o /dev/null -w %{{size_download}} {url}"))
}

#[track_caller]
fn curl(from: &Namespace, connect_secs: &str, url: &str) -> Outcome {
    let limits = format!("--connect-timeout {connect_secs} --max-time {PATIENCE_SECS}");
    from.run(&format!("curl --silent --show-error --noproxy * {limits} {url}"))
}

#[track_caller]
fn page(text: &str) -> Page {
    let words: Vec<&str> = text.split_whitespace().collect();
    let [server, client, port] = words[..] else { panic!("not the page of a test: {text:?}") };
    let (Ok(client), Ok(port)) = (client.parse(), port.parse()) else {
        panic!("not the page of a test: {text:?}")
    };
    Page { server: server.to_owned(), client, port }
}

/// A connection to nginx that stays open between requests.
#[derive(Debug)]
pub struct Connection(TcpStream);

impl Connection {
    /// Connects.
    ///
    /// # Panics
    /// Where nobody answers.
    #[track_caller]
    pub fn open(from: &Namespace, to: SocketAddr) -> Self {
        let connected = from.inside(|| {
            let stream = TcpStream::connect(to)?;
            stream.set_read_timeout(Some(Duration::from_secs(10)))?;
            Ok::<_, io::Error>(stream)
        });
        Self(connected.unwrap_or_else(|error| panic!("{to} cannot be connected to: {error}")))
    }

    /// Connects from a port of the client's choice, once its last connection from there is gone.
    ///
    /// # Panics
    /// Where nobody answers.
    #[track_caller]
    pub fn open_from(from: &Namespace, port: u16, to: SocketAddr) -> Self {
        eventually_some(&format!("port {port} of {} is free", from.name()), || {
            match from.inside(|| connect_between(any_address(to, port), to)) {
                Ok(stream) => Some(Self(stream)),
                Err(error) if is_in_use(&error) => None,
                Err(error) => panic!("{to} cannot be connected to from port {port}: {error}"),
            }
        })
    }

    /// Lets the server close the connection, which leaves the client's port free.
    ///
    /// # Panics
    /// Where the server does not.
    #[track_caller]
    pub fn close(mut self) {
        let mut rest = Vec::new();
        let asked = self.0.write_all(b"GET / HTTP/1.0\r\n\r\n");
        let closed = asked.and_then(|()| self.0.read_to_end(&mut rest));
        closed.unwrap_or_else(|error| panic!("the connection is broken: {error}"));
    }

    /// Fetches the page over this connection.
    ///
    /// # Panics
    /// Where it does not come.
    #[track_caller]
    pub fn fetch(&mut self) -> Page {
        let answer = self.try_fetch();
        page(&answer.unwrap_or_else(|error| panic!("the connection is broken: {error}")))
    }

    /// Fetches the text of the page.
    ///
    /// # Errors
    /// Where the connection has been reset or closed, or nothing comes for ten seconds.
    pub fn try_fetch(&mut self) -> io::Result<String> {
        self.0.write_all(b"GET / HTTP/1.1\r\nHost: web\r\n\r\n")?;
        let (mut head, mut byte) = (Vec::new(), [0]);
        while !head.ends_with(b"\r\n\r\n") {
            self.0.read_exact(&mut byte)?;
            head.push(byte[0]);
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        let len = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
        let len = len.and_then(|len| len.parse().ok()).ok_or(io::ErrorKind::InvalidData)?;
        let mut body = vec![0; len];
        self.0.read_exact(&mut body)?;
        Ok(String::from_utf8_lossy(&body).into_owned())
    }
}

/// A TCP connection of the calling thread's namespace from an end of its own choice.
///
/// # Errors
/// Where the end is in use, or nobody answers.
pub fn connect_between(own: SocketAddr, to: SocketAddr) -> io::Result<TcpStream> {
    let family = Family::of(to.ip()).pick(AddressFamily::Inet, AddressFamily::Inet6);
    let socket = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    let patience = TimeVal::new(10, 0);
    setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    setsockopt(&socket, sockopt::SendTimeout, &patience)?;
    setsockopt(&socket, sockopt::ReceiveTimeout, &patience)?;
    bind(socket.as_raw_fd(), &SockaddrStorage::from(own))?;
    connect(socket.as_raw_fd(), &SockaddrStorage::from(to))?;
    Ok(socket.into())
}

fn is_in_use(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::AddrInUse | io::ErrorKind::AddrNotAvailable)
}

/// The unspecified address of the same family.
pub fn any_address(of: SocketAddr, port: u16) -> SocketAddr {
    match Family::of(of.ip()) {
        Family::V4 => ([0; 4], port).into(),
        Family::V6 => ([0_u16; 8], port).into(),
    }
}

/// Whether an address answers a ping.
#[track_caller]
pub fn pings(from: &Namespace, to: IpAddr) -> bool {
    from.run(&format!("ping -n -q -c 1 -W {PATIENCE_SECS} {to}")).is_ok()
}

/// Whether an address answers a ping soon: meant for what should not be reached.
#[track_caller]
pub fn pings_at_once(from: &Namespace, to: IpAddr) -> bool {
    from.run(&format!("ping -n -q -c 1 -W {IMPATIENCE_SECS} {to}")).is_ok()
}

/// What [`crate::servers::udp_echo`] answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Echo {
    /// The client's address, as the server saw it.
    pub client: IpAddr,
    /// What was sent.
    pub text: String,
}

/// Sends a text to a UDP echo and returns the answer, which came from the address that was asked.
///
/// # Panics
/// Where none comes.
#[track_caller]
pub fn ask_udp(from: &Namespace, to: SocketAddr, text: &str) -> Echo {
    let socket = udp_socket(from, to);
    let socket = socket.unwrap_or_else(|error| panic!("no socket for {to}: {error}"));
    ask_by(&socket, text)
}

/// Sends a text to the UDP echo that a socket is connected to, and returns the answer.
///
/// # Panics
/// Where none comes.
#[track_caller]
pub fn ask_by(socket: &UdpSocket, text: &str) -> Echo {
    let mut tries = 10;
    loop {
        tries -= 1;
        match try_ask_by(socket, text, UDP_RETRY) {
            Ok(echo) => return echo,
            // Datagrams may be lost, while a neighbour is looked for say.
            Err(error) if is_timeout(&error) && tries > 0 => {}
            Err(error) => panic!("udp {:?} does not answer: {error}", socket.peer_addr()),
        }
    }
}

/// Whether a UDP echo answers soon: meant for what should not be reached.
///
/// # Panics
/// Where there is no socket to be had.
#[track_caller]
pub fn answers_udp(from: &Namespace, to: SocketAddr) -> bool {
    udp_socket(from, to).is_ok_and(|socket| answers_by(&socket))
}

/// Whether the UDP echo that a socket is connected to answers soon: meant for what should not be reached.
pub fn answers_by(socket: &UdpSocket) -> bool {
    try_ask_by(socket, "hello", Duration::from_millis(500)).is_ok()
}

/// What a UDP echo answers soon, if anything: meant for what may not be reached.
pub fn try_ask_udp(from: &Namespace, to: SocketAddr, text: &str) -> Option<Echo> {
    let socket = udp_socket(from, to).ok()?;
    try_ask_by(&socket, text, UDP_RETRY).ok()
}

fn try_ask_by(socket: &UdpSocket, text: &str, patience: Duration) -> io::Result<Echo> {
    socket.set_read_timeout(Some(patience))?;
    socket.send(format!("{text}\n").as_bytes())?;
    let mut buffer = [0; 512];
    let len = loop {
        // With a deadline the kernel does not begin again by itself after a signal.
        match socket.recv(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            received => break received?,
        }
    };
    let answer = String::from_utf8_lossy(&buffer[..len]);
    let (client, text) = answer.trim_end().split_once(' ').unwrap_or((&answer, ""));
    let client = client.trim_matches(['[', ']']).parse().map_err(io::Error::other)?;
    Ok(Echo { client, text: text.to_owned() })
}

/// A UDP socket of the namespace that is connected to an address, so that answers from any other are
/// not received.
///
/// # Errors
/// Where there is no route to the address.
pub fn udp_socket(from: &Namespace, to: SocketAddr) -> io::Result<UdpSocket> {
    udp_socket_from(from, 0, to)
}

/// The same from a port of the client's choice.
///
/// # Errors
/// Where there is no route to the address, or the port is in use.
pub fn udp_socket_from(from: &Namespace, port: u16, to: SocketAddr) -> io::Result<UdpSocket> {
    from.inside(|| {
        let socket = bind_udp(any_address(to, port))?;
        socket.connect(to)?;
        Ok(socket)
    })
}

/// A UDP socket of the calling thread's namespace, of one family: the same port may have another one in
/// the other family, and so may be one that was closed: a program that another thread is just starting may
/// still hold it.
///
/// # Errors
/// Where there is none to be had.
pub fn bind_udp(own: SocketAddr) -> io::Result<UdpSocket> {
    let family = Family::of(own.ip());
    let kind = family.pick(AddressFamily::Inet, AddressFamily::Inet6);
    let socket = socket(kind, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    if family == Family::V6 {
        setsockopt(&socket, sockopt::Ipv6V6Only, &true)?;
    }
    setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    bind(socket.as_raw_fd(), &SockaddrStorage::from(own))?;
    Ok(socket.into())
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

/// Asks a name server with dig for the address of a name.
///
/// # Panics
/// Where it does not answer.
#[track_caller]
pub fn dig(from: &Namespace, server: IpAddr, name: &str, transport: Transport) -> Vec<String> {
    let family = Family::of(server).pick("A", "AAAA");
    let tcp = if transport == Transport::Tcp { "+tcp" } else { "+notcp" };
    let line = format!("dig +short +time=3 +tries=3 {tcp} @{server} {name} {family}");
    from.run(&line).ok().lines().map(str::to_owned).collect()
}

/// How names and bytes are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Tcp,
    Udp,
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if *self == Self::Tcp { "tcp" } else { "udp" })
    }
}

/// Sends bytes through iperf3, from the client or, with `--reverse`, to it, and returns how many came.
///
/// # Panics
/// Where iperf3 fails.
#[track_caller]
pub fn iperf3(from: &Namespace, to: SocketAddr, transport: Transport, options: &str) -> u64 {
    let udp = if transport == Transport::Udp { "--udp --bitrate 200M" } else { "" };
    let (ip, port) = (to.ip(), to.port());
    let line =
        format!("iperf3 --json --connect-timeout 5000 --client {ip} --port {port} {udp} {options}");
    // A server may be a moment busy with the end of the test before, and takes no second one.
    let json = eventually_some("an iperf3 server that is not busy", || {
        let json = from.run(&line).json();
        let error = json["error"].as_str().unwrap_or_default();
        (!error.contains("busy running a test")).then_some(json)
    });
    let end = &json["end"];
    let received = [&end["sum_received"]["bytes"], &end["sum"]["bytes"]];
    received.iter().find_map(|bytes| bytes.as_u64()).unwrap_or_else(|| panic!("{json}"))
}
