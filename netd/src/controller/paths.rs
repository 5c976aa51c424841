//! Which way each network's new flows take. Flows that exist keep theirs.

use std::{collections::BTreeMap, path};

use tracing::{info, warn};

use super::{Controller, DatapathError, in_one_line};
use crate::{
    api::DatapathInfo,
    data_path::{Asked, Choice, Facts, Path, choose},
    model::Network,
    netlink::netfilter::Firewall,
    sysctl,
};

/// Queueing disciplines that let every packet through as it comes.
const PASSING: [&str; 4] = ["noqueue", "noop", "mq", "pfifo_fast"];

/// What was decided, and what of the host's it was decided by.
#[derive(Debug, Default)]
pub(super) struct Paths {
    firewall: Firewall,
    /// By network.
    choices: BTreeMap<String, Choice>,
}

impl Paths {
    /// The networks whose new flows are redirected past the stack.
    pub(super) fn fast(&self) -> impl Iterator<Item = &String> {
        let is_fast = |(_, choice): &(&String, &Choice)| choice.path == Path::Fast;
        self.choices.iter().filter(is_fast).map(|(name, _)| name)
    }
}

impl Controller {
    /// Reads the firewall again.
    pub(super) async fn read_firewall(&mut self) {
        self.paths.firewall.read().await;
    }

    /// Takes up what has changed without an announcement: in the firewall, in the ports that are reserved,
    /// and what the programs have counted.
    pub(crate) fn follow_silent_changes(&mut self) {
        let has_firewall_changed = self.paths.firewall.reread_legacy();
        if (has_firewall_changed || self.host.reread_reserved_ports())
            && let Err(error) = self.follow_firewall()
        {
            warn!(error = in_one_line(&error), "the host's changes could not be followed");
        }
        self.say_exhaustion();
    }

    /// Takes up what has been read of the firewall.
    pub(super) fn follow_firewall(&mut self) -> Result<(), DatapathError> {
        self.choose_paths();
        self.program()
    }

    /// Decides anew for every network, and says what has changed.
    pub(super) fn choose_paths(&mut self) {
        let mut shaped = self.shaped();
        let networks = self.desired.networks.values();
        let choices: BTreeMap<String, Choice> = networks
            .map(|network| {
                let facts = self.facts(shaped.remove(network.name.as_str()));
                (network.name.clone(), choose(self.asked(network), &facts))
            })
            .collect();
        for (network, choice) in &choices {
            if self.paths.choices.get(network) != Some(choice) {
                say(network, choice);
            }
        }
        self.paths.choices = choices;
    }

    fn asked(&self, network: &Network) -> Asked {
        let of_daemon = Asked::Daemon(self.config.datapath.mode);
        network.datapath.map_or(of_daemon, Asked::Network)
    }

    fn facts(&self, shaped: Option<(String, String)>) -> Facts {
        Facts {
            forwarding: self.paths.firewall.forwarding(),
            uplinks: self.devices.uplinks.values().copied().collect(),
            shaped,
        }
    }

    /// The first device of each network that has a queueing discipline of somebody's own, with it.
    fn shaped(&self) -> BTreeMap<&str, (String, String)> {
        let default =
            sysctl::read(path::Path::new("/proc/sys/net/core/default_qdisc")).unwrap_or_default();
        let networks = self.desired.networks.values();
        let bridges = networks.map(|network| (network.name.as_str(), network.bridge.as_str()));
        let endpoints = self.desired.endpoints.values();
        let veths = endpoints.map(|it| (it.network.as_str(), it.host_ifname.as_str()));
        let mut shaped = BTreeMap::new();
        for (network, device) in bridges.chain(veths) {
            let qdisc = self.host.link(device).and_then(|link| link.qdisc.as_deref());
            let is_passing = |qdisc: &&str| PASSING.contains(qdisc) || *qdisc == default;
            if let Some(qdisc) = qdisc.filter(|qdisc| !is_passing(qdisc)) {
                shaped.entry(network).or_insert_with(|| (device.to_owned(), qdisc.to_owned()));
            }
        }
        shaped
    }

    /// What is shown of a network's way.
    pub(super) fn datapath_info(&self, network: &Network) -> DatapathInfo {
        let choice = self.paths.choices.get(&network.name).cloned();
        let choice = choice.unwrap_or_else(|| {
            let shaped = self.shaped().remove(network.name.as_str());
            choose(self.asked(network), &self.facts(shaped))
        });
        let (asked, reason) = (choice.asked.mode(), choice.reason());
        DatapathInfo { asked, path: choice.path, reason }
    }
}

fn say(network: &str, choice: &Choice) {
    let (path, reason) = (choice.path.to_string(), choice.reason());
    if choice.is_doubtful() {
        warn!(network, path, reason, "data path");
    } else {
        info!(network, path, reason, "data path");
    }
}
