//! The tables of iptables-legacy, which the kernel hands out whole: a header with where each hook's chain
//! begins and ends, and all rules one after the other.
//!
//! ```text
//!   FORWARD's rules | its policy | ERROR "DOCKER" | rules of DOCKER | RETURN | ... | ERROR "ERROR"
//! ```
//! A jump is the offset of a chain's first rule. Asked for by socket options rather than by
//! iptables-legacy-save: that one may be missing, and needs CAP_NET_RAW.

use std::{
    collections::BTreeMap,
    fs, io,
    os::fd::{AsRawFd as _, OwnedFd},
};

use netlink_packet_core::{emit_u32, parse_u16, parse_u32};
use nix::{
    libc,
    sys::socket::{AddressFamily, SockFlag, SockType, socket},
};

use super::{NetlinkError, Request};
use crate::firewall::{Chain, Policy, Rule, Target};

/// A family's tables. Source: linux/netfilter_ipv4/ip_tables.h and linux/netfilter_ipv6/ip6_tables.h.
struct Kind {
    /// Lists the tables that are in use.
    names: &'static str,
    family: AddressFamily,
    level: libc::c_int,
    /// What messages call a table.
    program: &'static str,
    /// The length of a rule's match by address, device and protocol: `struct ipt_ip`, `struct ip6t_ip6`.
    match_len: usize,
    /// The length of a rule without its further matches: `struct ipt_entry`, `struct ip6t_entry`.
    entry_len: usize,
}

const KINDS: [Kind; 2] = [
    Kind {
        names: "/proc/net/ip_tables_names",
        family: AddressFamily::Inet,
        level: libc::IPPROTO_IP,
        program: "iptables-legacy",
        match_len: 84,
        entry_len: 112,
    },
    Kind {
        names: "/proc/net/ip6_tables_names",
        family: AddressFamily::Inet6,
        level: libc::IPPROTO_IPV6,
        program: "ip6tables-legacy",
        match_len: 136,
        entry_len: 168,
    },
];

/// Socket options of both families: IPT_SO_GET_INFO and IPT_SO_GET_ENTRIES.
const GET_INFO: libc::c_int = 64;
const GET_ENTRIES: libc::c_int = 65;

/// NF_INET_FORWARD of linux/netfilter.h.
const FORWARD: usize = 2;

/// XT_TABLE_MAXNAMELEN.
const NAME_LEN: usize = 32;

/// `struct ipt_getinfo`: a name, a mask of hooks, two offsets for each of five hooks, two numbers.
const INFO_LEN: usize = 84;

/// `struct ipt_get_entries` without its entries, which are aligned to eight bytes.
const ENTRIES_HEADER_LEN: usize = 40;

/// The chains of all tables that are in use.
pub(super) fn chains() -> Result<Vec<Chain>, NetlinkError> {
    let mut chains = Vec::new();
    for kind in KINDS {
        // Without the file the kernel has no such tables.
        for name in fs::read_to_string(kind.names).unwrap_or_default().lines() {
            let read = read(&kind, name);
            let read =
                read.map_err(|source| NetlinkError::Failed { request: Request::ListRules, source });
            chains.extend(read?);
        }
    }
    Ok(chains)
}

fn read(kind: &Kind, name: &str) -> io::Result<Vec<Chain>> {
    let socket = socket(kind.family, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    let mut info = named(name, INFO_LEN);
    get(&socket, kind.level, GET_INFO, &mut info)?;
    let info = Info::read(&info).ok_or(io::ErrorKind::InvalidData)?;
    let mut entries = named(name, ENTRIES_HEADER_LEN + info.size);
    let size = u32::try_from(info.size).map_err(io::Error::other)?;
    emit_u32(&mut entries[NAME_LEN..], size).map_err(io::Error::other)?;
    // EAGAIN where the table has changed in between: the next look finds it at rest.
    get(&socket, kind.level, GET_ENTRIES, &mut entries)?;
    let table = format!("table {name} of {}", kind.program);
    Ok(parse(kind, &table, &info, &entries[ENTRIES_HEADER_LEN..]).unwrap_or_default())
}

/// A buffer that begins with the name of a table, as both questions do.
fn named(name: &str, len: usize) -> Vec<u8> {
    let mut buffer: Vec<u8> = name.bytes().take(NAME_LEN - 1).collect();
    buffer.resize(len, 0);
    buffer
}

fn get(
    socket: &OwnedFd,
    level: libc::c_int,
    option: libc::c_int,
    buffer: &mut [u8],
) -> io::Result<()> {
    let mut len = buffer.len() as libc::socklen_t;
    // SAFETY: the pointers are to a buffer of the length given and to that length.
    let result = unsafe {
        let value = buffer.as_mut_ptr().cast();
        libc::getsockopt(socket.as_raw_fd(), level, option, value, &raw mut len)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Where the chain of forwarded packets is.
struct Info {
    /// The offsets of its first rule and of its policy, if the table has such a chain.
    forward: Option<(usize, usize)>,
    /// The length of all entries.
    size: usize,
}

impl Info {
    fn read(bytes: &[u8]) -> Option<Self> {
        const HOOKS: usize = 5;
        let word = |index: usize| Some(u32_at(bytes, NAME_LEN + 4 * index)? as usize);
        let is_hooked = word(0)? & 1 << FORWARD != 0;
        let forward = (word(1 + FORWARD)?, word(1 + HOOKS + FORWARD)?);
        Some(Self { forward: is_hooked.then_some(forward), size: word(2 + 2 * HOOKS)? })
    }
}

/// A rule, the head of a chain, or its end.
struct Entry {
    offset: usize,
    target: EntryTarget,
    is_bare: bool,
}

enum EntryTarget {
    /// The head of a chain.
    Head(String),
    /// A verdict below zero, or the offset that it jumps to.
    Standard(i32),
    Extension,
}

/// Verdicts as the table has them, one less than the negated number. Source: linux/netfilter/x_tables.h.
const DROP: i32 = -1;
const ACCEPT: i32 = -2;
const RETURN: i32 = -5;

fn parse(kind: &Kind, table: &str, info: &Info, bytes: &[u8]) -> Option<Vec<Chain>> {
    let entries = entries(kind, bytes)?;
    let heads = entries.windows(2).filter_map(|pair| match &pair[0].target {
        EntryTarget::Head(name) => Some((pair[1].offset, name.clone())),
        EntryTarget::Standard(_) | EntryTarget::Extension => None,
    });
    let names: BTreeMap<usize, String> = heads.collect();
    let rule = |entry: &Entry| Rule { target: target(entry, &names), is_bare: entry.is_bare };
    let mut chains = Vec::new();
    if let Some((first, policy)) = info.forward {
        let rules = entries.iter().filter(|entry| (first..policy).contains(&entry.offset));
        let end = entries.iter().find(|entry| entry.offset == policy)?;
        let drops = matches!(end.target, EntryTarget::Standard(DROP));
        chains.push(Chain {
            table: table.to_owned(),
            name: "FORWARD".to_owned(),
            forward: Some(if drops { Policy::Drop } else { Policy::Accept }),
            rules: rules.map(rule).collect(),
        });
    }
    let is_head = |entry: &Entry| matches!(entry.target, EntryTarget::Head(_));
    for (&first, name) in &names {
        let own = entries.iter().skip_while(|entry| entry.offset < first);
        let mut rules: Vec<Rule> = own.take_while(|entry| !is_head(entry)).map(rule).collect();
        // The return at the end of every chain is not a rule of its own.
        rules.pop();
        chains.push(Chain { table: table.to_owned(), name: name.clone(), forward: None, rules });
    }
    Some(chains)
}

fn target(entry: &Entry, names: &BTreeMap<usize, String>) -> Target {
    match entry.target {
        EntryTarget::Standard(RETURN) => Target::Return,
        EntryTarget::Standard(ACCEPT) => Target::Accept,
        EntryTarget::Standard(offset) => {
            let chain = usize::try_from(offset).ok().and_then(|offset| names.get(&offset));
            chain.map_or(Target::Other, |name| Target::Jump(name.clone()))
        }
        EntryTarget::Head(_) | EntryTarget::Extension => Target::Other,
    }
}

fn entries(kind: &Kind, bytes: &[u8]) -> Option<Vec<Entry>> {
    /// `target_offset` and `next_offset` follow the match and a word for caches.
    const CACHE_LEN: usize = 4;
    /// `struct xt_entry_target` without its data: a length, a name, a revision.
    const TARGET_LEN: usize = 32;
    let (mut entries, mut offset) = (Vec::new(), 0);
    while offset < bytes.len() {
        let entry = bytes.get(offset..)?;
        let target_offset = usize::from(u16_at(entry, kind.match_len + CACHE_LEN)?);
        let next_offset = usize::from(u16_at(entry, kind.match_len + CACHE_LEN + 2)?);
        let target = entry.get(target_offset..)?;
        let data = target.get(TARGET_LEN..)?;
        let target = match name_at(target.get(2..TARGET_LEN - 1)?).as_str() {
            "" => EntryTarget::Standard(u32_at(data, 0)?.cast_signed()),
            "ERROR" => EntryTarget::Head(name_at(data)),
            _ => EntryTarget::Extension,
        };
        let matches_all = entry.get(..kind.match_len)?.iter().all(|byte| *byte == 0);
        let is_bare = matches_all && target_offset == kind.entry_len;
        entries.push(Entry { offset, target, is_bare });
        if next_offset == 0 {
            return None;
        }
        offset += next_offset;
    }
    Some(entries)
}

/// A text that ends with a zero.
fn name_at(bytes: &[u8]) -> String {
    let text = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(text).into_owned()
}

fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    parse_u16(bytes.get(offset..offset + 2)?).ok()
}

fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    parse_u32(bytes.get(offset..offset + 4)?).ok()
}

#[cfg(test)]
mod tests {
    use super::{ENTRIES_HEADER_LEN, INFO_LEN, Info, KINDS, parse};
    use crate::firewall::{Forwarding, Policy, Target};

    /// The answers to both questions, one after the other, from a host with the rules of
    /// `captured/README`.
    const CAPTURED: [&[u8]; 2] =
        [include_bytes!("captured/iptables.bin"), include_bytes!("captured/ip6tables.bin")];

    #[test]
    fn chains_and_rules_are_read_as_they_are() {
        for (kind, captured) in KINDS.iter().zip(CAPTURED) {
            let (info, entries) = captured.split_at(INFO_LEN);
            let info = Info::read(info).unwrap();
            let chains = parse(kind, "table filter", &info, &entries[ENTRIES_HEADER_LEN..]);
            let mut chains = chains.unwrap();
            assert_eq!(chains[0].name, "FORWARD");
            assert_eq!(chains[0].forward, Some(Policy::Drop));
            let targets: Vec<_> = chains[0].rules.iter().map(|rule| &rule.target).collect();
            assert_eq!(targets, [&Target::Jump("DOCKER-USER".to_owned())]);
            assert!(chains[0].rules[0].is_bare);
            let user = chains.iter().position(|chain| chain.name == "DOCKER-USER").unwrap();
            let rules: Vec<_> =
                chains[user].rules.iter().map(|rule| (rule.target.clone(), rule.is_bare)).collect();
            assert_eq!(rules, [(Target::Other, false), (Target::Return, true)]);
            let forwarding = Forwarding::of(&chains);
            assert_eq!(forwarding.rules.unwrap(), "chain DOCKER-USER of table filter");
            assert_eq!(
                forwarding.stops.unwrap(),
                "the policy DROP of chain FORWARD of table filter"
            );
            chains[user].rules.remove(0);
            assert_eq!(Forwarding::of(&chains).rules, None);
        }
    }

    #[test]
    fn a_table_that_is_cut_off_is_no_table() {
        let (info, entries) = CAPTURED[0].split_at(INFO_LEN);
        let info = Info::read(info).unwrap();
        let entries = &entries[ENTRIES_HEADER_LEN..];
        for len in (1..entries.len()).step_by(8) {
            if let Some(chains) = parse(&KINDS[0], "table filter", &info, &entries[..len]) {
                // Cut between two entries, it has fewer of them.
                assert!(chains.len() < 4);
            }
        }
    }
}
