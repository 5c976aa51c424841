//! How much of what was sent, and how much of it has arrived by which way.

use std::{collections::BTreeMap, fmt};

use super::{attack::Sent, table::Way};

/// Packets sent, by what was chosen.
#[derive(Clone, Debug, Default)]
pub struct SentTally {
    /// All of them.
    pub packets: u64,
    /// Frames that a device did not take: it was gone, or they were too long.
    pub refused: u64,
    kinds: BTreeMap<(&'static str, &'static str), u64>,
}

impl SentTally {
    /// Counts a packet.
    pub fn count(&mut self, sent: &Sent) {
        self.packets += 1;
        for name in &sent.names {
            *self.kinds.entry(*name).or_default() += 1;
        }
    }

    /// The number of kinds that have been sent.
    pub fn kinds(&self) -> usize {
        self.kinds.len()
    }
}

impl fmt::Display for SentTally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} packets sent, {} frames refused", self.packets, self.refused)?;
        let mut last = "";
        for ((respect, name), packets) in &self.kinds {
            if *respect != last {
                write!(f, "\n  {respect}:")?;
                last = respect;
            }
            write!(f, " {name} {packets},")?;
        }
        Ok(())
    }
}

/// Packets that have arrived where they may, by observer and way.
#[derive(Clone, Debug, Default)]
pub struct ArrivedTally(BTreeMap<(&'static str, Way), u64>);

impl ArrivedTally {
    /// Counts a packet.
    pub fn count(&mut self, observer: &'static str, way: Way) {
        *self.0.entry((observer, way)).or_default() += 1;
    }

    /// How many have come to an observer.
    pub fn at(&self, observer: &str, way: Way) -> u64 {
        self.0.iter().filter(|((at, by), _)| *at == observer && *by == way).map(|(_, n)| n).sum()
    }
}

impl fmt::Display for ArrivedTally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "arrived where they may:")?;
        for ((observer, way), packets) in &self.0 {
            write!(f, "\n  {observer}: {way:?} {packets}")?;
        }
        Ok(())
    }
}
