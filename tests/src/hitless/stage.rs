//! The world of the flows: two containers that publish a port and call out, and a client outside that does both
//! too.

use std::{fs, path::PathBuf, time::Duration};

use super::{
    flows::Flows,
    idle::Idle,
    lane::{Course, Lane},
};
use crate::{
    condition::within,
    family::Family,
    netns::Namespace,
    topology::{Container, World, at},
};

/// How many questions are asked in a second, over all flows: what two CPUs do easily.
const QUESTIONS_PER_SECOND: u32 = 10_000;

/// The pace of few flows.
const FASTEST: Duration = Duration::from_millis(100);

/// How long it may take on a busy machine until every flow is answered.
const BEGINNING: Duration = Duration::from_secs(60);

/// Where a container answers.
const INSIDE: u16 = 80;

/// The containers: name, the network's number, the port that it publishes, and the port outside that it calls.
const CONTAINERS: [(&str, u8, u16, u16); 2] = [("one", 1, 8081, 9001), ("two", 2, 8082, 9002)];

/// The world, and how many flows it is to have.
#[derive(Debug)]
pub struct Stage {
    /// The host with its daemon, and the client.
    pub world: World,
    /// The flows by which nothing comes.
    pub idle: Idle,
    containers: Vec<Container>,
    program: PathBuf,
    flows: u32,
}

impl Stage {
    /// Makes the world and fills its connection table with idle flows; `program` is what lanes run.
    ///
    /// # Panics
    /// Where that fails.
    #[track_caller]
    pub fn new(program: &str, flows: u32, idle_flows: u32) -> Self {
        // Room for flows that have ended, and little more: the daemon is to meet a full table.
        let max_flows = idle_flows / 2 + idle_flows / 50 + 2 * flows + 512;
        // A flow that is lost is not to come back by being picked up.
        let config = format!("[datapath]\nmax_flows = {max_flows}\ntcp_loose = false\n");
        let world = World::with_config(&config);
        let containers = CONTAINERS.map(|(name, number, published, _)| {
            world.network(name, number, "");
            world.container(name, name, &format!("-p {published}:{INSIDE}"))
        });
        let idle = Idle::begin(&world, idle_flows);
        eprintln!("{} idle flows are set up", idle.flows);
        Self { world, idle, containers: containers.into(), program: program.into(), flows }
    }

    /// Begins all flows, as many in each lane, and waits until every one of them is answered.
    ///
    /// # Panics
    /// Where one is not.
    #[track_caller]
    pub fn begin(&self) -> Flows {
        let courses: Vec<Course<'_>> =
            self.containers.iter().zip(CONTAINERS).flat_map(|both| self.courses(both)).collect();
        let pace = (Duration::from_secs(1) * self.flows / QUESTIONS_PER_SECOND).max(FASTEST);
        let share = self.flows.div_ceil(courses.len() as u32);
        let begin = |course| Lane::begin(&self.program, course, share, pace);
        let mut flows = Flows::new(courses.into_iter().map(begin).collect());
        let has_begun = within(BEGINNING, || flows.go_on().then_some(()));
        assert!(has_begun.is_some(), "not every flow is answered");
        flows
    }

    /// How many segments the ends of the flows have sent again so far.
    ///
    /// # Panics
    /// Where a kernel does not say.
    #[track_caller]
    pub fn sent_again(&self) -> u64 {
        let containers = self.containers.iter().map(|container| &container.namespace);
        containers.chain([&self.world.client]).map(sent_again).sum()
    }

    /// To a container, and from it.
    fn courses<'a>(
        &'a self,
        (container, (_, _, published, outside)): (&'a Container, (&str, u8, u16, u16)),
    ) -> [Course<'a>; 2] {
        let (inside, client) = (&container.namespace, &self.world.client);
        let to_host = Family::BOTH.map(|family| at(family.host(), published));
        let to_remote = Family::BOTH.map(|family| at(family.remote(), outside));
        [
            Course { name: "published", from: client, to: inside, port: INSIDE, by: to_host },
            Course { name: "masquerade", from: inside, to: client, port: outside, by: to_remote },
        ]
    }
}

/// What the kernel counts as `RetransSegs` (RFC 4022), for both families.
#[track_caller]
fn sent_again(namespace: &Namespace) -> u64 {
    let text = namespace.inside(|| fs::read_to_string("/proc/thread-self/net/snmp"));
    let text = text.unwrap_or_else(|error| panic!("no counters: {error}"));
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("Tcp: "));
    let (names, values) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let mut both = names.split(' ').zip(values.split(' '));
    let count = both.find_map(|(name, value)| (name == "RetransSegs").then(|| value.parse().ok()));
    count.flatten().unwrap_or_else(|| panic!("no RetransSegs: {text}"))
}
