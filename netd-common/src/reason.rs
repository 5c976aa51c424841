//! Why netd let a packet pass or dropped it: one enum, one verdict each, one counter each.

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on through the kernel, translated or untouched as the reason says.
    Pass,
    /// It is handed over past the host's stack: to a container, or to an uplink's next hop.
    Redirect,
    /// It ends here.
    Drop,
}

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $name:ident = $text:literal, $verdict:ident;)+) => {
        /// Why a packet passed or was dropped. The number is the index of its counter.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[repr(u32)]
        pub enum Reason {
            $($(#[doc = $doc])+ $name,)+
        }

        impl Reason {
            /// Every reason, in the order of the counters.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// The verdict that belongs to the reason.
            #[inline(always)]
            pub const fn verdict(self) -> Verdict {
                match self {
                    $(Self::$name => Verdict::$verdict,)+
                }
            }

            /// The reason whose number is `code`.
            pub const fn from_code(code: u32) -> Option<Self> {
                match code {
                    $(code if code == Self::$name as u32 => Some(Self::$name),)+
                    _ => None,
                }
            }

            /// The reason as `netd stats` shows it.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)+
                }
            }

            /// The same with redirection, for a packet that need not take the host's stack.
            #[inline(always)]
            #[must_use]
            pub const fn redirected(self) -> Self {
                match self {
                    Self::Published => Self::PublishedRedirected,
                    Self::PublishedReply => Self::PublishedReplyRedirected,
                    Self::Masqueraded => Self::MasqueradedRedirected,
                    Self::MasqueradeReply => Self::MasqueradeReplyRedirected,
                    Self::Mapped => Self::MappedRedirected,
                    Self::MappedReply => Self::MappedReplyRedirected,
                    Self::PrefixTranslated => Self::PrefixTranslatedRedirected,
                    Self::SameNetwork => Self::SameNetworkRedirected,
                    Self::NetworksAllowed => Self::NetworksAllowedRedirected,
                    Self::IcmpErrorOfFlow => Self::IcmpErrorOfFlowRedirected,
                    _ => Self::UntranslatedRedirected,
                }
            }

            /// Whether the packet is of a flow, or has been changed or kept: another judgement would come too late.
            #[inline(always)]
            pub const fn is_done(self) -> bool {
                matches!(self.verdict(), Verdict::Redirect)
                    || matches!(
                        self,
                        Self::Published
                            | Self::PublishedReply
                            | Self::Masqueraded
                            | Self::MasqueradeReply
                            | Self::Mapped
                            | Self::MappedReply
                            | Self::PrefixTranslated
                            | Self::Untranslated
                            | Self::IcmpErrorOfFlow
                            | Self::FlowToContainer
                            | Self::NotDeliverable
                            | Self::FragmentHeld
                    )
            }

            /// The reason in a sentence.
            pub const fn explanation(self) -> &'static str {
                match self {
                    $(Self::$name => concat!($($doc),+).trim_ascii(),)+
                }
            }
        }
    };
}

reasons! {
    /// Not IPv4 or IPv6, ARP for one: never touched.
    NotIp = "not_ip", Pass;
    /// A VLAN tag: the VLAN's own device sees the packet without it.
    Vlan = "vlan", Pass;
    /// Multicast or broadcast.
    Multicast = "multicast", Pass;
    /// Not addressed to this host's MAC address.
    OtherHost = "other_host", Pass;
    /// A link-local address, neighbour discovery for one.
    LinkLocal = "link_local", Pass;
    /// The host's own packet, leaving.
    HostTraffic = "host_traffic", Pass;
    /// From the host to a container.
    HostToContainer = "host_to_container", Pass;
    /// From a container to the host.
    ContainerToHost = "container_to_host", Pass;
    /// Between containers of one network.
    SameNetwork = "same_network", Pass;
    /// Between networks that are allowed to talk.
    NetworksAllowed = "networks_allowed", Pass;
    /// From a container to the outside, to be translated on the uplink.
    ContainerToOutside = "container_to_outside", Pass;
    /// To a container, part of a flow that is known.
    FlowToContainer = "flow_to_container", Pass;
    /// Neither published nor of a flow that netd made.
    NotOurs = "not_ours", Pass;
    /// A fragment for the host, or one that came before the first one.
    FragmentToHost = "fragment_to_host", Pass;
    /// An ICMP error for the host.
    IcmpErrorToHost = "icmp_error_to_host", Pass;
    /// To a published port: destination translated.
    Published = "published", Pass;
    /// The reply of a published port: source translated back.
    PublishedReply = "published_reply", Pass;
    /// From a container to the outside: source translated.
    Masqueraded = "masqueraded", Pass;
    /// The reply to a masqueraded packet: destination translated back.
    MasqueradeReply = "masquerade_reply", Pass;
    /// From outside to a source port of a container's (nat=eim): destination translated.
    Mapped = "mapped", Pass;
    /// The reply to such a packet: source translated back.
    MappedReply = "mapped_reply", Pass;
    /// Out of or into a network whose prefix is translated (NPTv6).
    PrefixTranslated = "prefix_translated", Pass;
    /// Of a flow that is tracked but not translated.
    Untranslated = "untranslated", Pass;
    /// An ICMP error about a flow that is known: translated with what it quotes.
    IcmpErrorOfFlow = "icmp_error_of_flow", Pass;
    /// As published, past the host's stack.
    PublishedRedirected = "published_redirected", Redirect;
    /// As published_reply, past the host's stack.
    PublishedReplyRedirected = "published_reply_redirected", Redirect;
    /// As masqueraded, past the host's stack.
    MasqueradedRedirected = "masqueraded_redirected", Redirect;
    /// As masquerade_reply, past the host's stack.
    MasqueradeReplyRedirected = "masquerade_reply_redirected", Redirect;
    /// As mapped, past the host's stack.
    MappedRedirected = "mapped_redirected", Redirect;
    /// As mapped_reply, past the host's stack.
    MappedReplyRedirected = "mapped_reply_redirected", Redirect;
    /// As prefix_translated, past the host's stack.
    PrefixTranslatedRedirected = "prefix_translated_redirected", Redirect;
    /// As untranslated, past the host's stack.
    UntranslatedRedirected = "untranslated_redirected", Redirect;
    /// As same_network, past the bridge.
    SameNetworkRedirected = "same_network_redirected", Redirect;
    /// As networks_allowed, past the host's stack.
    NetworksAllowedRedirected = "networks_allowed_redirected", Redirect;
    /// As icmp_error_of_flow, past the host's stack.
    IcmpErrorOfFlowRedirected = "icmp_error_of_flow_redirected", Redirect;
    /// Between containers, but too large or out of hops: the host's stack answers with the ICMP error.
    NotDeliverable = "not_deliverable", Pass;
    /// From outside straight to a container of a network that is routed, unprotected or trusts the device.
    DirectlyRouted = "directly_routed", Pass;
    /// On a bridge, of an endpoint whose port has judged it already.
    JudgedByPort = "judged_by_port", Pass;
    /// A broken header: too short, a wrong length, an impossible field.
    Malformed = "malformed", Drop;
    /// A source route (IPv4 options LSRR and SSRR): the host's errors would follow it to any network.
    SourceRoute = "source_route", Drop;
    /// 127.0.0.0/8 or ::1 on a device other than lo.
    LoopbackAddress = "loopback_address", Drop;
    /// From outside straight to a container's address.
    DirectRouting = "direct_routing", Drop;
    /// From outside with a container's source address.
    SpoofedSource = "spoofed_source", Drop;
    /// From a container with a source outside its network's subnet.
    SourceNotInSubnet = "source_not_in_subnet", Drop;
    /// From a container with its gateway's address, or, where strict_src forbids it, with another address or
    /// MAC address than its own.
    ForgedSource = "forged_source", Drop;
    /// From one network to another.
    NetworksApart = "networks_apart", Drop;
    /// From a container towards a device that does not carry netd's programs.
    NotAnUplink = "not_an_uplink", Drop;
    /// Out of or into an internal network.
    InternalNetwork = "internal_network", Drop;
    /// Between containers of a network with icc=false.
    IccOff = "icc_off", Drop;
    /// To a container, of no flow that is known and from no port that is known.
    Unsolicited = "unsolicited", Drop;
    /// On a device that carries netd's program but is not one of its ports.
    UnknownPort = "unknown_port", Drop;
    /// The uplink has no address of the family to masquerade with.
    NoMasqueradeAddress = "no_masquerade_address", Drop;
    /// The address has none that it is translated to, or nobody has that one (NPTv6).
    NoPrefixAddress = "no_prefix_address", Drop;
    /// No free source port to this destination.
    SourcePortsExhausted = "source_ports_exhausted", Drop;
    /// The connection table is full of established flows.
    ConntrackFull = "conntrack_full", Drop;
    /// The network has as many flows as it may have.
    NetworkFlowLimit = "network_flow_limit", Drop;
    /// The endpoint has as many flows as it may have.
    EndpointFlowLimit = "endpoint_flow_limit", Drop;
    /// Two CPUs created the same flow and the winner's is gone again.
    ConntrackRace = "conntrack_race", Drop;
    /// A TCP packet of no flow that cannot begin one.
    NoFlow = "no_flow", Drop;
    /// A fragment from or to a container, without a first one that says which flow it is of.
    Fragment = "fragment", Drop;
    /// A fragment that came before the first one: held, to come in again behind it.
    FragmentHeld = "fragment_held", Drop;
    /// An ICMP error from a container about no flow that is known.
    IcmpError = "icmp_error", Drop;
    /// An ICMP error about a flow by who has no part in it, or to another than who sent what it quotes.
    ForgedIcmpError = "forged_icmp_error", Drop;
    /// An ICMP error that quotes an IPv4 header with a wrong checksum (RFC 5508 REQ-3a).
    BrokenQuote = "broken_quote", Drop;
    /// An ICMP redirect about a flow that is known: it would lead past the translation.
    IcmpRedirect = "icmp_redirect", Drop;
    /// From a container to the outside in a protocol that cannot be translated.
    UnsupportedProtocol = "unsupported_protocol", Drop;
    /// The kernel had no memory to make the packet writable.
    NoMemory = "no_memory", Drop;
    /// The program for packets of this kind is missing.
    NoProgram = "no_program", Drop;
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_reason_has_its_own_name_and_its_place() {
        let names: BTreeSet<_> = Reason::ALL.iter().map(|reason| reason.name()).collect();
        assert_eq!(names.len(), Reason::ALL.len());
        for (index, reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, index);
            assert!(!reason.explanation().is_empty());
        }
    }
}
