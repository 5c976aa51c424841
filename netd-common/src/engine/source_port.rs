//! Which source port a flow gets: its own if it is free, else an unpredictable one.

use crate::{
    address::{Address, Port},
    conntrack::CtKey,
    engine::published,
    header::proto,
    siphash::siphash13,
    tables::{FamilyTables, SocketTuple},
};

/// How many ports are tried. With a share `u` of all ports to one destination in use, all are taken
/// with probability `u` to this power: 3 % at nine tenths, less than 1 in 1,000 at four fifths.
pub(super) const ATTEMPTS: u32 = 32;

/// The lowest port that is given in place of another (RFC 4787 REQ-3: well-known ports are left alone).
const FIRST: u16 = 1024;
const SPAN: u64 = (u16::MAX - FIRST) as u64 + 1;

/// The candidates for one flow, in order.
pub(super) struct SourcePorts {
    wanted: Port,
    seed: u64,
}

impl SourcePorts {
    /// The candidates for the flow of `key`: a keyed hash of the tuple, so that who does not know the
    /// key cannot guess them (RFC 6056 section 3.3.3).
    #[inline(always)]
    pub(super) fn new<A: Address, T: FamilyTables<A>>(tables: &T, key: &CtKey<A>) -> Self {
        let [a, b] = key.src.words();
        let [c, d] = key.dst.words();
        let ports = u64::from(key.sport.number()) << 32
            | u64::from(key.dport.number()) << 16
            | u64::from(key.proto);
        let seed = siphash13(tables.secret(), [a, b, c, d, ports]);
        Self { wanted: key.sport, seed }
    }

    /// The candidate of an attempt: first the flow's own port, unless it is zero, which no reply can
    /// be told apart by.
    #[inline(always)]
    pub(super) fn candidate(&self, attempt: u32) -> Port {
        if attempt == 0 && self.wanted != Port::ZERO {
            return self.wanted;
        }
        // A multiplicative step spreads neighbouring attempts over the whole span.
        let mixed = (self.seed ^ u64::from(attempt)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Port::new(FIRST + ((mixed >> 32) % SPAN) as u16)
    }
}

/// Whether packets with this reply key belong to the host: to a published port or to a socket.
#[inline(always)]
pub(super) fn is_taken_by_host<A: Address, T: FamilyTables<A>>(
    tables: &T,
    reply_key: &CtKey<A>,
) -> bool {
    if reply_key.proto != proto::TCP && reply_key.proto != proto::UDP {
        return false;
    }
    published::find(tables, reply_key.dst, reply_key.proto, reply_key.dport).is_some()
        || tables.host_socket(reply_key.proto, &SocketTuple::of(reply_key)).is_some()
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, vec::Vec};

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn candidates_are_allowed_ports_that_rarely_repeat(wanted: u16, seed: u64) {
            let ports = SourcePorts { wanted: Port::new(wanted), seed };
            let tried: Vec<u16> = (0..ATTEMPTS).map(|i| ports.candidate(i).number()).collect();
            if wanted != 0 {
                prop_assert_eq!(tried[0], wanted);
            }
            prop_assert!(tried[1..].iter().all(|&port| port >= FIRST));
            let distinct: BTreeSet<_> = tried.iter().collect();
            prop_assert!(distinct.len() >= ATTEMPTS as usize - 2);
        }
    }
}
