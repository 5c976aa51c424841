//! What came in at an edge: read, checked, and freed of what may differ by chance.

use std::{fmt, net::IpAddr};

use super::{
    datagram::{SCTP, TCP, UDP, transport_checksum},
    mark,
};
use crate::packet::checksum;

/// A place where packets are sent and seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Edge {
    /// A machine outside, on the host's link.
    Client,
    /// The container that publishes a port.
    Web,
    /// Its neighbour on the same network.
    App,
}

impl Edge {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 3] = [Self::Client, Self::Web, Self::App];
}

/// A packet that came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Where.
    pub edge: Edge,
    /// The IP packet, without what Ethernet adds to short ones.
    pub bytes: Vec<u8>,
}

/// Where the parts of an IP packet are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parts {
    /// Its addresses.
    pub addresses: (IpAddr, IpAddr),
    /// What it carries.
    pub proto: u8,
    /// Where that begins.
    pub body: usize,
    /// Its length by its header.
    pub len: usize,
    /// Whether this is not the first piece of something larger.
    pub is_later: bool,
    /// Whether this is a piece at all.
    pub is_piece: bool,
}

/// Reads the headers of an IP packet; none where they make no sense.
pub fn parts(bytes: &[u8]) -> Option<Parts> {
    match bytes.first()? >> 4 {
        4 => v4_parts(bytes),
        6 => v6_parts(bytes),
        _ => None,
    }
}

fn v4_parts(bytes: &[u8]) -> Option<Parts> {
    let header: &[u8; 20] = bytes.first_chunk()?;
    let address = |at: usize| -> [u8; 4] { std::array::from_fn(|i| header[at + i]) };
    let flags = u16::from_be_bytes([header[6], header[7]]);
    Some(Parts {
        addresses: (address(12).into(), address(16).into()),
        proto: header[9],
        body: usize::from(header[0] & 15) * 4,
        len: usize::from(u16::from_be_bytes([header[2], header[3]])),
        is_later: flags & 0x1fff != 0,
        is_piece: flags & 0x3fff != 0,
    })
}

fn v6_parts(bytes: &[u8]) -> Option<Parts> {
    let header: &[u8; 40] = bytes.first_chunk()?;
    let address = |at: usize| -> [u8; 16] { std::array::from_fn(|i| header[at + i]) };
    let mut parts = Parts {
        addresses: (address(8).into(), address(24).into()),
        proto: header[6],
        body: 40,
        len: 40 + usize::from(u16::from_be_bytes([header[4], header[5]])),
        is_later: false,
        is_piece: false,
    };
    while !parts.is_later && matches!(parts.proto, 0 | 43 | 44 | 60) {
        let rest = bytes.get(parts.body..parts.body + 8)?;
        if parts.proto == 44 {
            let field = u16::from_be_bytes([rest[2], rest[3]]);
            (parts.is_piece, parts.is_later) = (true, field & !7 != 0);
            parts.body += 8;
        } else {
            parts.body += 8 + usize::from(rest[1]) * 8;
        }
        parts.proto = rest[0];
    }
    Some(parts)
}

/// Whether a message is an error that quotes a packet.
pub fn is_icmp_error(proto: u8, kind: u8) -> bool {
    match proto {
        1 => matches!(kind, 3 | 4 | 5 | 11 | 12),
        58 => kind < 128 || kind == 137,
        _ => false,
    }
}

impl Arrival {
    /// Reads a frame; none where it carries no IP.
    pub fn of_frame(edge: Edge, frame: &[u8]) -> Option<Self> {
        let ethertype = frame.get(12..14)?;
        let bytes = frame.get(14..).filter(|_| matches!(ethertype, [8, 0] | [0x86, 0xdd]))?;
        let len = parts(bytes)?.len;
        Some(Self { edge, bytes: bytes.get(..len).unwrap_or(bytes).to_vec() })
    }

    /// Its headers.
    ///
    /// # Panics
    /// Never: what has none is no arrival.
    pub fn parts(&self) -> Parts {
        parts(&self.bytes).unwrap_or_else(|| panic!("no packet: {self:?}"))
    }

    /// What follows the IP headers.
    pub fn body(&self) -> &[u8] {
        self.bytes.get(self.parts().body..).unwrap_or_default()
    }

    /// Whether it is an ICMP error.
    pub fn is_error(&self) -> bool {
        is_icmp_error(self.parts().proto, self.body().first().copied().unwrap_or(0xff))
    }

    /// The case that it belongs to.
    pub fn number(&self) -> Option<u16> {
        number(&self.bytes)
    }

    /// The source port of a first or only piece, or the identifier of an echo.
    pub fn source_port(&self) -> Option<u16> {
        let (parts, body) = (self.parts(), self.body());
        let at = port_at(&parts, body)?;
        Some(u16::from_be_bytes([*body.get(at)?, *body.get(at + 1)?]))
    }

    /// What is compared: the bytes without what a host chooses by chance. `own_port` is given where the
    /// source port may have been allocated; it is the one that was sent.
    pub fn normalised(&self, number: u16, own_port: Option<u16>) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        if bytes[0] >> 4 == 4 {
            if bytes[4..6] != number.to_be_bytes() {
                bytes[4..6].fill(0);
            }
            bytes[10..12].fill(0);
        } else {
            if bytes[2..4] != number.to_be_bytes() {
                bytes[2..4].fill(0);
            }
            bytes[1] = 0;
        }
        let (parts, body) = (self.parts(), self.body());
        if let Some(at) = checksum_at(parts.proto).filter(|_| !parts.is_later) {
            let is_made_here = mark::find(body).is_none() && parts.proto == TCP;
            let port = own_port.and(self.source_port());
            if let (Some(_), Some(port_at)) =
                (port.filter(|port| Some(*port) != own_port), port_at(&parts, body))
            {
                let place = parts.body + port_at;
                bytes[place..place + 2].fill(0xff);
            }
            let place = parts.body + at;
            // Judged by `faults`. A host's own reset is left for the device to sum up.
            if (own_port.is_some() || is_made_here) && bytes.len() > place + 1 {
                bytes[place..place + 2].fill(0);
            }
        }
        bytes
    }

    /// Which checksums are wrong.
    pub fn faults(&self) -> Vec<&'static str> {
        faults(&self.bytes)
    }
}

fn port_at(parts: &Parts, body: &[u8]) -> Option<usize> {
    match parts.proto {
        TCP | UDP | SCTP if !parts.is_later => Some(0),
        1 | 58 if !parts.is_later && !is_icmp_error(parts.proto, *body.first()?) => Some(4),
        _ => None,
    }
}

fn checksum_at(proto: u8) -> Option<usize> {
    match proto {
        TCP => Some(16),
        UDP => Some(6),
        1 | 58 => Some(2),
        _ => None,
    }
}

fn number(bytes: &[u8]) -> Option<u16> {
    let parts = parts(bytes)?;
    let body = bytes.get(parts.body..).unwrap_or_default();
    if !parts.is_later && is_icmp_error(parts.proto, *body.first().unwrap_or(&0xff)) {
        return number(body.get(8..)?);
    }
    if let (TCP, Some(header)) = (parts.proto, body.first_chunk::<12>().filter(|_| !parts.is_later))
    {
        let word = |at: usize| std::array::from_fn(|i| header[at + i]);
        if let Some(number) = mark::of_seq(word(4)).or_else(|| mark::of_seq(word(8))) {
            return Some(number);
        }
    }
    let at = if bytes[0] >> 4 == 4 { 4 } else { 2 };
    mark::find(body).or(Some(u16::from_be_bytes([bytes[at], bytes[at + 1]])))
}

fn faults(bytes: &[u8]) -> Vec<&'static str> {
    let Some(parts) = parts(bytes) else { return vec!["no IP header"] };
    let mut found = Vec::new();
    if bytes[0] >> 4 == 4 && checksum(&[&bytes[..parts.body.min(bytes.len())]]) != 0 {
        found.push("IP checksum");
    }
    let is_complete = bytes.len() >= parts.len && !parts.is_piece;
    let body = bytes.get(parts.body..parts.len.min(bytes.len())).unwrap_or_default();
    if is_complete && !sums_up(&parts, body) {
        found.push("transport checksum");
    }
    if is_icmp_error(parts.proto, *body.first().unwrap_or(&0xff)) && !parts.is_later {
        let inner = faults(body.get(8..).unwrap_or_default());
        found.extend(inner.iter().map(|fault| match *fault {
            "IP checksum" => "quoted IP checksum",
            "transport checksum" => "quoted transport checksum",
            other => other,
        }));
    }
    found
}

/// Whether a whole packet's checksum is right, absent, or left for the device that sends it.
fn sums_up(parts: &Parts, body: &[u8]) -> bool {
    let Some(at) = checksum_at(parts.proto) else { return true };
    let Some(field) = body.get(at..at + 2) else { return false };
    let (src, dst) = parts.addresses;
    if parts.proto == UDP && field == [0, 0] {
        return src.is_ipv4();
    }
    let is_partial = || {
        let empty = [&body[..at], &[0, 0], &body[at + 2..]].concat();
        let whole = transport_checksum(src, dst, parts.proto, &empty);
        let alone = !checksum(&[&empty]);
        // The pseudo header alone: what a host leaves when a device is to do the rest.
        let pseudo = sum(!whole, !alone);
        field == pseudo.to_be_bytes()
    };
    transport_checksum(src, dst, parts.proto, body) == 0 || is_partial()
}

fn sum(a: u16, b: u16) -> u16 {
    let sum = u32::from(a) + u32::from(b);
    (sum & 0xffff) as u16 + (sum >> 16) as u16
}

impl fmt::Display for Arrival {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.edge, describe(&self.bytes))
    }
}

/// One line about a packet, as tcpdump would have it.
pub fn describe(bytes: &[u8]) -> String {
    let Some(parts) = parts(bytes) else { return "no packet".to_owned() };
    let body = bytes.get(parts.body..).unwrap_or_default();
    let (src, dst) = parts.addresses;
    let ttl = bytes[if src.is_ipv4() { 8 } else { 7 }];
    let port =
        |at: usize| body.get(at..at + 2).map_or(0, |word| u16::from_be_bytes([word[0], word[1]]));
    let what = match parts.proto {
        _ if parts.is_later => format!("{src} > {dst} piece of {}", parts.proto),
        TCP => {
            format!("{src}:{} > {dst}:{} tcp {:#04x}", port(0), port(2), body.get(13).unwrap_or(&0))
        }
        UDP => format!("{src}:{} > {dst}:{} udp", port(0), port(2)),
        SCTP => format!("{src}:{} > {dst}:{} sctp", port(0), port(2)),
        1 | 58 => match body.first_chunk::<2>() {
            Some([kind, code]) if is_icmp_error(parts.proto, *kind) => {
                let quoted = describe(body.get(8..).unwrap_or_default());
                format!("{src} > {dst} icmp {kind}/{code} about [{quoted}]")
            }
            Some([kind, code]) => format!("{src} > {dst} icmp {kind}/{code} id {}", port(4)),
            None => format!("{src} > {dst} icmp"),
        },
        proto => format!("{src} > {dst} protocol {proto}"),
    };
    let piece = if parts.is_piece { " first piece" } else { "" };
    let faults = faults(bytes);
    let wrong =
        if faults.is_empty() { String::new() } else { format!(" WRONG {}", faults.join(", ")) };
    format!("{what}{piece} ttl {ttl} len {}{wrong}", bytes.len())
}

#[cfg(test)]
mod tests;
