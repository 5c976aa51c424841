//! The rules of the host's firewall that forwarded packets meet, read from the kernel: those of nftables
//! and of iptables on top of it by netlink, those of iptables-legacy by socket options.
//!
//! Neither needs a program of theirs, nor more than CAP_NET_ADMIN. (netlink-packet-netfilter 0.4 has types
//! for nftables, but brings a second netlink-sys.)

mod legacy;
mod nftables;

use std::io;

use rtnetlink::sys::{AsyncSocket as _, TokioSocket, protocols::NETLINK_NETFILTER};

use super::{NetlinkError, Request, raw::exchange};
use crate::firewall::{Chain, Forwarding, firewalld};
use netlink_packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NetlinkBuffer};
use nix::errno::Errno;

pub(super) use nftables::{GROUP, SUBSYSTEM};

/// What iptables-legacy and nftables say about forwarded packets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Firewall {
    /// None before the first look.
    nftables: Option<Forwarding>,
    legacy: Forwarding,
}

impl Firewall {
    /// Reads everything. What cannot be read is said in its place.
    pub async fn read(&mut self) {
        let chains = nftables_chains().await;
        // What somebody has set up is not there yet, but meant all the same.
        let is_loading = chains.as_ref().is_ok_and(|chains| firewalld::is_loading(chains));
        if !is_loading || self.nftables.is_none() {
            self.nftables = Some(forwarding(chains));
        }
        self.legacy = read_legacy();
    }

    /// Reads what changes without an announcement; whether it has.
    pub fn reread_legacy(&mut self) -> bool {
        let before = std::mem::replace(&mut self.legacy, read_legacy());
        self.legacy != before
    }

    /// Both as one.
    pub fn forwarding(&self) -> Forwarding {
        let (nftables, legacy) = (self.nftables.clone().unwrap_or_default(), self.legacy.clone());
        Forwarding {
            rules: nftables.rules.or(legacy.rules),
            stops: nftables.stops.or(legacy.stops),
            unreadable: nftables.unreadable.or(legacy.unreadable),
        }
    }
}

/// Every chain of nftables and of iptables-legacy.
///
/// # Errors
/// Where the kernel does not list them.
pub async fn chains() -> Result<Vec<Chain>, NetlinkError> {
    let mut chains = nftables_chains().await?;
    chains.extend(legacy::chains()?);
    Ok(chains)
}

fn read_legacy() -> Forwarding {
    forwarding(legacy::chains())
}

fn forwarding(chains: Result<Vec<Chain>, NetlinkError>) -> Forwarding {
    match chains {
        Ok(chains) => Forwarding::of(&chains),
        Err(error) => {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            let unreadable = format!("{error}: {}", cause.unwrap_or_default());
            Forwarding { unreadable: Some(unreadable), ..Forwarding::default() }
        }
    }
}

async fn nftables_chains() -> Result<Vec<Chain>, NetlinkError> {
    let read = async {
        let socket = TokioSocket::new(NETLINK_NETFILTER)?;
        let mut ruleset = nftables::Ruleset::default();
        for list in [nftables::GET_CHAINS, nftables::GET_RULES] {
            exchange(&socket, &request(list), |kind, message| ruleset.add(kind, message)).await?;
        }
        Ok(ruleset.chains())
    };
    match read.await {
        // A kernel without nf_tables, or without netfilter's netlink at all, has no rules of it.
        Err(error) if is_absence(&error) => Ok(Vec::new()),
        result => {
            result.map_err(|source| NetlinkError::Failed { request: Request::ListRules, source })
        }
    }
}

/// The answer to a request for a subsystem that is not there.
pub(super) fn is_absence(error: &io::Error) -> bool {
    let absent = [Errno::EINVAL, Errno::EOPNOTSUPP, Errno::EPROTONOSUPPORT];
    absent.iter().any(|errno| error.raw_os_error() == Some(*errno as i32))
}

/// A request without attributes: the netlink header and a `struct nfgenmsg` of zeros, which means any
/// family.
fn request(list: u16) -> [u8; 20] {
    let mut bytes = [0; 20];
    let mut header = NetlinkBuffer::new(&mut bytes);
    header.set_length(20);
    header.set_message_type(list);
    header.set_flags(NLM_F_REQUEST | NLM_F_DUMP);
    bytes
}
