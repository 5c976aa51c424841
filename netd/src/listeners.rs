//! The sockets of the host that wait for clients, and whose they are.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, BufRead as _, BufReader},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::Path,
};

use crate::model::{Listener, Proto};

/// The kernel's lists, each with the state of a socket that waits: TCP_LISTEN, and TCP_CLOSE for UDP.
const TABLES: [(&str, Proto, &str); 4] = [
    ("/proc/self/net/tcp", Proto::Tcp, "0A"),
    ("/proc/self/net/tcp6", Proto::Tcp, "0A"),
    ("/proc/self/net/udp", Proto::Udp, "07"),
    ("/proc/self/net/udp6", Proto::Udp, "07"),
];

/// All of them.
///
/// # Errors
/// Where the kernel does not list them.
pub fn listeners() -> io::Result<Vec<Listener>> {
    let mut listeners = Vec::new();
    for (path, proto, state) in TABLES {
        let table = match File::open(path) {
            Ok(table) => BufReader::new(table),
            // A kernel without IPv6.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        for line in table.lines().skip(1) {
            match waiting(&line?, proto, state) {
                Some(listener) => listeners.push(listener),
                // Those that listen come first (`tcp_seq_start`), and there may be a million others.
                None if proto == Proto::Tcp => break,
                None => {}
            }
        }
    }
    Ok(listeners)
}

/// The sockets that this process has open, by their inodes.
///
/// # Errors
/// Where they are not listed.
pub fn own_sockets() -> io::Result<BTreeSet<u64>> {
    let inode = |entry: fs::DirEntry| {
        let to = fs::read_link(entry.path()).ok()?;
        to.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
    };
    Ok(fs::read_dir("/proc/self/fd")?.flatten().filter_map(inode).collect())
}

/// Reads a line of proc_pid_net(5): `SL: LOCAL:PORT REMOTE:PORT STATE QUEUES TIMER RETRANSMITS UID TIMEOUT INODE`.
fn waiting(line: &str, proto: Proto, state: &str) -> Option<Listener> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let (local, found, inode) = (fields.get(1)?, fields.get(3)?, fields.get(9)?);
    let (address, port) = local.split_once(':')?;
    (*found == state).then_some(Listener {
        proto,
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

/// The process that has it open, where that can be seen: its name and its number.
pub fn process(listener: &Listener) -> Option<(String, u32)> {
    let socket = format!("socket:[{}]", listener.inode);
    let is_open = |fd: &Path| fs::read_link(fd).is_ok_and(|to| to.as_os_str() == socket.as_str());
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let mut pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let pid = pids.find(|pid| {
        let fds = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        fds.into_iter().any(|fd| is_open(&fd.path()))
    })?;
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    Some((name.trim_end().to_owned(), pid))
}

#[cfg(test)]
mod tests {
    use super::{Proto, waiting};

    #[track_caller]
    fn check(line: &str, state: &str, expected: Option<(&str, u16, u64)>) {
        let found = waiting(line, Proto::Tcp, state);
        let found = found.map(|s| (s.address.to_string(), s.port, s.inode));
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
