//! STUN as RFC 5780 uses it to find out what a NAT does: a server with two addresses and two ports, and a
//! client that asks it. UDP, the attributes that it takes, and nothing else of RFC 8489.

use std::{
    io,
    net::{IpAddr, SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use crate::{clients::bind_udp, condition::eventually_some, netns::Namespace};

/// The ports of the server, which has both at each of its addresses.
const PORTS: [u16; 2] = [3478, 3479];

const BINDING_REQUEST: u16 = 0x0001;
const BINDING_RESPONSE: u16 = 0x0101;
const MAGIC_COOKIE: u32 = 0x2112_a442;
const HEADER_LEN: usize = 20;
const CHANGE_REQUEST: u16 = 0x0003;
const XOR_MAPPED_ADDRESS: u16 = 0x0020;
/// In a CHANGE-REQUEST: answer from the other address, from the other port (RFC 5780 section 7.2).
const CHANGE_ADDRESS: u8 = 4;
const CHANGE_PORT: u8 = 2;

/// How long an answer is waited for, and how often a request is sent before it is taken for filtered.
const PATIENCE: Duration = Duration::from_millis(300);
const TRIES: u32 = 3;

/// A server: ends when it is dropped.
#[derive(Debug)]
pub struct StunServer {
    addresses: [IpAddr; 2],
    is_over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

/// What a mapping or a filter depends on (RFC 5780 section 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dependence {
    /// On the container's own end alone.
    EndpointIndependent,
    /// On the address of the other side.
    AddressDependent,
    /// On its address and port.
    AddressAndPortDependent,
}

/// What was found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Behaviour {
    /// Of the outside port (section 4.3).
    pub mapping: Dependence,
    /// Of who gets in (section 4.4).
    pub filtering: Dependence,
    /// Whether a packet to the outside port comes back in, from the sender's own (section 4.5).
    pub hairpins: bool,
}

impl StunServer {
    /// Starts a server on two addresses of a namespace.
    ///
    /// # Panics
    /// Where it gets no sockets.
    #[track_caller]
    pub fn start(namespace: &Namespace, addresses: [IpAddr; 2]) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let ends = addresses.map(|address| PORTS.map(|port| SocketAddr::new(address, port)));
        let bind = |end: SocketAddr| {
            let socket = namespace.inside(|| bind_udp(end));
            let socket = socket.unwrap_or_else(|error| panic!("no socket at {end}: {error}"));
            socket.set_read_timeout(Some(PATIENCE)).unwrap_or_else(|error| panic!("{error}"));
            socket
        };
        let sockets = Arc::new(ends.map(|ends| ends.map(bind)));
        let threads = [(0, 0), (0, 1), (1, 0), (1, 1)].map(|at| {
            let (sockets, is_over) = (Arc::clone(&sockets), Arc::clone(&is_over));
            std::thread::spawn(move || serve(&sockets, at, &is_over))
        });
        Self { addresses, is_over, threads: threads.into() }
    }

    fn end(&self, address: usize, port: usize) -> SocketAddr {
        SocketAddr::new(self.addresses[address], PORTS[port])
    }

    /// The outside end of a socket, as the server's first end sees it.
    ///
    /// # Panics
    /// Where the server does not answer.
    #[track_caller]
    pub fn outside_end(&self, socket: &UdpSocket) -> SocketAddr {
        self.outside_end_for(socket, (0, 0))
    }

    /// The same as another end of the server sees it: of its address and its port, the first or the second.
    ///
    /// # Panics
    /// Where the server does not answer.
    #[track_caller]
    pub fn outside_end_for(&self, socket: &UdpSocket, at: (usize, usize)) -> SocketAddr {
        eventually_some("a STUN server answers", || self.ask(socket, at, 0))
    }

    fn ask(
        &self,
        socket: &UdpSocket,
        (address, port): (usize, usize),
        change: u8,
    ) -> Option<SocketAddr> {
        ask(socket, self.end(address, port), change)
    }

    /// Finds out what lies between a socket, which is connected to nothing, and the server. Filtering is
    /// tested with another socket, which has sent nothing to the server's other ends.
    ///
    /// # Panics
    /// Where the server does not answer at all.
    #[track_caller]
    pub fn discover(&self, socket: &UdpSocket, fresh: &UdpSocket) -> Behaviour {
        Behaviour {
            mapping: self.mapping(socket),
            filtering: self.filtering(fresh),
            hairpins: self.hairpins(socket, fresh),
        }
    }

    #[track_caller]
    fn mapping(&self, socket: &UdpSocket) -> Dependence {
        let first = self.outside_end(socket);
        let other_address = self.ask(socket, (1, 0), 0);
        if other_address == Some(first) {
            return Dependence::EndpointIndependent;
        }
        if self.ask(socket, (1, 1), 0) == other_address {
            Dependence::AddressDependent
        } else {
            Dependence::AddressAndPortDependent
        }
    }

    #[track_caller]
    fn filtering(&self, socket: &UdpSocket) -> Dependence {
        self.outside_end(socket);
        if self.ask(socket, (0, 0), CHANGE_ADDRESS | CHANGE_PORT).is_some() {
            Dependence::EndpointIndependent
        } else if self.ask(socket, (0, 0), CHANGE_PORT).is_some() {
            Dependence::AddressDependent
        } else {
            Dependence::AddressAndPortDependent
        }
    }

    /// Asks the other socket for its own outside end, by way of that end: it answers as a server would.
    #[track_caller]
    fn hairpins(&self, socket: &UdpSocket, other: &UdpSocket) -> bool {
        let (own, others) = (self.outside_end(socket), self.outside_end(other));
        let mut buffer = [0; 512];
        (0..TRIES).any(|_| {
            if socket.send_to(&request(0), others).is_err() {
                return false;
            }
            let received = other.recv_from(&mut buffer);
            received.is_ok_and(|(len, from)| buffer[..len] == request(0)[..] && from == own)
        })
    }
}

impl Drop for StunServer {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Answers requests to one end of the server, each from the end that it asks for.
fn serve(sockets: &[[UdpSocket; 2]; 2], (address, port): (usize, usize), is_over: &AtomicBool) {
    let mut buffer = [0; 512];
    while !is_over.load(Ordering::Relaxed) {
        let Ok((len, from)) = sockets[address][port].recv_from(&mut buffer) else { continue };
        let Some(change) = change_asked_for(&buffer[..len]) else { continue };
        let address = address ^ usize::from(change & CHANGE_ADDRESS != 0);
        let port = port ^ usize::from(change & CHANGE_PORT != 0);
        let answer = response(&buffer[..HEADER_LEN], from);
        let _ = sockets[address][port].send_to(&answer, from);
    }
}

/// A request whose answer is to come from another end of the server.
fn request(change: u8) -> Vec<u8> {
    let mut message = message(BINDING_REQUEST, 8, &[7; 12]);
    message.extend(CHANGE_REQUEST.to_be_bytes());
    message.extend([0, 4, 0, 0, 0, change]);
    message
}

fn message(kind: u16, len: u16, transaction: &[u8]) -> Vec<u8> {
    let head = [kind.to_be_bytes(), len.to_be_bytes()].concat();
    [&head, &MAGIC_COOKIE.to_be_bytes()[..], transaction].concat()
}

/// What a request asks to be changed; `None` of what is no request.
fn change_asked_for(message: &[u8]) -> Option<u8> {
    let is_request = message.get(..2)? == BINDING_REQUEST.to_be_bytes();
    let change = message.get(HEADER_LEN..)?;
    let has_change = change.get(..2)? == CHANGE_REQUEST.to_be_bytes();
    (is_request && has_change).then_some(())?;
    change.get(7).copied()
}

/// The answer that tells a client where its request came from.
fn response(request: &[u8], client: SocketAddr) -> Vec<u8> {
    let (family, address) = match client.ip() {
        IpAddr::V4(address) => (1, address.octets().to_vec()),
        IpAddr::V6(address) => (2, address.octets().to_vec()),
    };
    let value_len = 4 + address.len() as u16;
    let mut message = message(BINDING_RESPONSE, 4 + value_len, &request[8..HEADER_LEN]);
    let mask = message[4..HEADER_LEN].to_vec();
    message.extend(XOR_MAPPED_ADDRESS.to_be_bytes());
    message.extend(value_len.to_be_bytes());
    message.extend([0, family]);
    message.extend(xored(&client.port().to_be_bytes(), &mask));
    message.extend(xored(&address, &mask));
    message
}

fn xored(bytes: &[u8], mask: &[u8]) -> Vec<u8> {
    bytes.iter().zip(mask).map(|(byte, mask)| byte ^ mask).collect()
}

/// Asks one end of a server until it answers: where the request came from.
fn ask(socket: &UdpSocket, server: SocketAddr, change: u8) -> Option<SocketAddr> {
    (0..TRIES).find_map(|_| {
        let sent = socket.send_to(&request(change), server);
        sent.unwrap_or_else(|error| panic!("no request to {server}: {error}"));
        answer(socket).ok()?
    })
}

fn answer(socket: &UdpSocket) -> io::Result<Option<SocketAddr>> {
    socket.set_read_timeout(Some(PATIENCE))?;
    let mut buffer = [0; 512];
    let (len, _) = socket.recv_from(&mut buffer)?;
    Ok(mapped_address(&buffer[..len]))
}

fn mapped_address(message: &[u8]) -> Option<SocketAddr> {
    let attribute = message.get(HEADER_LEN..)?;
    let is_response = message.get(..2)? == BINDING_RESPONSE.to_be_bytes()
        && attribute.get(..2)? == XOR_MAPPED_ADDRESS.to_be_bytes();
    is_response.then_some(())?;
    let mask = message.get(4..HEADER_LEN)?;
    let port = xored(attribute.get(6..8)?, mask).try_into().ok().map(u16::from_be_bytes)?;
    let address = xored(attribute.get(8..)?, mask);
    let address = match attribute.get(5)? {
        1 => IpAddr::from(<[u8; 4]>::try_from(address).ok()?),
        _ => IpAddr::from(<[u8; 16]>::try_from(address).ok()?),
    };
    Some(SocketAddr::new(address, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vectors of RFC 5769 sections 2.2 and 2.3.
    #[test]
    fn an_answer_tells_where_a_request_came_from() {
        let transaction = [0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34, 0xd6, 0x86, 0xfa, 0x87, 0xdf, 0xae];
        let request = message(BINDING_REQUEST, 0, &transaction);
        let v4: SocketAddr = "192.0.2.1:32853".parse().unwrap();
        let v6: SocketAddr = "[2001:db8:1234:5678:11:2233:4455:6677]:32853".parse().unwrap();
        let answer = response(&request, v4);
        assert_eq!(answer[20..], [0, 0x20, 0, 8, 0, 1, 0xa1, 0x47, 0xe1, 0x12, 0xa6, 0x43]);
        assert_eq!(mapped_address(&answer), Some(v4));
        let answer = response(&request, v6);
        assert_eq!(answer[28..34], [0x01, 0x13, 0xa9, 0xfa, 0xa5, 0xd3]);
        assert_eq!(mapped_address(&answer), Some(v6));
        assert_eq!(change_asked_for(&super::request(6)), Some(6));
        assert_eq!(change_asked_for(&answer), None);
    }
}
