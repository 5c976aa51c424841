//! Sends messages through the scene's hooks, and holds each hook to what no hook may do.

use netd_common::{
    address::{V4, V6},
    engine::{self, Outcome, Part},
    network::NetworkFlags,
    parse::{Common, Kind, Rare},
    reason::{Reason, Verdict},
    tables::FamilyTables,
};

use crate::{
    family::Family,
    message::Message,
    packet::{HostPacket, Redirection},
    place::{
        At, FROM_UPLINK, Hook, TO_UPLINK, bridge, bridge_mac, endpoint_of, from_endpoint, mac,
        to_endpoint,
    },
    scene::{Datapath, Scene, UPLINK},
    tables::{HostRoute, HostTables},
};

impl HostTables {
    /// Runs one of a hook's programs.
    pub(crate) fn ask<K: Kind>(&self, hook: Hook, packet: &mut HostPacket) -> Outcome {
        match hook {
            Hook::FromUplink => engine::from_uplink::<K, _, _>(packet, self),
            Hook::ToUplink => engine::to_uplink::<K, _, _>(packet, self),
            Hook::FromEndpoint => engine::from_endpoint::<K, _, _>(packet, self),
            Hook::ToEndpoint => engine::to_endpoint::<K, _, _>(packet, self),
            Hook::FromBridge => engine::from_bridge::<K, _, _>(packet, self),
            Hook::ToBridge => engine::to_bridge::<K, _, _>(packet, self),
            Hook::Inwards | Hook::Outwards => unreachable!("a way and not a hook"),
        }
    }

    /// Runs one of a hook's programs to the end; `None` where it hands the packet over to another.
    pub(crate) fn ask_alone<K: Kind>(&self, hook: Hook, packet: &mut HostPacket) -> Option<Reason> {
        match self.ask::<K>(hook, packet) {
            // Nobody comes after.
            Outcome::Judged(reason) | Outcome::Successors(reason) => Some(reason),
            Outcome::Elsewhere(_) => None,
            Outcome::Again => self.ask_alone::<K>(hook, packet),
        }
    }
}

impl Scene {
    /// Runs one program, and those that it hands the packet over to.
    fn run_part(&self, hook: Hook, part: Part, packet: &mut HostPacket) -> Reason {
        let outcome = match part {
            Part::CommonV4 => self.tables.ask::<Common<V4>>(hook, packet),
            Part::CommonV6 => self.tables.ask::<Common<V6>>(hook, packet),
            Part::RareV4 => self.tables.ask::<Rare<V4>>(hook, packet),
            Part::RareV6 => self.tables.ask::<Rare<V6>>(hook, packet),
        };
        match outcome {
            Outcome::Judged(reason) | Outcome::Successors(reason) => reason,
            Outcome::Elsewhere(next) => {
                assert_ne!(next, part, "handed over to itself");
                if self.has_rare_programs || next == Part::CommonV6 {
                    self.run_part(hook, next, packet)
                } else {
                    Reason::NoProgram
                }
            }
            Outcome::Again => self.run_part(hook, part, packet),
        }
    }

    /// Runs one hook and holds it to what no hook may do: change or redirect a packet without saying so.
    #[track_caller]
    pub(crate) fn judge(&self, hook: Hook, packet: &mut HostPacket) -> Reason {
        let before = packet.frame.clone();
        let reason = self.run_part(hook, Part::CommonV4, packet);
        if !changes(reason) {
            assert!(!packet.is_stored, "{hook:?}: a store into what is {reason:?}");
            assert_eq!(packet.frame, before, "{hook:?}: {reason:?}");
        }
        assert_eq!(packet.frame.len(), before.len(), "{hook:?}: {reason:?}");
        let is_redirected = reason.verdict() == Verdict::Redirect;
        assert_eq!(packet.redirection.is_some(), is_redirected, "{hook:?}: {reason:?}");
        let is_where_it_came_in = matches!(hook, Hook::FromUplink | Hook::FromEndpoint);
        assert!(!is_redirected || is_where_it_came_in, "{hook:?}: {reason:?}");
        reason
    }

    /// Runs one hook on a message: the reason, and the message that comes out.
    #[track_caller]
    pub(crate) fn pass<A: Family>(&self, at: At, message: &Message<A>) -> (Reason, Message<A>) {
        let (mut packet, before) = (at.packet(message.frame()), at.packet(message.frame()));
        let reason = self.judge(at.hook, &mut packet);
        let after = Message::read(&packet.frame);
        let (mut expected, mut hops) = (before.frame[..12].to_vec(), 0);
        match packet.redirection {
            _ if reason == Reason::SameNetworkRedirected => {}
            Some(redirection) => {
                hops = 1;
                expected = self.link_layer(&after, redirection, expected);
            }
            None if reason == Reason::NotDeliverable => {
                expected[..6].copy_from_slice(&bridge_mac(endpoint_of(at.ifindex).0));
            }
            None => {}
        }
        expected.extend(&after.frame_with(64 - hops)[12..]);
        // `etherparse` writes what it read again: nothing but addresses, ports, hops and right checksums
        // changed.
        assert_eq!(packet.frame, expected, "{message:?} at {at:?}: {reason:?}");
        (reason, after)
    }

    /// The link-layer addresses of a message that is redirected to where its destination is.
    #[track_caller]
    fn link_layer<A: Family>(
        &self,
        after: &Message<A>,
        redirection: Redirection,
        before: Vec<u8>,
    ) -> Vec<u8> {
        let store = A::store(&self.tables);
        match redirection {
            Redirection::Peer(ifindex) => {
                if let Some(endpoint) = store.endpoints.get(&after.dst.0) {
                    assert_eq!(ifindex, endpoint.ifindex, "{after:?}");
                }
                let (network, n) = endpoint_of(ifindex);
                [mac(network, n), bridge_mac(network)].concat()
            }
            // The kernel writes them when it knows the next hop's.
            Redirection::Out(ifindex, next_hop) => {
                let HostRoute::Uplink(uplink) = store.default_route else {
                    panic!("no way out: {after:?}");
                };
                assert_eq!((ifindex, next_hop), (uplink.ifindex, uplink.next_hop), "{after:?}");
                before
            }
        }
    }

    /// Runs one hook, or every one on a way, on a message: the reason, and the message that comes out.
    /// Whether a message is redirected on its way does not show.
    #[track_caller]
    pub(crate) fn run<A: Family>(&self, at: At, message: &Message<A>) -> (Reason, Message<A>) {
        match at.hook {
            Hook::Inwards => self.enter(message),
            Hook::Outwards => self.leave(message),
            Hook::FromUplink
            | Hook::ToUplink
            | Hook::FromEndpoint
            | Hook::ToEndpoint
            | Hook::FromBridge
            | Hook::ToBridge => self.pass(at, message),
        }
    }

    #[track_caller]
    fn enter<A: Family>(&self, message: &Message<A>) -> (Reason, Message<A>) {
        let (reason, after) = self.pass(FROM_UPLINK, message);
        let (plain, is_redirected) = (plain(reason), reason.verdict() == Verdict::Redirect);
        if let Some(endpoint) = A::store(&self.tables).endpoints.get(&after.dst.0)
            && translates(plain)
        {
            assert_eq!(is_redirected, self.datapath == Datapath::Fast, "{message:?}: {reason:?}");
            if !is_redirected {
                let (network, n) = endpoint_of(endpoint.ifindex);
                let entering = to_endpoint(network, n, UPLINK);
                let entered = if plain == Reason::PrefixTranslated {
                    Reason::DirectlyRouted
                } else {
                    Reason::FlowToContainer
                };
                assert_eq!(self.pass(entering, &after).0, entered, "{after:?}");
            }
        }
        (plain, after)
    }

    #[track_caller]
    fn leave<A: Family>(&self, message: &Message<A>) -> (Reason, Message<A>) {
        let endpoint = A::store(&self.tables).endpoints.get(&message.src.0);
        let number = self.tables.network_of(message.src.0).expect("the source is a container's");
        let (network, n) = endpoint.map_or((number, 2), |endpoint| endpoint_of(endpoint.ifindex));
        let port = from_endpoint(network, n);
        let (reason, after) = self.pass(port, message);
        if reason.verdict() == Verdict::Redirect {
            assert_eq!(self.datapath, Datapath::Fast, "{message:?}: {reason:?}");
            self.leave_redirected(At { ingress: port.ifindex, ..TO_UPLINK }, &after);
            return (plain(reason), after);
        }
        if reason != Reason::ContainerToOutside {
            return (reason, after);
        }
        let (reason, after) = self.pass(At { ingress: bridge(network), ..TO_UPLINK }, message);
        let is_fast = self.tables.networks[&network].has(NetworkFlags::FAST) && endpoint.is_some();
        assert!(!is_fast || !translates(reason), "through the stack: {message:?}: {reason:?}");
        (reason, after)
    }

    /// What is redirected to an uplink meets the program there, which has nothing left to do.
    #[track_caller]
    fn leave_redirected<A: Family>(&self, at: At, message: &Message<A>) {
        let (halves, traffic) = (self.halves::<A>(), self.tables.traffic.borrow().clone());
        let (reason, after) = self.pass(at, message);
        assert_eq!(after, *message, "translated twice: {reason:?}");
        assert_eq!(self.halves::<A>(), halves, "{message:?}: {reason:?}");
        assert_eq!(*self.tables.traffic.borrow(), traffic, "{message:?}: {reason:?}");
    }

    /// A message that is translated, and into what.
    #[track_caller]
    pub(crate) fn becomes<A: Family>(
        &self,
        at: At,
        message: &Message<A>,
        reason: Reason,
        expected: &Message<A>,
    ) {
        assert_eq!(self.run(at, message), (reason, expected.clone()), "{message:?} at {at:?}");
    }

    /// A message that is not translated.
    #[track_caller]
    pub(crate) fn stays<A: Family>(&self, at: At, message: &Message<A>, reason: Reason) {
        self.becomes(at, message, reason, message);
    }

    /// A message whose translation is not known beforehand.
    #[track_caller]
    pub(crate) fn translated<A: Family>(
        &self,
        at: At,
        message: &Message<A>,
        reason: Reason,
    ) -> Message<A> {
        let (actual, after) = self.run(at, message);
        assert_eq!(actual, reason, "{message:?} at {at:?}");
        after
    }

    /// Frames that are not changed, each with the reason why.
    #[track_caller]
    pub(crate) fn judges(&self, rows: &[(&str, At, Vec<u8>, Reason)]) {
        for (row, at, frame, expected) in rows {
            let mut packet = at.packet(frame.clone());
            let reason = self.judge(at.hook, &mut packet);
            assert_eq!(reason, *expected, "{row}");
            assert!(!packet.is_stored, "{row}");
        }
    }
}

/// Whether a packet with this reason may leave with other addresses.
pub(crate) fn translates(reason: Reason) -> bool {
    matches!(
        plain(reason),
        Reason::Published
            | Reason::PublishedReply
            | Reason::Masqueraded
            | Reason::MasqueradeReply
            | Reason::Mapped
            | Reason::MappedReply
            | Reason::PrefixTranslated
            | Reason::Untranslated
            | Reason::NotDeliverable
            | Reason::IcmpErrorOfFlow
    )
}

/// Whether a packet with this reason may leave changed.
pub(crate) fn changes(reason: Reason) -> bool {
    translates(reason) || reason == Reason::NetworksAllowedRedirected
}

/// What is redirected, and what it is where it is not.
const REDIRECTED: [(Reason, Reason); 11] = [
    (Reason::PublishedRedirected, Reason::Published),
    (Reason::PublishedReplyRedirected, Reason::PublishedReply),
    (Reason::MasqueradedRedirected, Reason::Masqueraded),
    (Reason::MasqueradeReplyRedirected, Reason::MasqueradeReply),
    (Reason::MappedRedirected, Reason::Mapped),
    (Reason::MappedReplyRedirected, Reason::MappedReply),
    (Reason::PrefixTranslatedRedirected, Reason::PrefixTranslated),
    (Reason::UntranslatedRedirected, Reason::Untranslated),
    (Reason::SameNetworkRedirected, Reason::SameNetwork),
    (Reason::NetworksAllowedRedirected, Reason::NetworksAllowed),
    (Reason::IcmpErrorOfFlowRedirected, Reason::IcmpErrorOfFlow),
];

/// The reason without redirection.
#[track_caller]
pub(crate) fn plain(reason: Reason) -> Reason {
    let pair = REDIRECTED.iter().find(|pair| pair.0 == reason);
    assert_eq!(pair.is_some(), reason.verdict() == Verdict::Redirect, "{reason:?}");
    pair.map_or(reason, |pair| pair.1)
}
