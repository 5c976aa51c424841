//! The state of a flow, which follows from what its two directions have carried, and its timer.
//!
//! The states of TCP are those that `nf_conntrack_proto_tcp` has, the states of SCTP those of
//! `nf_conntrack_proto_sctp`. Neither is stored: each direction keeps what it has carried ([`Seen`]), and
//! whoever asks puts the two together.

use crate::{config::Timeout, conntrack::Seen, header::proto};

macro_rules! states {
    ($($(#[doc = $doc:literal])+ $name:ident = $text:literal;)+) => {
        /// The state of a whole flow, in conntrack(8)'s words.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum FlowState {
            $($(#[doc = $doc])+ $name,)+
        }

        impl FlowState {
            /// Every state, those of TCP first.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// The word of conntrack(8) for the state.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)+
                }
            }
        }
    };
}

states! {
    /// A SYN, unanswered.
    SynSent = "SYN_SENT";
    /// A SYN from either side: both open at once, and neither has acknowledged.
    SynSent2 = "SYN_SENT2";
    /// A SYN and its SYN-ACK.
    SynRecv = "SYN_RECV";
    /// Acknowledged in both directions; an SCTP association that is set up.
    Established = "ESTABLISHED";
    /// Picked up in the middle and heard from one side only.
    Unacknowledged = "UNACKNOWLEDGED";
    /// One side has closed.
    FinWait = "FIN_WAIT";
    /// One side has closed and the other knows, but goes on.
    CloseWait = "CLOSE_WAIT";
    /// Both sides have closed; the last acknowledgement is missing.
    LastAck = "LAST_ACK";
    /// Both sides have closed, and both know.
    TimeWait = "TIME_WAIT";
    /// The last that one side has said is a reset.
    Close = "CLOSE";
    /// Neither TCP nor SCTP: no reply yet.
    Unreplied = "UNREPLIED";
    /// Neither TCP nor SCTP: a question and its answer.
    Replied = "REPLIED";
    /// Neither TCP nor SCTP: it went on after the first answer.
    Assured = "ASSURED";
    /// SCTP: shut down, or aborted.
    Closed = "CLOSED";
    /// SCTP: an INIT, and perhaps its INIT ACK.
    CookieWait = "COOKIE_WAIT";
    /// SCTP: a COOKIE ECHO.
    CookieEchoed = "COOKIE_ECHOED";
    /// SCTP: a SHUTDOWN of the side that began.
    ShutdownSent = "SHUTDOWN_SENT";
    /// SCTP: a SHUTDOWN of the other side.
    ShutdownRecd = "SHUTDOWN_RECD";
    /// SCTP: a SHUTDOWN ACK.
    ShutdownAckSent = "SHUTDOWN_ACK_SENT";
    /// SCTP: picked up in the middle and heard from one side only.
    HeartbeatSent = "HEARTBEAT_SENT";
    /// No flow, but a source port that is given independently of destinations.
    Mapping = "MAPPING";
}

impl FlowState {
    /// The state that follows from what both directions have carried.
    #[inline(always)]
    pub fn of(proto: u8, original: u8, reply: u8) -> Self {
        match proto {
            proto::TCP => Self::of_tcp(original, reply),
            proto::SCTP => Self::of_sctp(original, reply),
            _ if reply & Seen::PACKET == 0 => Self::Unreplied,
            _ if (original | reply) & Seen::LATER == 0 => Self::Replied,
            _ => Self::Assured,
        }
    }

    #[inline(always)]
    fn of_tcp(original: u8, reply: u8) -> Self {
        let (both, either) = (original & reply, original | reply);
        if either & Seen::RST != 0 {
            Self::Close
        } else if both & Seen::ACK != 0 {
            Self::of_acknowledged(both, either)
        } else if reply & (Seen::SYN | Seen::ACK) == Seen::SYN {
            Self::SynSent2
        } else if reply & Seen::SYN != 0 {
            Self::SynRecv
        } else if original & Seen::SYN != 0 {
            Self::SynSent
        } else {
            Self::Unacknowledged
        }
    }

    /// A FIN counts once both sides have acknowledged something: before that there is nothing to close.
    #[inline(always)]
    fn of_acknowledged(both: u8, either: u8) -> Self {
        if both & Seen::FIN != 0 {
            if both & Seen::FIN_ACKED != 0 { Self::TimeWait } else { Self::LastAck }
        } else if either & Seen::FIN == 0 {
            Self::Established
        } else if either & Seen::FIN_ACKED != 0 {
            Self::CloseWait
        } else {
            Self::FinWait
        }
    }

    #[inline(always)]
    fn of_sctp(original: u8, reply: u8) -> Self {
        let (both, either) = (original & reply, original | reply);
        if either & Seen::RST != 0 {
            Self::Closed
        } else if either & Seen::SHUTDOWN_ACK != 0 {
            Self::ShutdownAckSent
        } else if original & Seen::FIN != 0 {
            Self::ShutdownSent
        } else if reply & Seen::FIN != 0 {
            Self::ShutdownRecd
        } else if both & Seen::ACK != 0 {
            Self::Established
        } else if either & Seen::ACK != 0 {
            Self::CookieEchoed
        } else if either & Seen::SYN != 0 {
            Self::CookieWait
        } else if reply & Seen::PACKET != 0 {
            Self::Established
        } else {
            Self::HeartbeatSent
        }
    }

    /// Whether a SYN on this flow begins a new connection.
    #[inline(always)]
    pub fn is_closing(self) -> bool {
        matches!(
            self,
            Self::LastAck | Self::TimeWait | Self::Close | Self::ShutdownAckSent | Self::Closed
        )
    }

    /// Whether the flow gives way when the table runs full: it is not set up, or closing. What is set up
    /// never does, be it half closed.
    #[inline(always)]
    pub fn gives_way(self) -> bool {
        !matches!(
            self,
            Self::Established
                | Self::FinWait
                | Self::CloseWait
                | Self::Assured
                | Self::ShutdownSent
                | Self::ShutdownRecd
                | Self::Mapping
        )
    }

    /// A bit of [`Self::kinds`]: see [`Self::is_closing`].
    pub const CLOSING: u16 = 1;
    /// A bit of [`Self::kinds`]: see [`Self::gives_way`].
    pub const GIVING_WAY: u16 = 1 << 1;

    /// What kinds of state this is one of, in bits that one instruction compares.
    #[inline(always)]
    pub fn kinds(self) -> u16 {
        let closing = u16::from(self.is_closing()) * Self::CLOSING;
        let giving_way = u16::from(self.gives_way()) * Self::GIVING_WAY;
        closing | giving_way
    }

    /// The timer of this state.
    #[inline(always)]
    pub fn timeout(self, proto: u8) -> Timeout {
        match self {
            Self::SynSent => Timeout::TcpSynSent,
            Self::SynSent2 => Timeout::TcpSynSent2,
            Self::SynRecv => Timeout::TcpSynRecv,
            Self::Established if proto == proto::SCTP => Timeout::SctpEstablished,
            Self::Established => Timeout::TcpEstablished,
            Self::Unacknowledged => Timeout::TcpUnacknowledged,
            Self::FinWait => Timeout::TcpFinWait,
            Self::CloseWait => Timeout::TcpCloseWait,
            Self::LastAck => Timeout::TcpLastAck,
            Self::TimeWait => Timeout::TcpTimeWait,
            Self::Close => Timeout::TcpClose,
            Self::Closed => Timeout::SctpClosed,
            Self::CookieWait => Timeout::SctpCookieWait,
            Self::CookieEchoed => Timeout::SctpCookieEchoed,
            Self::ShutdownSent => Timeout::SctpShutdownSent,
            Self::ShutdownRecd => Timeout::SctpShutdownRecd,
            Self::ShutdownAckSent => Timeout::SctpShutdownAckSent,
            Self::HeartbeatSent => Timeout::SctpHeartbeatSent,
            Self::Mapping => Timeout::Mapping,
            Self::Unreplied | Self::Replied | Self::Assured => match (proto, self) {
                (proto::UDP, Self::Assured) => Timeout::UdpStream,
                (proto::UDP, _) => Timeout::Udp,
                (proto::ICMP, _) => Timeout::Icmp,
                (proto::ICMPV6, _) => Timeout::Icmpv6,
                _ => Timeout::Generic,
            },
        }
    }
}

/// What a flow's state says about its end.
#[derive(Clone, Copy, Debug)]
pub struct Lifetime {
    timer: Timeout,
    kinds: u16,
}

impl Lifetime {
    /// Of a flow whose two directions have carried `original` and `reply`.
    #[inline(always)]
    pub fn of(proto: u8, original: u8, reply: u8) -> Self {
        let state = FlowState::of(proto, original, reply);
        Self { timer: state.timeout(proto), kinds: state.kinds() }
    }

    /// Whether the state is of a kind that `kinds` has the bit of ([`FlowState::CLOSING`] and so on).
    #[inline(always)]
    pub fn is_any_of(self, kinds: u16) -> bool {
        self.kinds & kinds != 0
    }

    /// The number of the state's [`Timeout`].
    #[inline(always)]
    pub fn timer(self) -> u32 {
        self.timer as u32
    }
}

#[cfg(test)]
mod tests;
