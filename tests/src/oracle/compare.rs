//! The same cases through both sides, and where they differ.

use std::thread;

use super::{
    arrival::Arrival,
    case::{Act, Draft, Sent},
    message::own_port,
    pieces::reassembled,
    side::Side,
};
use crate::family::Family;

/// What arrived in a case, round by round.
pub type History = Vec<Vec<Arrival>>;

/// A case in which the sides differ.
#[derive(Clone, Debug)]
pub struct Difference {
    /// The case.
    pub name: String,
    /// Its family.
    pub family: Family,
    /// The first round that differs.
    pub round: usize,
    /// What arrived with netd.
    pub netd: Vec<String>,
    /// What arrived with iptables.
    pub iptables: Vec<String>,
}

impl Difference {
    /// Whether it was found in a case.
    pub fn is_of(&self, draft: &Draft) -> bool {
        self.name == draft.name && self.family == draft.family
    }
}

/// Numbers for cases, each given out once.
#[derive(Debug, Default)]
pub struct Numbers(u16);

impl Numbers {
    fn next(&mut self) -> u16 {
        // Zero is what packets have that belong to no case.
        self.0 = self.0.checked_add(1).unwrap_or(1);
        self.0
    }
}

/// Runs cases on one side, all of a round at once.
pub fn run(side: &Side, cases: &[(u16, Vec<Act>)]) -> Vec<History> {
    side.collect();
    let rounds = cases.iter().map(|(_, acts)| acts.len()).max().unwrap_or(0);
    let mut histories: Vec<History> = vec![Vec::new(); cases.len()];
    for round in 0..rounds {
        for ((number, acts), history) in cases.iter().zip(&histories) {
            if let Some(act) = acts.get(round) {
                packets(act, *number, history.last()).iter().for_each(|sent| side.send(sent));
            }
        }
        let mut arrivals: Vec<Vec<Arrival>> = vec![Vec::new(); cases.len()];
        for arrival in side.collect() {
            let number = arrival.number();
            if let Some(at) = cases.iter().position(|(case, _)| Some(*case) == number) {
                arrivals[at].push(arrival);
            }
        }
        histories
            .iter_mut()
            .zip(arrivals)
            .for_each(|(history, arrived)| history.push(reassembled(arrived)));
    }
    histories
}

fn packets(act: &Act, number: u16, last: Option<&Vec<Arrival>>) -> Vec<Sent> {
    match act {
        Act::Send(sent) => sent.clone(),
        Act::Each(response) => {
            let responses = |seen: &Arrival| {
                let from = seen.edge;
                let sent = move |bytes| Sent { from, via: super::case::Via::Route, bytes };
                response(seen, number).into_iter().map(sent).collect::<Vec<_>>()
            };
            last.into_iter().flatten().flat_map(responses).collect()
        }
    }
}

/// How often a case that comes out otherwise than expected is tried again: on a busy machine, a packet may
/// arrive after its round.
const RETRIES: u32 = 2;

/// Runs drafts on both sides at once and returns where they differ. What is known to differ, or not to, and
/// does not do so is tried again before it counts.
pub fn differences(
    sides: [&Side; 2],
    drafts: &[Draft],
    is_known: impl Fn(&Draft) -> bool,
    numbers: &mut Numbers,
) -> Vec<Difference> {
    let mut wanted: Vec<&Draft> = drafts.iter().collect();
    let mut found: Vec<Difference> = Vec::new();
    for _ in 0..=RETRIES {
        found.retain(|old| !wanted.iter().any(|draft| old.is_of(draft)));
        found.extend(attempt(sides, &wanted, numbers));
        wanted.retain(|draft| found.iter().any(|found| found.is_of(draft)) != is_known(draft));
        if wanted.is_empty() {
            break;
        }
    }
    found
}

fn attempt(sides: [&Side; 2], drafts: &[&Draft], numbers: &mut Numbers) -> Vec<Difference> {
    let numbered: Vec<u16> = drafts.iter().map(|_| numbers.next()).collect();
    let cases = || -> Vec<(u16, Vec<Act>)> {
        drafts
            .iter()
            .zip(&numbered)
            .map(|(draft, number)| (*number, (draft.acts)(*number)))
            .collect()
    };
    let (left, right) = (cases(), cases());
    let [netd, iptables] = thread::scope(|scope| {
        let other = scope.spawn(|| run(sides[1], &right));
        let one = run(sides[0], &left);
        [one, other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))]
    });
    let pairs = drafts.iter().zip(&numbered).zip(netd.iter().zip(&iptables));
    pairs
        .filter_map(|((draft, number), (netd, iptables))| compare(draft, *number, netd, iptables))
        .collect()
}

fn compare(draft: &Draft, number: u16, netd: &History, iptables: &History) -> Option<Difference> {
    let own = draft.allocates.then(|| own_port(number));
    let round = netd
        .iter()
        .zip(iptables)
        .position(|(a, b)| keys(a, number, own) != keys(b, number, own))?;
    let shown = |history: &History| history[round].iter().map(ToString::to_string).collect();
    Some(Difference {
        name: draft.name.clone(),
        family: draft.family,
        round,
        netd: shown(netd),
        iptables: shown(iptables),
    })
}

/// What is compared of a round: the order of arrival is not.
fn keys(arrivals: &[Arrival], number: u16, own: Option<u16>) -> Vec<impl Ord + PartialEq + use<>> {
    let key = |arrival: &Arrival| (arrival.edge, arrival.normalised(number, own), arrival.faults());
    let mut keys: Vec<_> = arrivals.iter().map(key).collect();
    keys.sort();
    keys
}
