//! What one direction of a flow has carried: the half of its state that the direction writes itself.

use crate::header::tcp_flags;

/// Bits of [`crate::conntrack::CtEntry::seen`]: TCP's own flags, where they stand in the header, and some
/// more. So a header is taken over by one mask, without a branch for each flag that the verifier would
/// follow. SCTP's chunks are put in TCP's words ([`Seen::of_chunk`]).
pub struct Seen;

impl Seen {
    /// A TCP FIN, an SCTP SHUTDOWN.
    pub const FIN: u8 = tcp_flags::FIN;
    /// A TCP SYN, an SCTP INIT or INIT ACK.
    pub const SYN: u8 = tcp_flags::SYN;
    /// The last that was sent is a TCP RST, an SCTP ABORT or SHUTDOWN COMPLETE.
    pub const RST: u8 = tcp_flags::RST;
    /// A TCP ACK, an SCTP COOKIE ECHO or COOKIE ACK.
    pub const ACK: u8 = tcp_flags::ACK;
    /// Any packet at all. (Where TCP has PSH, which says nothing of the connection's state.)
    pub const PACKET: u8 = 1 << 3;
    /// A TCP ACK after the other side's FIN.
    pub const FIN_ACKED: u8 = 1 << 5;
    /// A packet more than [`Seen::STREAM_SECS`] after the flow's first.
    pub const LATER: u8 = 1 << 6;
    /// An SCTP SHUTDOWN ACK.
    pub const SHUTDOWN_ACK: u8 = 1 << 7;
    /// The flags that TCP's state follows from.
    pub const TCP: u8 = Self::FIN | Self::SYN | Self::RST | Self::ACK;

    /// From when on a flow that goes on is more than a question and its answer.
    /// Source: `stream_ts` in `nf_conntrack_proto_udp.c`.
    pub const STREAM_SECS: u32 = 2;

    /// What a direction that had carried `seen` has carried after one more packet, where the other
    /// direction has carried `peer`.
    ///
    /// A reset is forgotten as soon as its sender goes on to acknowledge: then it was not the sender's
    /// (RFC 7857 section 2.2: a packet after the RST brings the connection back). Without branches: it
    /// runs for each packet, and the verifier would follow each.
    #[inline(always)]
    pub fn after(seen: u8, peer: u8, packet: u8) -> u8 {
        const {
            assert!(Self::ACK >> 2 == Self::RST);
            assert!(Self::ACK << 1 == Self::FIN_ACKED && Self::FIN << 5 == Self::FIN_ACKED);
        }
        let ack = packet & Self::ACK;
        let fin_acked = ack << 1 & (peer & Self::FIN) << 5;
        seen & !(ack >> 2) | packet | fin_acked
    }

    /// Whether a packet shows that its flow is in use, which has made `after` of what its direction had
    /// carried: a SYN or a RST that says nothing new does not (RFC 7857 section 5).
    #[inline(always)]
    pub fn refreshes(seen: u8, after: u8, packet: u8) -> bool {
        packet & (Self::SYN | Self::RST) == 0 || after != seen
    }

    /// What an SCTP chunk is in these words. Source: RFC 9260 section 3.2.
    #[inline(always)]
    pub fn of_chunk(kind: u8) -> u8 {
        let seen = match kind {
            1 | 2 => Self::SYN,
            10 | 11 => Self::ACK,
            7 => Self::FIN,
            8 => Self::SHUTDOWN_ACK,
            6 | 14 => Self::RST,
            _ => 0,
        };
        seen | Self::PACKET
    }
}
