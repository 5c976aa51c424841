//! The host's own sockets that wait for clients on ports that are published, and whose they are.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::Path,
};

use super::text_of;
use crate::{
    doctor::facts::{Known, Listener, Wanted},
    model::Proto,
};

/// The kernel's lists, each with the state of a socket that waits: TCP_LISTEN, and TCP_CLOSE for UDP.
const TABLES: [(&str, Proto, &str); 4] = [
    ("/proc/self/net/tcp", Proto::Tcp, "0A"),
    ("/proc/self/net/tcp6", Proto::Tcp, "0A"),
    ("/proc/self/net/udp", Proto::Udp, "07"),
    ("/proc/self/net/udp6", Proto::Udp, "07"),
];

/// A socket by its inode.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Socket {
    address: IpAddr,
    port: u16,
    inode: u64,
}

pub(super) fn listeners(wanted: &Wanted) -> Known<Vec<Listener>> {
    let is_published = |proto: Proto, port: u16| {
        wanted.ports.iter().any(|wanted| {
            let published = &wanted.port;
            published.proto == proto
                && (published.host_port..=published.host_port_end).contains(&port)
        })
    };
    let mut listeners = Vec::new();
    for (path, proto, state) in TABLES {
        let table = text_of(path)?.unwrap_or_default();
        let sockets = table.lines().skip(1).filter_map(|line| waiting(line, state));
        for Socket { address, port, inode } in sockets.filter(|s| is_published(proto, s.port)) {
            listeners.push(Listener { proto, address, port, process: process(inode) });
        }
    }
    Ok(listeners)
}

/// Reads a line of proc_pid_net(5): `SL: LOCAL:PORT REMOTE:PORT STATE QUEUES TIMER RETRANSMITS UID TIMEOUT INODE`.
fn waiting(line: &str, state: &str) -> Option<Socket> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let (local, found, inode) = (fields.get(1)?, fields.get(3)?, fields.get(9)?);
    let (address, port) = local.split_once(':')?;
    (*found == state).then_some(Socket {
        address: address_of(address)?,
        port: u16::from_str_radix(port, 16).ok()?,
        inode: inode.parse().ok()?,
    })
}

/// Words of 32 bits in the machine's order.
fn address_of(text: &str) -> Option<IpAddr> {
    let words = text.as_bytes().chunks(8).map(|word| {
        let word = u32::from_str_radix(std::str::from_utf8(word).ok()?, 16).ok()?;
        #[expect(clippy::host_endian_bytes, reason = "the kernel prints words of memory")]
        Some(word.to_ne_bytes())
    });
    let bytes: Vec<u8> = words.collect::<Option<Vec<_>>>()?.concat();
    if let Ok(bytes) = <[u8; 4]>::try_from(bytes.as_slice()) {
        return Some(Ipv4Addr::from(bytes).into());
    }
    let address = Ipv6Addr::from(<[u8; 16]>::try_from(bytes.as_slice()).ok()?);
    // An IPv4 socket of a program that speaks IPv6.
    Some(address.to_ipv4_mapped().map_or(IpAddr::V6(address), IpAddr::V4))
}

/// The process that has a socket open, where that can be seen.
fn process(inode: u64) -> Option<(String, u32)> {
    let socket = format!("socket:[{inode}]");
    let is_open = |fd: &Path| fs::read_link(fd).is_ok_and(|to| to.as_os_str() == socket.as_str());
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let mut pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let pid = pids.find(|pid| {
        let fds = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        fds.into_iter().any(|fd| is_open(&fd.path()))
    })?;
    Some((text_of(format!("/proc/{pid}/comm")).ok().flatten()?, pid))
}

#[cfg(test)]
mod tests {
    use super::waiting;

    #[track_caller]
    fn check(line: &str, state: &str, expected: Option<(&str, u16, u64)>) {
        let found = waiting(line, state).map(|s| (s.address.to_string(), s.port, s.inode));
        let expected = expected.map(|(address, port, inode)| (address.to_owned(), port, inode));
        assert_eq!(found, expected);
    }

    #[test]
    fn sockets_that_wait_are_read_from_the_kernels_lists() {
        let rest =
            "00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0";
        check(&format!("   0: 0100007F:1F90 {rest}"), "0A", Some(("127.0.0.1", 8080, 4711)));
        check(&format!("   0: 00000000:0016 {rest}"), "0A", Some(("0.0.0.0", 22, 4711)));
        let v6 = "B80D0120000000000000000001000000:1F90";
        check(&format!("   0: {v6} {rest}"), "0A", Some(("2001:db8::1", 8080, 4711)));
        let mapped = "0000000000000000FFFF0000010200C0:1F90";
        check(&format!("   0: {mapped} {rest}"), "0A", Some(("192.0.2.1", 8080, 4711)));
        check(&format!("   0: 0100007F:1F90 {rest}"), "07", None);
        check("   0: 0100007F:1F90 garbage", "0A", None);
        check("", "0A", None);
    }
}
