//! The state of a flow, which follows from what its two directions have carried, and its timer.

use crate::{config::Timeout, conntrack::Seen, header::proto};

/// The state of a whole flow, in conntrack(8)'s words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlowState {
    /// A SYN, unanswered.
    SynSent,
    /// A SYN and its SYN-ACK.
    SynRecv,
    /// Acknowledged in both directions.
    Established,
    /// Picked up in the middle and heard from one side only.
    Unacknowledged,
    /// One side has closed.
    FinWait,
    /// Both sides have closed.
    TimeWait,
    /// One side has reset the connection.
    Close,
    /// Not TCP: no reply yet.
    Unreplied,
    /// Not TCP: packets in both directions.
    Replied,
}

impl FlowState {
    /// The state that follows from what both directions have carried.
    #[inline(always)]
    pub fn of(proto: u8, original: u8, reply: u8) -> Self {
        if proto != proto::TCP {
            return if reply & Seen::PACKET != 0 { Self::Replied } else { Self::Unreplied };
        }
        let (both, either) = (original & reply, original | reply);
        if either & Seen::RST != 0 {
            Self::Close
        } else if both & Seen::FIN != 0 {
            Self::TimeWait
        } else if either & Seen::FIN != 0 {
            Self::FinWait
        } else if both & Seen::ACK != 0 {
            Self::Established
        } else if reply & Seen::SYN != 0 {
            Self::SynRecv
        } else if original & Seen::SYN != 0 {
            Self::SynSent
        } else {
            Self::Unacknowledged
        }
    }

    /// Whether a SYN on this flow begins a new connection.
    #[inline(always)]
    pub fn is_closing(self) -> bool {
        matches!(self, Self::TimeWait | Self::Close)
    }

    /// The timer of this state.
    #[inline(always)]
    pub fn timeout(self, proto: u8) -> Timeout {
        match self {
            Self::SynSent => Timeout::TcpSynSent,
            Self::SynRecv => Timeout::TcpSynRecv,
            Self::Established => Timeout::TcpEstablished,
            Self::Unacknowledged => Timeout::TcpUnacknowledged,
            Self::FinWait => Timeout::TcpFinWait,
            Self::TimeWait => Timeout::TcpTimeWait,
            Self::Close => Timeout::TcpClose,
            Self::Unreplied | Self::Replied => match (proto, self) {
                (proto::UDP, Self::Replied) => Timeout::UdpStream,
                (proto::UDP, _) => Timeout::Udp,
                (proto::ICMP | proto::ICMPV6, _) => Timeout::Icmp,
                _ => Timeout::Generic,
            },
        }
    }

    /// The word of conntrack(8) for the state.
    pub fn name(self) -> &'static str {
        match self {
            Self::SynSent => "SYN_SENT",
            Self::SynRecv => "SYN_RECV",
            Self::Established => "ESTABLISHED",
            Self::Unacknowledged => "UNACKNOWLEDGED",
            Self::FinWait => "FIN_WAIT",
            Self::TimeWait => "TIME_WAIT",
            Self::Close => "CLOSE",
            Self::Unreplied => "UNREPLIED",
            Self::Replied => "REPLIED",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::header::proto::{ICMP, TCP, UDP};

    #[track_caller]
    fn check(proto: u8, original: u8, reply: u8, expected: FlowState) {
        assert_eq!(FlowState::of(proto, original, reply), expected);
    }

    #[test]
    fn tcp_states_follow_the_flags_of_both_directions() {
        const P: u8 = Seen::PACKET;
        const SA: u8 = P | Seen::SYN | Seen::ACK;
        check(TCP, P | Seen::SYN, 0, FlowState::SynSent);
        check(TCP, P | Seen::SYN, SA, FlowState::SynRecv);
        check(TCP, SA, SA, FlowState::Established);
        check(TCP, P | Seen::ACK, 0, FlowState::Unacknowledged);
        check(TCP, SA | Seen::FIN, SA, FlowState::FinWait);
        check(TCP, SA, SA | Seen::FIN, FlowState::FinWait);
        check(TCP, SA | Seen::FIN, SA | Seen::FIN, FlowState::TimeWait);
        check(TCP, SA | Seen::RST, SA, FlowState::Close);
        check(TCP, P | Seen::SYN, P | Seen::RST | Seen::ACK, FlowState::Close);
        check(UDP, P, 0, FlowState::Unreplied);
        check(UDP, P, P, FlowState::Replied);
        check(ICMP, P, P, FlowState::Replied);
    }
}
