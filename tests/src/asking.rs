//! Clients of every kind, which tell whom they were shown to talk to.

use std::{
    io::{self, Read as _, Write as _},
    net::SocketAddr,
    time::Duration,
};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::netns::Namespace;

/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// How a client asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// A connection.
    Tcp,
    /// A datagram of a socket that is connected.
    ConnectedUdp,
    /// A datagram with an address.
    Udp,
}

impl Way {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Tcp, Self::ConnectedUdp, Self::Udp];
}

/// What a client has been answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Whom it was shown to be from: `getpeername` of a connection, or the datagram's sender.
    pub from: SocketAddr,
    /// The first words that it said, without the headers of HTTP.
    pub text: String,
}

/// Asks (an HTTP server by TCP, an echo by UDP), from an address of its own where one is given.
///
/// # Errors
/// Where nobody answers.
pub fn ask(
    from: &Namespace,
    way: Way,
    own: Option<SocketAddr>,
    to: SocketAddr,
) -> io::Result<Answer> {
    from.inside(|| match way {
        Way::Tcp => ask_tcp(own, to),
        Way::ConnectedUdp => ask_udp(own, to, true),
        Way::Udp => ask_udp(own, to, false),
    })
}

fn socket(kind: Type, own: Option<SocketAddr>, to: SocketAddr) -> io::Result<Socket> {
    let protocol = if kind == Type::STREAM { Protocol::TCP } else { Protocol::UDP };
    let socket = Socket::new(Domain::for_address(to), kind, Some(protocol))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.set_write_timeout(Some(PATIENCE))?;
    if let Some(own) = own {
        socket.bind(&own.into())?;
    }
    Ok(socket)
}

fn ask_tcp(own: Option<SocketAddr>, to: SocketAddr) -> io::Result<Answer> {
    let mut socket = socket(Type::STREAM, own, to)?;
    socket.connect_timeout(&to.into(), PATIENCE)?;
    let from = address(&socket.peer_addr()?)?;
    socket.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut page = String::new();
    socket.read_to_string(&mut page)?;
    let text = page.split_once("\r\n\r\n").map(|(_, text)| text.to_owned()).unwrap_or_default();
    Ok(Answer { from, text })
}

fn ask_udp(own: Option<SocketAddr>, to: SocketAddr, connects: bool) -> io::Result<Answer> {
    let socket = socket(Type::DGRAM, own, to)?;
    if connects {
        socket.connect(&to.into())?;
        let peer = address(&socket.peer_addr()?)?;
        if peer != to {
            return Err(io::Error::other(format!("connected with {peer}")));
        }
        socket.send(b"hello")?;
    } else {
        socket.send_to(b"hello", &to.into())?;
    }
    let socket = std::net::UdpSocket::from(socket);
    let mut buffer = [0; 512];
    let (len, from) = socket.recv_from(&mut buffer)?;
    Ok(Answer { from, text: String::from_utf8_lossy(&buffer[..len]).into_owned() })
}

fn address(address: &SockAddr) -> io::Result<SocketAddr> {
    address.as_socket().ok_or_else(|| io::Error::other("no address"))
}
