//! Published ports that somebody has, found by their numbers: on a host with ten thousand of them each is asked about.

use std::collections::BTreeMap;

use crate::model::{Proto, PublishedPort};

/// Rows with who has them.
#[derive(Clone, Debug, Default)]
pub(super) struct Taken {
    /// Those of a single port.
    singles: BTreeMap<(Proto, u16), Vec<(String, PublishedPort)>>,
    ranges: Vec<(String, PublishedPort)>,
}

impl Taken {
    pub(super) fn add(&mut self, owner: &str, row: &PublishedPort) {
        let entry = (owner.to_owned(), row.clone());
        if row.host_port == row.host_port_end {
            self.singles.entry((row.proto, row.host_port)).or_default().push(entry);
        } else {
            self.ranges.push(entry);
        }
    }

    /// One that a packet could be meant for as well, with who has it.
    pub(super) fn overlapping(&self, row: &PublishedPort) -> Option<(&str, &PublishedPort)> {
        let singles =
            self.singles.range((row.proto, row.host_port)..=(row.proto, row.host_port_end));
        let mut all = singles.flat_map(|(_, rows)| rows).chain(&self.ranges);
        all.find(|(_, other)| other.overlaps(row)).map(|(owner, other)| (owner.as_str(), other))
    }
}

#[cfg(test)]
mod tests {
    use super::{Proto, PublishedPort, Taken};

    fn row(host_ip: &str, host_port: u16, host_port_end: u16) -> PublishedPort {
        PublishedPort {
            slot: 0,
            proto: Proto::Tcp,
            host_ip: host_ip.parse().unwrap(),
            host_port,
            host_port_end,
            port: 80,
            port_end: 80 + (host_port_end - host_port),
        }
    }

    #[test]
    fn what_overlaps_is_found_whatever_its_width() {
        let mut taken = Taken::default();
        taken.add("a", &row("*", 8080, 8080));
        taken.add("b", &row("192.0.2.1", 9000, 9009));
        let owner = |row: &PublishedPort| taken.overlapping(row).map(|(owner, _)| owner);
        assert_eq!(owner(&row("127.0.0.1", 8080, 8080)), Some("a"));
        assert_eq!(owner(&row("127.0.0.1", 8000, 8100)), Some("a"));
        assert_eq!(owner(&row("*", 9005, 9005)), Some("b"));
        assert_eq!(owner(&row("127.0.0.1", 9005, 9005)), None);
        assert_eq!(owner(&row("*", 8081, 8999)), None);
    }
}
