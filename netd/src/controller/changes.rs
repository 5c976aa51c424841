//! Changes on the host: heard of, taken up, followed.
//!
//! ```text
//!   monitor -> unread -> host (reads what they name) -> unfollowed -> what of ours is mended
//! ```
//! A request takes up what has been announced by then, so it sees the host as it is; what else follows from it is
//! done when the request has been answered.

use std::mem;

use tracing::warn;

use super::{Controller, RequestError, in_one_line, restore::Unplugged};
use crate::netlink::monitor::{self, HostEvent};

/// How far what the kernel has announced has come.
#[derive(Debug)]
pub(super) struct Changes {
    /// The host has not been read again for these.
    unread: Vec<HostEvent>,
    /// It has been, and what follows from them is still to be done.
    unfollowed: Vec<HostEvent>,
    /// Reading the host has failed: some of its changes are not known.
    has_missed: bool,
    /// The maps may be behind the host.
    has_changed: bool,
}

impl Changes {
    /// Those of a daemon that has just read the host.
    pub(super) fn new() -> Self {
        // The maps are those of an earlier daemon, or empty.
        let (unread, unfollowed) = (Vec::new(), Vec::new());
        Self { unread, unfollowed, has_missed: false, has_changed: true }
    }
}

impl Controller {
    /// Waits until something has changed on the host. Nothing is lost where the wait is given up.
    pub(crate) async fn host_changes(&mut self) -> Vec<HostEvent> {
        self.monitor.changed().await
    }

    /// Takes changes for what is to be followed soon. A port that somebody plugs in is not left open for so long.
    pub(crate) async fn note(&mut self, events: Vec<HostEvent>) {
        for event in events {
            self.close_stranger(&event).await;
            monitor::add(event, &mut self.changes.unread);
        }
    }

    /// Whether there are changes that have not been followed.
    pub(crate) fn is_behind(&self) -> bool {
        !self.changes.unread.is_empty() || !self.changes.unfollowed.is_empty()
    }

    /// Follows what has changed on the host.
    pub(crate) async fn follow(&mut self) {
        if let Err(error) = self.take_up().await {
            warn!(error = in_one_line(&error), "the host could not be read");
        }
        let events = mem::take(&mut self.changes.unfollowed);
        let concerns_firewall =
            |event: &HostEvent| matches!(event, HostEvent::FirewallChanged | HostEvent::Overrun);
        let has_firewall_changed = events.iter().any(concerns_firewall);
        if has_firewall_changed {
            self.read_firewall().await;
        }
        if let Err(error) = self.attach_again(&events).await {
            warn!(error = in_one_line(&error), "the devices' classifiers could not be looked at");
        }
        let followed = if events.iter().any(|event| self.concerns_host(event)) {
            self.follow_host(&events).await
        } else if has_firewall_changed {
            self.follow_firewall().map_err(Into::into)
        } else {
            Ok(())
        };
        if let Err(error) = followed {
            warn!(error = in_one_line(&error), "the host's changes could not be followed");
        }
        self.keep_sysctls();
        self.adopt_pending().await;
    }

    async fn follow_host(&mut self, events: &[HostEvent]) -> Result<(), RequestError> {
        let blocked = &self.devices.blocked;
        let frees = |event: &HostEvent| matches!(event, HostEvent::ClassifiersChanged { ifindex } if blocked.contains(ifindex));
        self.changes.has_changed |= events.iter().any(frees);
        self.catch_up().await?;
        let forgets = |event: &HostEvent| {
            matches!(event, HostEvent::NeighbourGone { .. } | HostEvent::Overrun)
        };
        let forgets = events.iter().any(forgets);
        self.mend(Unplugged::PlugIn, forgets).await
    }

    /// Whether an event may have changed what the maps or our devices depend on.
    fn concerns_host(&self, event: &HostEvent) -> bool {
        match event {
            HostEvent::SysctlsChanged | HostEvent::FirewallChanged => false,
            HostEvent::ClassifiersChanged { ifindex } => self.devices.blocked.contains(ifindex),
            HostEvent::NeighbourGone { ifindex } | HostEvent::QdiscChanged { ifindex } => {
                self.is_ours(*ifindex)
            }
            HostEvent::LinkChanged { .. }
            | HostEvent::LinkGone { .. }
            | HostEvent::AddressesChanged
            | HostEvent::RoutesChanged
            | HostEvent::RulesChanged
            | HostEvent::Overrun => true,
        }
    }

    /// Whether a device is the bridge of a network or the link of an endpoint.
    fn is_ours(&self, ifindex: u32) -> bool {
        let Some(link) = self.host.link_at(ifindex) else { return false };
        self.desired.networks.values().any(|network| network.bridge == link.name)
            || self.desired.endpoints.values().any(|endpoint| endpoint.host_ifname == link.name)
    }

    /// Takes up what has changed on the host, and brings uplinks and maps in line with it where anything has.
    pub(super) async fn catch_up(&mut self) -> Result<(), RequestError> {
        self.take_up().await?;
        if self.changes.has_changed { self.bring_in_line().await } else { Ok(()) }
    }

    /// Takes up what has changed on the host, and brings uplinks and maps in line with it and with what is
    /// desired.
    pub(super) async fn refresh(&mut self) -> Result<(), RequestError> {
        self.take_up().await?;
        self.bring_in_line().await
    }

    async fn take_up(&mut self) -> Result<(), RequestError> {
        let missed = mem::take(&mut self.changes.has_missed).then_some(HostEvent::Overrun);
        let mut unread = mem::take(&mut self.changes.unread);
        for event in self.monitor.pending().into_iter().chain(missed) {
            monitor::add(event, &mut unread);
        }
        self.devices.forget_gone(&unread);
        self.sources.note(&unread);
        let endpoints = &self.desired.endpoints;
        let is_endpoint = |name: &str| endpoints.values().any(|it| it.host_ifname == name);
        let read = self.host.follow(&self.netlink, &unread, is_endpoint).await;
        let has_changed = read.inspect_err(|_| self.changes.has_missed = true)?;
        // What another device has by now that had a number before looks the same; rules are not read at all.
        let is_hidden = |event: &HostEvent| {
            matches!(event, HostEvent::LinkGone { .. } | HostEvent::RulesChanged)
        };
        self.changes.has_changed |= has_changed || unread.iter().any(is_hidden);
        for event in unread {
            monitor::add(event, &mut self.changes.unfollowed);
        }
        Ok(())
    }

    pub(super) async fn bring_in_line(&mut self) -> Result<(), RequestError> {
        self.find_blocked_uplinks().await?;
        self.attach_devices();
        self.choose_paths();
        self.program()?;
        self.changes.has_changed = false;
        // Last: no new flow gets a source that is lost. A failure is tried again at the host's next change.
        if let Err(error) = self.end_flows_of_lost_sources().await {
            warn!(error = in_one_line(&error), "flows without their source could not be ended");
        }
        Ok(())
    }
}
