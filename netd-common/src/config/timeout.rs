//! The timers of the connection table, by protocol and state, and the sets of values to begin with.

/// A timer of the connection table, named as in conntrack(8) and in `[timeouts]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Timeout {
    /// A SYN without an answer.
    TcpSynSent,
    /// A SYN from either side, none of them acknowledged.
    TcpSynSent2,
    /// A SYN-ACK without its ACK.
    TcpSynRecv,
    /// An established connection.
    TcpEstablished,
    /// One side has closed.
    TcpFinWait,
    /// One side has closed, and the other has said that it knows.
    TcpCloseWait,
    /// Both sides have closed.
    TcpLastAck,
    /// Both sides have closed, and both know.
    TcpTimeWait,
    /// Reset.
    TcpClose,
    /// Picked up in the middle, heard from one side.
    TcpUnacknowledged,
    /// UDP without a reply, or with one soon after and nothing more.
    Udp,
    /// UDP that goes on in both directions.
    UdpStream,
    /// ICMP echo.
    Icmp,
    /// ICMPv6 echo.
    Icmpv6,
    /// SCTP, shut down or aborted.
    SctpClosed,
    /// SCTP: an INIT.
    SctpCookieWait,
    /// SCTP: a COOKIE ECHO.
    SctpCookieEchoed,
    /// An established association.
    SctpEstablished,
    /// SCTP: a SHUTDOWN of the side that began.
    SctpShutdownSent,
    /// SCTP: a SHUTDOWN of the other side.
    SctpShutdownRecd,
    /// SCTP: a SHUTDOWN ACK.
    SctpShutdownAckSent,
    /// SCTP: a HEARTBEAT of an association whose beginning nobody has seen.
    SctpHeartbeatSent,
    /// Any other protocol.
    Generic,
    /// An endpoint-independent mapping by which its container has sent nothing.
    Mapping,
}

/// A set of timeouts to begin with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Profile {
    /// The kernel's own conntrack values (`net/netfilter/nf_conntrack_proto_*.c`), which is what iptables
    /// users have.
    #[default]
    Linux,
    /// What the RFCs ask of a NAT: 4787 REQ-5, 5382 REQ-5, 5508 REQ-2, 7857 section 2.
    Rfc,
    /// Short ones, for busy hosts whose connections do not idle.
    Lean,
}

impl Timeout {
    /// How many timers there are.
    pub const COUNT: usize = 24;

    /// Every timer with its name and its values by [`Profile`]. Units: seconds.
    pub const ALL: [(Self, &'static str, [u32; 3]); Self::COUNT] = [
        (Self::TcpSynSent, "tcp_syn_sent", [120, 240, 20]),
        (Self::TcpSynSent2, "tcp_syn_sent2", [120, 240, 20]),
        (Self::TcpSynRecv, "tcp_syn_recv", [60, 240, 20]),
        // Five days; two hours and four minutes; an hour.
        (Self::TcpEstablished, "tcp_established", [432_000, 7_440, 3_600]),
        (Self::TcpFinWait, "tcp_fin_wait", [120, 240, 60]),
        (Self::TcpCloseWait, "tcp_close_wait", [60, 240, 60]),
        (Self::TcpLastAck, "tcp_last_ack", [30, 240, 15]),
        (Self::TcpTimeWait, "tcp_time_wait", [120, 240, 15]),
        (Self::TcpClose, "tcp_close", [10, 240, 5]),
        (Self::TcpUnacknowledged, "tcp_unacknowledged", [300, 300, 60]),
        (Self::Udp, "udp", [30, 300, 15]),
        (Self::UdpStream, "udp_stream", [120, 300, 60]),
        (Self::Icmp, "icmp", [30, 60, 10]),
        (Self::Icmpv6, "icmpv6", [30, 60, 10]),
        (Self::SctpClosed, "sctp_closed", [10, 10, 5]),
        (Self::SctpCookieWait, "sctp_cookie_wait", [3, 3, 3]),
        (Self::SctpCookieEchoed, "sctp_cookie_echoed", [3, 3, 3]),
        (Self::SctpEstablished, "sctp_established", [210, 7_440, 210]),
        (Self::SctpShutdownSent, "sctp_shutdown_sent", [3, 3, 3]),
        (Self::SctpShutdownRecd, "sctp_shutdown_recd", [3, 3, 3]),
        (Self::SctpShutdownAckSent, "sctp_shutdown_ack_sent", [3, 3, 3]),
        (Self::SctpHeartbeatSent, "sctp_heartbeat_sent", [30, 30, 30]),
        (Self::Generic, "generic", [600, 600, 120]),
        (Self::Mapping, "mapping", [120, 300, 60]),
    ];

    /// The values of a profile, by timer. Units: seconds.
    pub const fn of_profile(profile: Profile) -> [u32; Self::COUNT] {
        let mut secs = [0; Self::COUNT];
        let mut i = 0;
        while i < Self::COUNT {
            secs[Self::ALL[i].0 as usize] = Self::ALL[i].2[profile as usize];
            i += 1;
        }
        secs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_timer_has_its_place_and_a_value_in_each_profile() {
        for (index, (timeout, name, secs)) in Timeout::ALL.iter().enumerate() {
            assert_eq!(*timeout as usize, index, "{name}");
            assert!(secs.iter().all(|&secs| secs > 0), "{name}");
        }
    }

    /// RFC 4787 REQ-5, RFC 5382 REQ-5, RFC 5508 REQ-2, RFC 7857 section 2.2.
    #[test]
    fn the_rfc_profile_is_what_the_rfcs_ask_for() {
        let secs = Timeout::of_profile(Profile::Rfc);
        let at_least = |timeout: Timeout, least: u32| {
            assert!(secs[timeout as usize] >= least, "{timeout:?}");
        };
        at_least(Timeout::TcpEstablished, 2 * 3600 + 4 * 60);
        for transitory in [
            Timeout::TcpSynSent,
            Timeout::TcpSynSent2,
            Timeout::TcpSynRecv,
            Timeout::TcpFinWait,
            Timeout::TcpCloseWait,
            Timeout::TcpLastAck,
            Timeout::TcpTimeWait,
            Timeout::TcpClose,
            Timeout::TcpUnacknowledged,
        ] {
            at_least(transitory, 240);
        }
        at_least(Timeout::Mapping, 240);
        at_least(Timeout::Udp, 300);
        at_least(Timeout::UdpStream, 300);
        at_least(Timeout::Icmp, 60);
        at_least(Timeout::Icmpv6, 60);
    }
}
