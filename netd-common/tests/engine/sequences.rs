//! Random conversations, held against the model message by message, and against the invariants that hold
//! at any moment (dataplane.md D.6).

use std::collections::HashSet;

use netd_common::{
    engine,
    reason::{Reason, Verdict},
};
use proptest::{prelude::*, sample::Index, test_runner::TestCaseError};

use crate::{
    family::{Family, in_both_families},
    message::{ACK, End, FIN, Kind, Message, RST, SYN},
    model::{Host, Model, Outcome},
    scene::{
        At, DNS, FIXED, FROM_UPLINK, NET_A, NET_B, RANGE, ROUTED, Scene, TO_UPLINK, UPLINK, WEB,
        WEB_TOO, bridge, from_endpoint, to_endpoint, translates,
    },
};

in_both_families! {
    the_engine_does_what_the_model_does,
}

/// One step of a conversation. Numbers pick from short lists, so that flows meet.
#[derive(Clone, Debug)]
enum Step {
    FromOutside {
        kind: Index,
        src: (Index, Index),
        dst: (Index, Index),
    },
    FromInside {
        kind: Index,
        src: (Index, Index),
        dst: (Index, Index),
    },
    /// A packet of a flow that there is, from either side.
    OfFlow {
        flow: Index,
        kind: Index,
        is_outside: bool,
    },
    Wait(u32),
}

const KINDS: [Kind; 9] = [
    Kind::Udp,
    Kind::Tcp(SYN),
    Kind::Tcp(ACK),
    Kind::Tcp(SYN | ACK),
    Kind::Tcp(FIN | ACK),
    Kind::Tcp(RST),
    Kind::UdpWithoutChecksum,
    Kind::EchoRequest,
    Kind::EchoReply,
];

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let ends = || any::<((Index, Index), (Index, Index))>();
    let wait =
        prop_oneof![Just(0u32), Just(1), Just(9), Just(29), Just(61), Just(119), 0..500_000u32];
    let step = prop_oneof![
        3 => (any::<Index>(), ends())
            .prop_map(|(kind, (src, dst))| Step::FromOutside { kind, src, dst }),
        3 => (any::<Index>(), ends())
            .prop_map(|(kind, (src, dst))| Step::FromInside { kind, src, dst }),
        6 => any::<(Index, Index, bool)>()
            .prop_map(|(flow, kind, is_outside)| Step::OfFlow { flow, kind, is_outside }),
        2 => wait.prop_map(Step::Wait),
    ];
    proptest::collection::vec(step, 1..60)
}

/// The scene's configuration in the model's words.
struct SceneHost;

impl<A: Family> Host<A> for SceneHost {
    fn owns(&self, addr: A) -> bool {
        [1, 2, 9].map(A::host).contains(&addr) || (1..=6).any(|n| A::inside(n, 1) == addr)
    }

    fn is_inside(&self, addr: A) -> bool {
        (1..=6).any(|n| addr.same_prefix(A::inside(n, 0), A::mask(A::SUBNET_BITS)))
    }

    fn published(&self, proto: u8, (_, port): End<A>) -> Option<End<A>> {
        let container = A::inside(NET_A, 2);
        match (proto, port) {
            (6, WEB | WEB_TOO) => Some((container, 80)),
            (17, DNS) => Some((container, 53)),
            (17, 20_000..20_100) => Some((container, port + 10_000)),
            _ => None,
        }
    }

    fn public_address(&self, container: A, dst: A) -> A {
        match () {
            () if container == A::inside(FIXED, 2) => A::host(9),
            () if container == A::inside(ROUTED, 2) => container,
            () if dst == A::outside(200) => A::host(2),
            () => A::host(1),
        }
    }
}

fn outside<A: Family>(pick: &(Index, Index), kind: Kind) -> End<A> {
    let port = *pick.1.get(&[53, 443, 40_000, 0]);
    (*pick.0.get(&[A::outside(9), A::outside(200)]), port_of(kind, Kind::EchoRequest, port))
}

fn host<A: Family>(pick: &(Index, Index), kind: Kind) -> End<A> {
    let addr = *pick.0.get(&[A::host(1), A::host(2), A::host(1), A::inside(NET_A, 2)]);
    let port = *pick.1.get(&[WEB, WEB_TOO, DNS, RANGE + 3, 5000, 80]);
    (addr, port_of(kind, Kind::EchoReply, port))
}

fn container<A: Family>(pick: &(Index, Index), kind: Kind) -> End<A> {
    let containers = [(NET_A, 2), (NET_A, 3), (NET_B, 2), (ROUTED, 2), (FIXED, 2)];
    let (network, n) = *pick.0.get(&containers);
    let port = *pick.1.get(&[5000, 53, 80, WEB, DNS, 0]);
    (A::inside(network, n), port_of(kind, Kind::EchoRequest, port))
}

/// An echo has its identifier at one end and nothing at the other.
fn port_of(kind: Kind, with_identifier: Kind, port: u16) -> u16 {
    let is_echo = matches!(kind, Kind::EchoRequest | Kind::EchoReply);
    if is_echo && kind != with_identifier { 0 } else { port }
}

struct Conversation<A> {
    scene: Scene,
    model: Model<A, SceneHost>,
}

impl<A: Family> Conversation<A> {
    fn new() -> Self {
        let scene = Scene::new();
        let now = scene.tables.now_secs.get();
        Self { scene, model: Model { host: SceneHost, now, flows: Vec::new() } }
    }

    fn take(&mut self, step: &Step) -> Result<(), TestCaseError> {
        match step {
            Step::FromOutside { kind, src, dst } => {
                let kind = *kind.get(&KINDS);
                self.send_from_outside(&Message::new(kind, outside(src, kind), host(dst, kind)))
            }
            Step::FromInside { kind, src, dst } => {
                let kind = *kind.get(&KINDS);
                // Seen from here the identifier of a reply stands at the far end.
                let dst = if kind == Kind::EchoReply {
                    (outside::<A>(dst, Kind::Udp).0, 7)
                } else {
                    let far = outside::<A>(dst, Kind::Udp);
                    (far.0, if kind == Kind::EchoRequest { 0 } else { far.1 })
                };
                self.send_from_inside(&Message::new(kind, container(src, kind), dst))
            }
            Step::OfFlow { flow, kind, is_outside } => self.continue_flow(flow, kind, *is_outside),
            Step::Wait(secs) => {
                self.scene.wait(*secs);
                self.model.now += secs;
                Ok(())
            }
        }
    }

    fn continue_flow(
        &mut self,
        flow: &Index,
        kind: &Index,
        is_outside: bool,
    ) -> Result<(), TestCaseError> {
        if self.model.flows.is_empty() {
            return Ok(());
        }
        let flow = flow.get(&self.model.flows);
        let kind = match flow.proto {
            6 => *kind.get(&KINDS[1..6]),
            17 => *kind.get(&[KINDS[0], KINDS[6]]),
            _ if is_outside => Kind::EchoReply,
            _ => Kind::EchoRequest,
        };
        if is_outside {
            let message = Message::new(kind, flow.outer.0, flow.outer.1);
            self.send_from_outside(&message)
        } else {
            let message = Message::new(kind, flow.inner.1, flow.inner.0);
            self.send_from_inside(&message)
        }
    }

    fn send_from_outside(&mut self, message: &Message<A>) -> Result<(), TestCaseError> {
        let (reason, after) = self.scene.run(FROM_UPLINK, message);
        let outcome = outcome(reason, after);
        let says = self.model.judge_from_outside(message, &outcome);
        says.map_err(|says| TestCaseError::fail(format!("{message:?}: {reason:?}\n{says}")))?;
        if let Some(inside) = outcome.filter(|_| translates(reason)) {
            let network = (1..=6).find(|&n| A::inside(n, 2) == inside.dst.0).unwrap_or(NET_A);
            let (entering, _) = self.scene.run(to_endpoint(network, 2, UPLINK), &inside);
            prop_assert_eq!(entering, Reason::FlowToContainer);
        }
        Ok(())
    }

    fn send_from_inside(&mut self, message: &Message<A>) -> Result<(), TestCaseError> {
        let network = (1..=6)
            .find(|&n| message.src.0.same_prefix(A::inside(n, 0), A::mask(A::SUBNET_BITS)))
            .unwrap_or(NET_A);
        let (leaving, _) = self.scene.run(from_endpoint(network, 2), message);
        prop_assert_eq!(leaving, Reason::ContainerToOutside);
        let at = At { ingress: bridge(network), ..TO_UPLINK };
        let (reason, after) = self.scene.run(at, message);
        let outcome = outcome(reason, after);
        let says = self.model.judge_from_inside(message, &outcome);
        says.map_err(|says| TestCaseError::fail(format!("{message:?}: {reason:?}\n{says}")))?;
        // No container's address leaves a network that is masqueraded.
        let is_leak = outcome.is_some_and(|after| Host::<A>::is_inside(&SceneHost, after.src.0));
        prop_assert!(!is_leak || network == ROUTED);
        Ok(())
    }

    /// Every flow has both halves, each knows the other, and no two have a key in common.
    fn check_table(&self) -> Result<(), TestCaseError> {
        let halves = self.scene.halves::<A>();
        let keys: HashSet<_> = halves.iter().map(|half| half.0).collect();
        let mut peers = HashSet::new();
        for (key, entry) in &halves {
            let peer = entry.peer_key(key);
            prop_assert!(keys.contains(&peer), "a lone half: {:?}", key);
            prop_assert!(peers.insert(peer), "two flows share {:?}", peer);
        }
        prop_assert!(halves.len() >= 2 * self.model.live().count());
        Ok(())
    }

    /// After the longest timer without a packet nothing is left.
    fn check_end(&self) -> Result<(), TestCaseError> {
        self.scene.wait(432_000);
        for (key, _) in self.scene.halves::<A>() {
            engine::expire(&self.scene.tables, &key);
        }
        prop_assert_eq!(self.scene.halves::<A>().len(), 0);
        Ok(())
    }
}

fn outcome<A: Family>(reason: Reason, after: Message<A>) -> Outcome<A> {
    (reason.verdict() == Verdict::Pass).then_some(after)
}

fn the_engine_does_what_the_model_does<A: Family>() {
    proptest!(ProptestConfig::with_cases(2_000), |(steps in steps())| {
        let mut conversation = Conversation::<A>::new();
        for step in &steps {
            conversation.take(step)?;
            conversation.check_table()?;
        }
        conversation.check_end()?;
    });
}
