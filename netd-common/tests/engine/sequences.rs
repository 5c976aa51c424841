//! Random conversations, held against the model message by message, and against the invariants that hold
//! at any moment. Both data paths have the same conversation and must make the same of it.

use std::collections::{HashMap, HashSet};

use netd_common::{
    conntrack::{CtEntry, CtFlags, CtKey, Redirect},
    engine,
    reason::{Reason, Verdict},
    tables::Tables as _,
};
use proptest::{prelude::*, sample::Index, test_runner::TestCaseError};

use crate::{
    family::{Family, in_both_families},
    message::{ACK, End, FIN, Kind, Message, RST, SYN},
    model::{Host, Model, Outcome},
    place::{At, INWARDS, OUTWARDS},
    scene::{DNS, Datapath, FIXED, NET_A, NET_B, NETWORKS, PLAIN, RANGE, Scene, WEB, WEB_TOO},
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
        [1, 2, 9].map(A::host).contains(&addr) || NETWORKS.iter().any(|&n| A::inside(n, 1) == addr)
    }

    fn is_inside(&self, addr: A) -> bool {
        NETWORKS.iter().any(|&n| addr.same_prefix(A::inside(n, 0), A::mask(A::SUBNET_BITS)))
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
            () if container == A::inside(PLAIN, 2) => container,
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
    let containers = [(NET_A, 2), (NET_A, 3), (NET_B, 2), (PLAIN, 2), (FIXED, 2)];
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
    /// One by each data path.
    scenes: [Scene; 2],
    model: Model<A, SceneHost>,
}

impl<A: Family> Conversation<A> {
    fn new() -> Self {
        let scenes = [Datapath::Stack, Datapath::Fast].map(Scene::on);
        let now = scenes[0].tables.now_secs.get();
        Self { scenes, model: Model { host: SceneHost, now, flows: Vec::new() } }
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
                self.scenes.iter().for_each(|scene| scene.wait(*secs));
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
        let (reason, outcome) = self.send(INWARDS, message)?;
        let says = self.model.judge_from_outside(message, &outcome);
        says.map_err(|says| TestCaseError::fail(format!("{message:?}: {reason:?}\n{says}")))
    }

    fn send_from_inside(&mut self, message: &Message<A>) -> Result<(), TestCaseError> {
        let (reason, outcome) = self.send(OUTWARDS, message)?;
        let says = self.model.judge_from_inside(message, &outcome);
        says.map_err(|says| TestCaseError::fail(format!("{message:?}: {reason:?}\n{says}")))?;
        // No container's address leaves a network that is masqueraded.
        let leaks = outcome.map(|after| after.src.0).filter(|&src| SceneHost.is_inside(src));
        let is_plain = |addr: A| addr == A::inside(PLAIN, 2);
        prop_assert!(leaks.is_none_or(is_plain));
        Ok(())
    }

    /// Sends a message by both data paths: what becomes of it, which must be the same.
    fn send(&self, at: At, message: &Message<A>) -> Result<(Reason, Outcome<A>), TestCaseError> {
        let [stack, fast] = self.scenes.each_ref().map(|scene| scene.run(at, message));
        prop_assert_eq!(&stack, &fast, "{:?}", message);
        let (reason, after) = stack;
        Ok((reason, (reason.verdict() == Verdict::Pass).then_some(after)))
    }

    /// Every flow has both halves, each knows the other, no two have a key in common, and the data paths
    /// differ in nothing but where packets are redirected to.
    fn check_tables(&self) -> Result<(), TestCaseError> {
        let [stack, fast] = self.scenes.each_ref().map(without_redirection::<A>);
        prop_assert_eq!(&stack, &fast);
        let [traffic, fast_traffic] = self.scenes.each_ref().map(|scene| &scene.tables.traffic);
        prop_assert_eq!(&*traffic.borrow(), &*fast_traffic.borrow());
        let mut peers = HashSet::new();
        for (key, entry) in &stack {
            let peer = entry.peer_key(key);
            prop_assert!(stack.contains_key(&peer), "a lone half: {:?}", key);
            prop_assert!(peers.insert(peer), "two flows share {:?}", peer);
        }
        prop_assert!(stack.len() >= 2 * self.model.live().count());
        for scene in &self.scenes {
            prop_assert_eq!(scene.tables.flow_count(A::FLOW_COUNTS.live) as usize * 2, stack.len());
        }
        Ok(())
    }

    /// After the longest timer without a packet nothing is left.
    fn check_end(&self) -> Result<(), TestCaseError> {
        for scene in &self.scenes {
            scene.wait(432_000);
            for (key, _) in scene.halves::<A>() {
                engine::expire(&scene.tables, &key, false);
            }
            prop_assert_eq!(scene.halves::<A>().len(), 0);
            let young = [A::FLOW_COUNTS.begun, A::FLOW_COUNTS.passed];
            let counts = scene.tables.flow_counts.borrow();
            prop_assert!(counts.iter().all(|(index, count)| young.contains(index) || *count == 0));
        }
        Ok(())
    }
}

/// The connection table as it would be on the host's stack.
fn without_redirection<A: Family>(scene: &Scene) -> HashMap<CtKey<A>, CtEntry<A>> {
    let plain = |(key, entry): (CtKey<A>, CtEntry<A>)| {
        let flags = entry.flags & !CtFlags::FAST;
        (key, CtEntry { flags, redirect: Redirect::none(), mtu: 0, ..entry })
    };
    scene.halves().into_iter().map(plain).collect()
}

fn the_engine_does_what_the_model_does<A: Family>() {
    proptest!(ProptestConfig::with_cases(2_000), |(steps in steps())| {
        let mut conversation = Conversation::<A>::new();
        for step in &steps {
            conversation.take(step)?;
            conversation.check_tables()?;
        }
        conversation.check_end()?;
    });
}
