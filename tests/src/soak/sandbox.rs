//! A sandbox with a service on every port that may be published: sockets that are looked at when a packet should
//! have come.

use std::{
    collections::BTreeMap,
    io::{self, ErrorKind},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
};

use super::generate::{FIRST_PORT, PORTS};
use crate::{condition::within, netns::Namespace};

/// The network namespace and its sockets, which keep it alive: they are closed with it.
#[derive(Debug)]
pub struct Guest {
    tcp: BTreeMap<u16, TcpListener>,
    udp: BTreeMap<u16, UdpSocket>,
    /// The namespace.
    pub namespace: Namespace,
}

impl Guest {
    /// Makes the namespace and opens the sockets.
    ///
    /// # Errors
    /// Where a socket cannot be had.
    ///
    /// # Panics
    /// Where the namespace cannot be made.
    pub fn new(name: &str) -> io::Result<Self> {
        let namespace = Namespace::new(name);
        let (tcp, udp) = namespace.inside(|| {
            let ports = FIRST_PORT..FIRST_PORT + PORTS;
            let tcp = ports.clone().map(|port| {
                let listener = TcpListener::bind(("::", port))?;
                listener.set_nonblocking(true)?;
                Ok((port, listener))
            });
            let udp = ports.map(|port| {
                let socket = UdpSocket::bind(("::", port))?;
                socket.set_nonblocking(true)?;
                Ok((port, socket))
            });
            let tcp = tcp.collect::<io::Result<_>>()?;
            Ok::<_, io::Error>((tcp, udp.collect::<io::Result<_>>()?))
        })?;
        Ok(Self { tcp, udp, namespace })
    }

    /// Waits for the connection that `client` has begun to a port.
    pub fn accepted(&self, port: u16, client: SocketAddr) -> Option<TcpStream> {
        let listener = self.tcp.get(&port)?;
        within(super::probe::PATIENCE, || {
            let (stream, peer) = listener.accept().ok()?;
            (plain(peer) == client).then_some(stream)
        })
    }

    /// Takes the datagrams that have come to a port until one carries this text; its sender.
    pub fn received(&self, port: u16, text: &[u8]) -> Option<SocketAddr> {
        let socket = self.udp.get(&port)?;
        let mut buffer = [0; 64];
        loop {
            match socket.recv_from(&mut buffer) {
                Ok((len, peer)) if &buffer[..len] == text => return Some(peer),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return None,
                // That of an earlier answer, which nobody took.
                Err(_) => {}
            }
        }
    }

    /// Answers from a UDP port.
    ///
    /// # Errors
    /// Where the kernel refuses.
    pub fn answer(&self, port: u16, to: SocketAddr, text: &[u8]) -> io::Result<usize> {
        let socket = self.udp.get(&port).ok_or(ErrorKind::NotFound)?;
        socket.send_to(text, to)
    }
}

/// An address as itself where a socket of both families shows it mapped.
pub fn plain(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
