//! Requests about flows and counters. Walks over the connection table run on a thread of their own, so
//! that a long listing stops nobody.

use std::{collections::BTreeMap, sync::Arc};

use netd_common::{header::proto, reason::Verdict};

use super::{Controller, RequestError, in_one_line};
use crate::{
    api::{ConntrackFilter, ConntrackInfo, EndpointStats, Item, StatRow, StatsAnswer, TableInfo},
    datapath::conntrack::{Conntrack, FlowView},
    desired::LookupError,
    server::ReplySender,
};

/// The names behind the numbers of the connection table.
#[derive(Debug, Default)]
struct Names {
    endpoints: BTreeMap<u32, String>,
    networks: BTreeMap<u16, String>,
}

impl Names {
    fn info(&self, flow: &FlowView) -> ConntrackInfo {
        ConntrackInfo {
            proto: proto_name(flow.proto),
            state: flow.state.name().to_owned(),
            orig: flow.original,
            reply: flow.reply,
            endpoint: self.endpoints.get(&flow.endpoint_slot).cloned(),
            network: self.networks.get(&flow.network).cloned(),
            timeout_secs: u64::from(flow.timeout_secs),
            packets: flow.traffic.map(|(packets, _)| packets),
            bytes: flow.traffic.map(|(_, bytes)| bytes),
        }
    }
}

impl Controller {
    fn names(&self) -> Arc<Names> {
        let endpoints = self.desired.endpoints.values();
        let networks = self.desired.networks.values();
        Arc::new(Names {
            endpoints: endpoints.map(|e| (e.slot, e.name.clone())).collect(),
            networks: networks.map(|n| (n.number, n.name.clone())).collect(),
        })
    }

    /// A name that stands for nothing is a mistake, not a filter that nothing passes.
    pub(super) fn check_filter(&self, filter: &ConntrackFilter) -> Result<(), LookupError> {
        if let Some(network) = &filter.network {
            self.desired.network(network)?;
        }
        if let Some(endpoint) = &filter.endpoint {
            self.desired.endpoint(endpoint)?;
        }
        Ok(())
    }

    pub(super) fn list_flows(&self, filter: ConntrackFilter, reply: ReplySender) {
        let names = self.names();
        self.on_conntrack(reply, move |conntrack, reply| {
            let mut is_heard = true;
            let walked = conntrack.for_each_flow(|flows| {
                let infos = flows.iter().map(|flow| names.info(flow));
                let items: Vec<Item> =
                    infos.filter(|info| filter.matches(info)).map(Item::Conntrack).collect();
                is_heard = items.is_empty() || reply.blocking_stream(items).is_ok();
                is_heard
            });
            match walked {
                // A client that has gone needs no end.
                Ok(()) => drop(reply.blocking_end_stream()),
                Err(error) => reply.refuse(&in_one_line(&error)),
            }
        });
    }

    pub(super) fn count_flows(&self, reply: ReplySender) {
        self.on_conntrack(reply, |conntrack, reply| {
            let table = conntrack.fullness().map(|([v4, v6], max)| TableInfo {
                count: u64::from(v4.live) + u64::from(v6.live),
                max_flows: max,
                pressure: v4.pressure.max(v6.pressure).name().to_owned(),
                displaced: v4.displaced + v6.displaced,
            });
            reply.finish_with(table.map(|table| vec![Item::Table(table)]));
        });
    }

    pub(super) fn flush_flows(&self, filter: ConntrackFilter, reply: ReplySender) {
        let names = self.names();
        self.on_conntrack(reply, move |mut conntrack, reply| {
            let flushed = conntrack.flush(|flow| filter.matches(&names.info(flow)));
            reply.finish_with(flushed.map(|count| vec![Item::Count(count)]));
        });
    }

    fn on_conntrack(
        &self,
        reply: ReplySender,
        work: impl FnOnce(Conntrack, ReplySender) + Send + 'static,
    ) {
        let pins = self.pins.clone();
        tokio::task::spawn_blocking(move || match Conntrack::open(&pins) {
            Ok(conntrack) => work(conntrack, reply),
            Err(error) => reply.refuse(&in_one_line(&error)),
        });
    }

    pub(super) fn stats(&self) -> Result<Vec<Item>, RequestError> {
        let row =
            |(reason, counter): (netd_common::reason::Reason, netd_common::counters::Counter)| {
                StatRow {
                    reason: reason.name().to_owned(),
                    verdict: verdict_name(reason.verdict()).to_owned(),
                    packets: counter.packets,
                    bytes: counter.bytes,
                }
            };
        let mut answer = StatsAnswer {
            reasons: self.datapath.counters()?.into_iter().map(row).collect(),
            ..StatsAnswer::default()
        };
        for endpoint in self.desired.endpoints.values() {
            let traffic = self.datapath.traffic(endpoint.slot)?;
            answer.endpoints.push(EndpointStats {
                endpoint: endpoint.name.clone(),
                network: endpoint.network.clone(),
                rx_packets: traffic.received.packets,
                rx_bytes: traffic.received.bytes,
                tx_packets: traffic.sent.packets,
                tx_bytes: traffic.sent.bytes,
            });
            answer.ports.extend(self.port_infos(endpoint)?);
        }
        Ok(vec![Item::Stats(answer)])
    }
}

fn verdict_name(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Pass => "pass",
        Verdict::Redirect => "redirect",
        Verdict::Drop => "drop",
    }
}

fn proto_name(number: u8) -> String {
    match number {
        proto::TCP => "tcp".to_owned(),
        proto::UDP => "udp".to_owned(),
        proto::SCTP => "sctp".to_owned(),
        proto::ICMP => "icmp".to_owned(),
        proto::ICMPV6 => "icmpv6".to_owned(),
        number => number.to_string(),
    }
}
