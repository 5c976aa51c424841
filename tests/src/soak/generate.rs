//! Which operation comes when: a function of the seed and its number.

use super::operation::{
    Connect, Ending, Endpoint, Kind, Meanwhile, Network, Operation, Port, Request, Sandbox,
    Tampering, WRONG,
};
use crate::{family::Family, hostile::random::Random};

/// The names are few, so that requests meet each other. Those above are never touched.
const NETWORKS: usize = 6;
const SANDBOXES: usize = 6;
const ENDPOINTS: usize = 9;
/// How many ports can be asked for.
const SPECS: usize = 16;

/// The host ports that are published are these and the next ones.
pub const FIRST_HOST_PORT: u16 = 8000;
/// How many of them there are.
pub const HOST_PORTS: u16 = 24;
/// The container ports that are published are these and the next ones.
pub const FIRST_PORT: u16 = 80;
/// How many of them there are.
pub const PORTS: u16 = 6;

/// The longest time that a request takes, about.
const LONGEST_REQUEST_MICROS: usize = 60_000;

/// The first operations of the run that a seed stands for.
pub fn operations(seed: u64, count: u32) -> Vec<Operation> {
    (0..count).map(|number| operation(&mut Random::of_packet(seed, number))).collect()
}

fn operation(random: &mut Random) -> Operation {
    match random.below(1000) {
        0..60 => Operation::Begin(sandbox(random)),
        60..72 => Operation::End(sandbox(random)),
        72..890 => Operation::Ask(request(random)),
        890..930 => Operation::Wrong(random.below(WRONG.len())),
        930..940 => Operation::Reload,
        940..990 => Operation::Tamper(tampering(random)),
        _ => restart(random),
    }
}

fn restart(random: &mut Random) -> Operation {
    let ending = random.pick(&[Ending::Stopped, Ending::Killed, Ending::Killed]);
    match random.below(6) {
        0 => Operation::Restart(ending, Meanwhile::Nothing),
        1 => Operation::Restart(ending, Meanwhile::Tampered(tampering(random))),
        2 => Operation::Restart(ending, Meanwhile::Ended(sandbox(random))),
        _ => {
            let micros = random.below(LONGEST_REQUEST_MICROS) as u32;
            Operation::Restart(ending, Meanwhile::Asked(atomic_request(random), micros))
        }
    }
}

fn request(random: &mut Random) -> Request {
    match random.below(300) {
        0 => Request::Prune,
        _ => atomic_request(random),
    }
}

/// A request that is done in full or not at all, whatever becomes of the daemon.
fn atomic_request(random: &mut Random) -> Request {
    match random.below(100) {
        0..10 => {
            let subnet = (!random.one_in(4)).then(|| 1 + random.below(NETWORKS) as u8);
            Request::Create(network(random), random.pick(&Kind::ALL), subnet)
        }
        10..16 => Request::Remove(network(random)),
        16..50 => Request::Connect(connect(random)),
        50..60 => Request::Disconnect(network(random), sandbox(random)),
        60..75 => Request::Publish(endpoint(random), port(random)),
        75..86 => Request::Unpublish(endpoint(random), port(random)),
        86..94 => Request::Allow(network(random), network(random)),
        _ => Request::Disallow(network(random), network(random)),
    }
}

fn connect(random: &mut Random) -> Connect {
    Connect {
        network: network(random),
        sandbox: sandbox(random),
        endpoint: endpoint(random),
        ip: random.one_in(6).then(|| 10 + random.below(4) as u8),
        ports: (0..random.below(3)).map(|_| port(random)).collect(),
    }
}

/// One of few, so that what is published is also asked for again, and removed.
fn port(random: &mut Random) -> Port {
    let number = random.below(SPECS);
    Port {
        udp: number % 3 == 2,
        host_ip: match number % 4 {
            0 => Some(Family::V4.host()),
            1 => Some(Family::V6.host()),
            _ => None,
        },
        host_port: FIRST_HOST_PORT + 4 * (number % 5) as u16,
        port: FIRST_PORT + (number % 2) as u16,
        // The longest ones reach into the next.
        len: [1, 4, 1, 5][number / 4],
    }
}

fn tampering(random: &mut Random) -> Tampering {
    match random.below(6) {
        0 => Tampering::DeleteBridge(network(random)),
        1 => Tampering::SetDown(network(random)),
        2 => Tampering::DeleteGateway(network(random), random.pick(&Family::BOTH)),
        3 => Tampering::DeleteLink(endpoint(random)),
        4 => Tampering::DeleteInside(endpoint(random)),
        _ => Tampering::Unplug(endpoint(random)),
    }
}

fn network(random: &mut Random) -> Network {
    Network(random.below(NETWORKS) as u8)
}

fn sandbox(random: &mut Random) -> Sandbox {
    Sandbox(random.below(SANDBOXES) as u8)
}

fn endpoint(random: &mut Random) -> Endpoint {
    Endpoint(random.below(ENDPOINTS) as u8)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{super::model::Model, *};

    #[test]
    fn a_seed_is_a_run() {
        assert_eq!(operations(1, 100), operations(1, 200)[..100]);
        assert_ne!(operations(1, 100), operations(2, 100));
    }

    #[test]
    fn every_kind_of_request_is_granted_and_refused() {
        let mut model = Model::default();
        let mut seen = BTreeMap::new();
        for operation in operations(1, 5000) {
            if let Operation::Ask(request) = &operation {
                let kind = request.to_string().split(' ').take(2).collect::<Vec<_>>().join(" ");
                let counts: &mut [u32; 2] = seen.entry(kind).or_default();
                counts[usize::from(model.grants(request))] += 1;
            }
            model.apply(&operation);
        }
        let prune = seen.remove("network prune").unwrap_or_default();
        assert!(prune[1] > 0);
        assert_eq!(seen.len(), 8);
        for (kind, [refused, granted]) in seen {
            assert!(refused > 20 && granted > 10, "{kind}: {granted} granted, {refused} refused");
        }
    }
}
