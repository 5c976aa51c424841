//! Docker's networks and containers, brought in line with what dockerd says of them.
//!
//! Nothing of Docker's is made or changed here: its links get our programs, its networks and endpoints a place in
//! the desired state, and so in the maps and on disk. A daemon that starts while dockerd is away goes by the disk.

mod answer;
mod difference;
mod facts;

use std::{collections::BTreeSet, time::Duration};

use netd_common::counters::FlowCount;
use tracing::{info, warn};

use super::{Controller, RequestError, in_one_line};
use crate::{
    config::DockerMode,
    datapath::{Datapath, Side},
    docker::{
        View,
        adopt::adopt,
        follow::{Seen, State},
    },
    model::Endpoint,
    netlink::link::Link,
};
use difference::Difference;

/// How soon something is looked for again, twice as long each time.
const FIRST_LOOK_AFTER: Duration = Duration::from_millis(5);

/// How often, before it waits for the host's next change: some five seconds.
const MOST_LOOKS: u32 = 10;

/// What is known of Docker, and what has become of it.
#[derive(Debug, Default)]
pub(super) struct Docker {
    pub(super) seen: Seen,
    /// What could not be adopted, and why.
    pub(super) faults: BTreeSet<String>,
    /// Something is still to come: a container's link, or another try.
    is_pending: bool,
    /// How often it has been looked for in vain since something was new.
    looks: u32,
}

impl Controller {
    /// Takes up what has been seen of Docker.
    pub(crate) async fn follow_docker(&mut self, seen: Seen) {
        if seen.state != self.docker.seen.state {
            say(&seen.state);
        }
        let is_missed = self.config.docker.enabled == DockerMode::On
            && matches!(seen.state, State::Away { .. })
            && seen.state != self.docker.seen.state;
        if let (true, State::Away { why }) = (is_missed, &seen.state) {
            warn!(why, "Docker is to be followed and does not answer");
        }
        self.docker.seen = seen;
        self.docker.looks = 0;
        if let Err(error) = self.adopt().await {
            self.docker.is_pending = true;
            warn!(error = in_one_line(&error), "Docker's networks could not be taken up");
        }
    }

    /// How soon to look again for what was not there: a container's link gets its MAC address as it moves into the
    /// sandbox, which nobody announces.
    pub(crate) fn adoption_pause(&self) -> Option<Duration> {
        let is_soon = self.docker.is_pending && self.docker.looks < MOST_LOOKS;
        is_soon.then(|| FIRST_LOOK_AFTER * (1 << self.docker.looks))
    }

    /// What could not be adopted perhaps can be, now that something of netd's is gone.
    pub(super) fn adopt_faulty(&mut self) {
        self.docker.is_pending |= !self.docker.faults.is_empty();
        self.docker.looks = 0;
    }

    /// Looks again for what was not there.
    pub(crate) async fn adopt_pending(&mut self) {
        if !self.docker.is_pending {
            return;
        }
        self.docker.looks += 1;
        if let Err(error) = self.adopt().await {
            warn!(error = in_one_line(&error), "Docker's networks could not be taken up");
        }
    }

    /// Brings the desired state in line with Docker, and everything with that.
    pub(super) async fn adopt(&mut self) -> Result<(), RequestError> {
        let bridges = match &self.docker.seen.state {
            State::LeftAlone { bridges, .. } => bridges.clone(),
            State::Off | State::Away { .. } | State::Elsewhere | State::Followed { .. } => {
                BTreeSet::new()
            }
        };
        if self.host.leave_alone(bridges) {
            // They may have been taken for uplinks.
            self.bring_in_line().await?;
        }
        let view = match (&self.docker.seen.state, &self.docker.seen.view) {
            (_, Some(view)) => view.clone(),
            // It may come back with what is stored.
            (State::Away { .. } | State::Followed { .. }, None) => return Ok(()),
            (State::Off | State::Elsewhere | State::LeftAlone { .. }, None) => {
                View::default().into()
            }
        };
        self.catch_up().await?;
        let facts = self.docker_facts(&view).await?;
        let adopted = adopt(&view, &self.desired, &facts);
        self.docker.is_pending = adopted.is_pending;
        for fault in adopted.faults.difference(&self.docker.faults) {
            warn!(fault, "not all of Docker's is taken up");
        }
        self.docker.faults.clone_from(&adopted.faults);
        let difference = Difference::new(&self.desired, adopted);
        if difference.is_nothing() { Ok(()) } else { self.take_over(difference).await }
    }

    /// Stored first: what packets meet is always stored.
    async fn take_over(&mut self, difference: Difference) -> Result<(), RequestError> {
        self.save(&difference.changes())?;
        for endpoint in &difference.lost_endpoints {
            self.desired.remove_endpoint(&endpoint.name);
        }
        for network in difference.nameless() {
            self.desired.remove_network(&network.name);
        }
        for network in &difference.networks {
            self.desired.insert_network(network.clone());
        }
        for endpoint in &difference.joined {
            self.attach_link(endpoint);
        }
        for endpoint in &difference.endpoints {
            self.desired.insert_endpoint(endpoint.clone());
        }
        self.datapath.end_flows(difference.lost_slots.iter().copied())?;
        self.refresh().await?;
        // A neighbour may have begun some from an address when it was nobody's.
        let joined = difference.joined.iter().map(|endpoint| endpoint.network.as_str());
        let joined: BTreeSet<&str> = joined.collect();
        let numbers = joined.into_iter().filter_map(|name| self.desired.networks.get(name));
        let numbers = numbers.chain(&difference.lost_networks).map(|network| network.number);
        let flows: Vec<u32> = numbers.map(FlowCount::of_network).collect();
        self.datapath.end_flows(flows)?;
        self.detach_lost(&difference);
        difference.say();
        Ok(())
    }

    /// The link may have been closed before anybody knew whose it is; then it carries the programs already.
    fn attach_link(&mut self, endpoint: &Endpoint) {
        let ifindex = self.host.ifindex(&endpoint.host_ifname);
        let is_closed = ifindex.is_some_and(|ifindex| self.devices.strangers.contains(&ifindex));
        if !is_closed
            && let Err(error) = self.attach_unless_left(&endpoint.host_ifname, Side::Endpoint)
        {
            self.docker.is_pending = true;
            warn!(endpoint = endpoint.name, error = in_one_line(&error), "programs not attached");
        }
    }

    /// Takes our programs off what is not our work any more, but still there.
    fn detach_lost(&mut self, difference: &Difference) {
        let bridges = difference.lost_networks.iter().map(|network| network.bridge.as_str());
        let bridges: Vec<u32> = bridges
            .filter(|bridge| !self.desired.networks.values().any(|it| it.bridge == *bridge))
            .filter_map(|bridge| self.host.ifindex(bridge))
            .collect();
        let is_lost = |link: &&Link| {
            bridges.contains(&link.ifindex)
                || link.controller.is_some_and(|it| bridges.contains(&it))
        };
        let lost: Vec<(u32, String)> = self
            .host
            .links()
            .iter()
            .filter(is_lost)
            .map(|it| (it.ifindex, it.name.clone()))
            .collect();
        for (ifindex, name) in lost {
            Datapath::detach(&name);
            self.devices.strangers.remove(&ifindex);
        }
    }
}

fn say(state: &State) {
    match state {
        State::Off => info!("Docker is not followed"),
        State::Away { why } => tracing::debug!(why, "no Docker"),
        State::Elsewhere => info!("the Docker that answers is another host's"),
        State::LeftAlone { version, conflicts, .. } => {
            for conflict in conflicts {
                let (why, fix) = (conflict.message(), conflict.fix());
                warn!(version, why, fix, "Docker's networks are left alone");
            }
        }
        State::Followed { version } => info!(version, "Docker is followed"),
    }
}
