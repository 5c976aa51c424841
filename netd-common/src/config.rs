//! The switches and timers that the programs read: one element, written by the daemon.

use crate::pod::map_type;

/// The data path's configuration. Layout: 112 bytes, native order.
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
    /// Always zero; brings the size to a multiple of 8.
    pub reserved: [u32; 10],
}

map_type! {
    DatapathConfig = 112;
}

/// Bits of [`DatapathConfig::flags`].
pub struct ConfigFlags;

impl ConfigFlags {
    /// Count packets and bytes in every connection table entry.
    pub const FLOW_ACCOUNTING: u32 = 1;
    /// At least one range of ports is published, so the range table is worth a look.
    pub const RANGES_PUBLISHED: u32 = 1 << 1;
}

/// A timer of the connection table, named as in conntrack(8) and in `[timeouts]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Timeout {
    /// A SYN without an answer.
    TcpSynSent,
    /// A SYN-ACK without its ACK.
    TcpSynRecv,
    /// An established connection.
    TcpEstablished,
    /// One side has closed.
    TcpFinWait,
    /// Both sides have closed.
    TcpTimeWait,
    /// Reset.
    TcpClose,
    /// Picked up in the middle, heard from one side.
    TcpUnacknowledged,
    /// UDP without a reply.
    Udp,
    /// UDP with packets both ways.
    UdpStream,
    /// ICMP echo.
    Icmp,
    /// Any other protocol.
    Generic,
}

impl Timeout {
    /// How many timers there are.
    pub const COUNT: usize = 11;

    /// Every timer with its name and its default: the kernel's own conntrack values
    /// (`net/netfilter/nf_conntrack_proto_*.c`), which is what iptables users have.
    pub const LINUX: [(Self, &'static str, u32); Self::COUNT] = [
        (Self::TcpSynSent, "tcp_syn_sent", 120),
        (Self::TcpSynRecv, "tcp_syn_recv", 60),
        (Self::TcpEstablished, "tcp_established", 432_000),
        (Self::TcpFinWait, "tcp_fin_wait", 120),
        (Self::TcpTimeWait, "tcp_time_wait", 120),
        (Self::TcpClose, "tcp_close", 10),
        (Self::TcpUnacknowledged, "tcp_unacknowledged", 300),
        (Self::Udp, "udp", 30),
        (Self::UdpStream, "udp_stream", 120),
        (Self::Icmp, "icmp", 30),
        (Self::Generic, "generic", 600),
    ];
}

impl DatapathConfig {
    /// The configuration with default timers and every switch off.
    pub const DEFAULT: Self = {
        let mut timeout_secs = [0; Timeout::COUNT];
        let mut i = 0;
        while i < Timeout::COUNT {
            timeout_secs[Timeout::LINUX[i].0 as usize] = Timeout::LINUX[i].2;
            i += 1;
        }
        Self { netns_cookie: 0, secret: [0; 2], timeout_secs, flags: 0, reserved: [0; 10] }
    };

    /// How long a flow with this timer lives without a packet.
    #[inline(always)]
    pub fn timeout(&self, timeout: Timeout) -> u32 {
        self.timeout_secs.get(timeout as usize).copied().unwrap_or(0)
    }
}
