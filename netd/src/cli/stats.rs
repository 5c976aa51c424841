//! `netd stats`.

use std::collections::BTreeMap;

use super::{CliError, Session, one, port};
use crate::api::{EndpointStats, Request, StatsAnswer};

pub(super) fn run(session: &mut Session<'_>) -> Result<(), CliError> {
    let stats: StatsAnswer = one(&mut session.client, Request::Stats)?;
    let output = &mut session.output;
    if output.json {
        return output.json_array(stats.reasons.into_iter().map(Ok));
    }
    let counted = stats.reasons.iter().filter(|row| row.packets > 0);
    let rows = counted.map(|row| {
        [row.verdict.clone(), row.reason.clone(), row.packets.to_string(), row.bytes.to_string()]
    });
    output.table(["VERDICT", "REASON", "PACKETS", "BYTES"], rows)?;
    if output.quiet {
        return Ok(());
    }
    let header = ["", "RX PACKETS", "RX BYTES", "TX PACKETS", "TX BYTES"];
    output.line("")?;
    let networks = by_network(&stats.endpoints);
    let rows = networks.iter().map(|(name, traffic)| traffic_row((*name).to_owned(), traffic));
    output.table(with_first(header, "NETWORK"), rows)?;
    output.line("")?;
    let rows = stats.endpoints.iter().map(|row| traffic_row(row.endpoint.clone(), &traffic(row)));
    output.table(with_first(header, "ENDPOINT"), rows)?;
    output.line("")?;
    Ok(output.table(port::HEADER, stats.ports.iter().map(port::row))?)
}

/// Received packets and bytes, then sent ones.
type Traffic = [u64; 4];

fn traffic(row: &EndpointStats) -> Traffic {
    [row.rx_packets, row.rx_bytes, row.tx_packets, row.tx_bytes]
}

fn by_network(endpoints: &[EndpointStats]) -> BTreeMap<&str, Traffic> {
    let mut networks: BTreeMap<&str, Traffic> = BTreeMap::new();
    for row in endpoints {
        let sums = networks.entry(&row.network).or_default();
        for (sum, value) in sums.iter_mut().zip(traffic(row)) {
            *sum += value;
        }
    }
    networks
}

fn traffic_row(
    name: String,
    [rx_packets, rx_bytes, tx_packets, tx_bytes]: &Traffic,
) -> [String; 5] {
    let text = u64::to_string;
    [name, text(rx_packets), text(rx_bytes), text(tx_packets), text(tx_bytes)]
}

fn with_first<'a>(mut header: [&'a str; 5], first: &'a str) -> [&'a str; 5] {
    header[0] = first;
    header
}
