//! A NAT written from the words of RFC 4787, 5382 and 5508 alone: a list of flows, each with the four ends
//! that it has on its two sides. It shares no code with the engine, and it does not choose source ports:
//! it is shown the engine's choice and says whether the RFCs allow it.

use crate::{
    family::Family,
    message::{ACK, End, FIN, HEARTBEAT, INIT, Kind, Message, RST, SYN},
};

/// What the host is configured to do, as far as the model goes.
pub(crate) trait Host<A> {
    /// Whether the address is the host's own.
    fn owns(&self, addr: A) -> bool;
    /// Whether the address is a container's, or could be.
    fn is_inside(&self, addr: A) -> bool;
    /// The container end behind a published port.
    fn published(&self, proto: u8, dst: End<A>) -> Option<End<A>>;
    /// The address that a container's packets to `dst` leave with.
    fn public_address(&self, container: A, dst: A) -> A;
}

/// A flow as each side sees it.
#[derive(Clone, Debug)]
pub(crate) struct Flow<A> {
    pub(crate) proto: u8,
    /// The remote end and the local one, outside.
    pub(crate) outer: (End<A>, End<A>),
    /// The remote end and the container's, inside.
    pub(crate) inner: (End<A>, End<A>),
    is_begun_outside: bool,
    /// What the side which began the flow has sent, and the other.
    sides: [Side; 2],
    begun: u32,
    last_seen: u32,
    /// A packet came more than two seconds after the first.
    goes_on: bool,
}

/// What one side of a flow has sent.
#[derive(Clone, Copy, Debug, Default)]
struct Side {
    has_spoken: bool,
    /// TCP flags.
    flags: u8,
    /// The last that it said is a reset.
    has_reset: bool,
    /// It has acknowledged something after the other side's FIN.
    knows_of_fin: bool,
}

/// The flows, and the time.
pub(crate) struct Model<A, H> {
    pub(crate) host: H,
    pub(crate) now: u32,
    pub(crate) flows: Vec<Flow<A>>,
}

/// What came out of a hook: the message, or nothing.
pub(crate) type Outcome<A> = Option<Message<A>>;

impl<A: Family> Flow<A> {
    /// The kernel's values, which the issue asks for.
    fn timeout_secs(&self) -> u32 {
        let [sent, answered] = self.sides;
        let fins = self.sides.map(|side| side.flags & FIN != 0);
        match self.proto {
            6 if sent.has_reset || answered.has_reset => 10,
            6 if sent.flags & answered.flags & ACK != 0 => match fins {
                [false, false] => 432_000,
                [true, true] if sent.knows_of_fin && answered.knows_of_fin => 120,
                [true, true] => 30,
                _ if sent.knows_of_fin || answered.knows_of_fin => 60,
                _ => 120,
            },
            6 if answered.flags & SYN != 0 && answered.flags & ACK != 0 => 60,
            6 if (sent.flags | answered.flags) & SYN != 0 => 120,
            6 => 300,
            17 if answered.has_spoken && self.goes_on => 120,
            _ => 30,
        }
    }

    /// A SYN of the side that began the flow begins another one then.
    fn has_closed(&self) -> bool {
        let is_reset = self.sides.iter().any(|side| side.has_reset);
        let is_shut = self.sides.iter().all(|side| side.flags & FIN != 0 && side.flags & ACK != 0);
        self.proto == 6 && (is_reset || is_shut)
    }

    fn see(&mut self, message: &Message<A>, is_original: bool, now: u32) {
        let flags = tcp_flags(message);
        let [sent, answered] = &mut self.sides;
        let (own, other) = if is_original { (sent, answered) } else { (answered, sent) };
        let before = (own.flags, own.has_reset, own.knows_of_fin);
        // Section 2.2: who goes on has not reset the connection.
        own.has_reset = flags & RST != 0 || own.has_reset && flags & ACK == 0;
        own.knows_of_fin |= flags & ACK != 0 && other.flags & FIN != 0;
        own.flags |= flags;
        own.has_spoken = true;
        // RFC 7857 section 5: a SYN or a RST that says nothing new keeps nothing alive.
        let says_nothing = before == (own.flags, own.has_reset, own.knows_of_fin);
        let is_idle = flags & (SYN | RST) != 0 && says_nothing;
        self.goes_on |= now - self.begun > 2;
        if !is_idle {
            self.last_seen = now;
        }
    }
}

fn tcp_flags<A>(message: &Message<A>) -> u8 {
    if let Kind::Tcp(flags) = message.kind { flags & (FIN | SYN | RST | ACK) } else { 0 }
}

fn may_begin<A>(message: &Message<A>) -> bool {
    match message.kind {
        Kind::Tcp(_) => [SYN, ACK].contains(&tcp_flags(message)),
        Kind::Udp | Kind::UdpWithoutChecksum | Kind::EchoRequest => true,
        Kind::TimestampRequest | Kind::Sctp(INIT | HEARTBEAT) | Kind::Other(_) => true,
        Kind::EchoReply | Kind::TimestampReply | Kind::Sctp(_) | Kind::Icmp(_) => false,
    }
}

impl<A: Family, H: Host<A>> Model<A, H> {
    /// A message from outside, and what the engine made of it.
    pub(crate) fn judge_from_outside(
        &mut self,
        message: &Message<A>,
        outcome: &Outcome<A>,
    ) -> Result<(), String> {
        let ends = (message.src, message.dst);
        if let Some(flow) = self.find(message, true, |flow| flow.outer == ends) {
            let (remote, own) = flow.inner;
            return expect(outcome, &Some(message.from(remote).to(own)));
        }
        let (src, dst) = (message.src.0, message.dst.0);
        if self.host.is_inside(src) || (self.host.is_inside(dst) && !self.host.owns(dst)) {
            return expect(outcome, &None);
        }
        let published = self.host.published(message.proto(), message.dst);
        let (Some(own), true) = (published.filter(|_| may_begin(message)), self.host.owns(dst))
        else {
            return expect(outcome, &Some(message.clone()));
        };
        let remote = outcome.as_ref().map_or(message.src, |after| after.src);
        expect(outcome, &Some(message.from((src, remote.1)).to(own)))?;
        let is_free = |port| {
            let inner = ((src, port), own);
            !self.live().any(|flow| flow.proto == message.proto() && flow.inner == inner)
        };
        allow_port(message.proto(), message.src.1, remote.1, is_free)?;
        self.begin(message, ends, (remote, own), true);
        Ok(())
    }

    /// A message that a container sends out, and what the engine made of it.
    pub(crate) fn judge_from_inside(
        &mut self,
        message: &Message<A>,
        outcome: &Outcome<A>,
    ) -> Result<(), String> {
        let ends = (message.dst, message.src);
        if let Some(flow) = self.find(message, false, |flow| flow.inner == ends) {
            let (remote, local) = flow.outer;
            return expect(outcome, &Some(message.from(local).to(remote)));
        }
        if !may_begin(message) {
            return expect(outcome, &None);
        }
        let public = self.host.public_address(message.src.0, message.dst.0);
        let port = outcome.as_ref().map_or(message.src.1, |after| after.src.1);
        expect(outcome, &Some(message.from((public, port))))?;
        let (proto, is_translated) = (message.proto(), public != message.src.0);
        let is_free = |port| {
            let outer = (message.dst, (public, port));
            let is_published = is_translated && self.host.published(proto, outer.1).is_some();
            !is_published && !self.live().any(|flow| flow.proto == proto && flow.outer == outer)
        };
        allow_port(proto, message.src.1, port, is_free)?;
        self.begin(message, (message.dst, (public, port)), ends, false);
        Ok(())
    }

    /// Every flow that has not ended.
    pub(crate) fn live(&self) -> impl Iterator<Item = &Flow<A>> {
        self.flows.iter().filter(|flow| self.now - flow.last_seen < flow.timeout_secs())
    }

    fn find(
        &mut self,
        message: &Message<A>,
        is_outside: bool,
        is_on: impl Fn(&Flow<A>) -> bool,
    ) -> Option<Flow<A>> {
        let now = self.now;
        self.flows.retain(|flow| now - flow.last_seen < flow.timeout_secs());
        let proto = message.proto();
        let index = self.flows.iter().position(|flow| flow.proto == proto && is_on(flow))?;
        let flow = &mut self.flows[index];
        let is_original = flow.is_begun_outside == is_outside;
        if is_original && tcp_flags(message) == SYN && flow.has_closed() {
            self.flows.remove(index);
            return None;
        }
        flow.see(message, is_original, now);
        Some(flow.clone())
    }

    fn begin(
        &mut self,
        message: &Message<A>,
        outer: (End<A>, End<A>),
        inner: (End<A>, End<A>),
        is_begun_outside: bool,
    ) {
        let first = Side { has_spoken: true, flags: tcp_flags(message), ..Side::default() };
        self.flows.push(Flow {
            proto: message.proto(),
            outer,
            inner,
            is_begun_outside,
            sides: [first, Side::default()],
            begun: self.now,
            last_seen: self.now,
            goes_on: false,
        });
    }
}

fn expect<A: Family>(outcome: &Outcome<A>, expected: &Outcome<A>) -> Result<(), String> {
    if outcome == expected {
        return Ok(());
    }
    Err(format!("came out: {outcome:?}\nexpected: {expected:?}"))
}

/// A port is kept where it is free, and else a free one of its class takes its place.
fn allow_port(
    proto: u8,
    wanted: u16,
    given: u16,
    is_free: impl Fn(u16) -> bool,
) -> Result<(), String> {
    if !is_free(given) {
        return Err(format!("port {given} has an owner"));
    }
    let is_kept = given == wanted;
    let must_be_kept = wanted != 0 && is_free(wanted);
    let class = match wanted {
        _ if proto != 6 && proto != 17 => 1..=65_535,
        1..512 => 1..=511,
        512..1024 => 600..=1023,
        0 | 1024.. => 1024..=65_535,
    };
    if is_kept != must_be_kept || (!is_kept && !class.contains(&given)) {
        return Err(format!("port {wanted} became {given}"));
    }
    Ok(())
}
