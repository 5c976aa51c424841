//! The switches and timers that the programs read: one element, written by the daemon.

mod timeout;

pub use timeout::{Profile, Timeout};

use crate::pod::map_type;

/// The data path's configuration. Layout: 128 bytes, native order.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DatapathConfig {
    /// The network namespace cookie of the host; socket hooks leave every other namespace alone.
    pub netns_cookie: u64,
    /// The key of the source port hash: ports must not be guessed from outside (RFC 6056).
    pub secret: [u64; 2],
    /// How long a flow lives without a packet, by [`Timeout`]. Units: seconds.
    pub timeout_secs: [u32; Timeout::COUNT],
    /// Bits of [`ConfigFlags`].
    pub flags: u32,
    /// The most flows of one family; the tables of both families are of one size.
    pub max_flows: u32,
}

map_type! {
    DatapathConfig = 128;
}

/// Bits of [`DatapathConfig::flags`].
pub struct ConfigFlags;

impl ConfigFlags {
    /// Count packets and bytes in every connection table entry.
    pub const FLOW_ACCOUNTING: u32 = 1;
    /// At least one range of ports is published, so the range table is worth a look.
    pub const RANGES_PUBLISHED: u32 = 1 << 1;
    /// A lone ACK picks up a connection in the middle (`nf_conntrack_tcp_loose`).
    pub const TCP_LOOSE: u32 = 1 << 2;
    /// At least one network lowers the MSS of its connections.
    pub const MSS_CLAMPED: u32 = 1 << 3;
    /// A network's source ports are given independently of destinations, so mappings are worth a look.
    pub const MAPPINGS: u32 = 1 << 4;
    /// No flow begins with these programs. Another netd's come after them and judge every packet of no flow that
    /// these know; or these come after others and are not to begin with it yet.
    pub const SUCCEEDED: u32 = 1 << 5;
    /// The flags that follow from what the other maps hold.
    pub const OF_CONTENTS: u32 = Self::RANGES_PUBLISHED | Self::MSS_CLAMPED | Self::MAPPINGS;
}

/// The elements of the map of reserved ports: a bit a port.
pub const RESERVED_WORDS: u32 = (1 << 16) / u64::BITS;

/// Where the map of reserved ports has a port: the element, and the bit in it.
#[inline(always)]
pub const fn reserved_port(port: u16) -> (u32, u64) {
    (port as u32 / u64::BITS, 1 << (port as u32 % u64::BITS))
}

impl DatapathConfig {
    /// The configuration with the timers and switches of Linux.
    pub const DEFAULT: Self = {
        Self {
            netns_cookie: 0,
            secret: [0; 2],
            timeout_secs: Timeout::of_profile(Profile::Linux),
            flags: ConfigFlags::TCP_LOOSE,
            max_flows: u32::MAX,
        }
    };

    /// How long a flow with this timer lives without a packet.
    #[inline(always)]
    pub fn timeout(&self, timeout: Timeout) -> u32 {
        self.timer(timeout as u32)
    }

    /// The same of the timer with a number.
    #[inline(always)]
    pub fn timer(&self, number: u32) -> u32 {
        self.timeout_secs.get(number as usize).copied().unwrap_or(0)
    }
}
