//! The flows of one family in another netd's table.

use std::{io, marker::PhantomData};

use aya::{
    maps::MapError,
    programs::{SchedClassifier, TestRun as _, TestRunOptions},
};
use bytemuck::{Pod, bytes_of, pod_read_unaligned};
use netd_common::{
    address::{Address, Family},
    conntrack::{CLAIMED, CtEntry, CtKey},
    expiry::{BatchHead, INHERITED},
    header::ETHERNET_LEN,
    layout::Fields,
    names,
};
use tracing::warn;

use super::{
    super::{DatapathError, load::program_error, map_error, pins::Pins, raw::RawMap},
    description::{Conversion, Description, Table},
};
use crate::fail_point;

/// Which flows are handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// All.
    All,
    /// Those that have begun then or later. Units: seconds of the monotonic clock.
    BegunSince { since_secs: u32 },
    /// All, for those that are known already to learn from.
    ToLearn,
}

impl Wanted {
    fn includes<A>(self, entry: &CtEntry<A>) -> bool {
        match self {
            Self::All | Self::ToLearn => true,
            Self::BegunSince { since_secs } => entry.created_secs >= since_secs,
        }
    }
}

/// The table, and how its halves become ours.
pub(super) struct Flows<A> {
    name: &'static str,
    table: RawMap,
    key: Conversion,
    key_back: Conversion,
    entry: Conversion,
    family: PhantomData<A>,
}

impl<A: Address> Flows<A>
where
    CtKey<A>: Pod + Fields,
    CtEntry<A>: Pod + Fields,
{
    /// Opens the table; none where it cannot be understood.
    pub(super) fn open(pins: &Pins, name: &'static str, description: &Description) -> Option<Self> {
        let table = RawMap::open(&pins.map(name)).ok()?;
        let theirs = description.tables.get(name)?;
        let own = Table::of::<CtKey<A>, CtEntry<A>>();
        let this = Self {
            name,
            key: Conversion::new(&theirs.key, &own.key, true)?,
            key_back: Conversion::new(&own.key, &theirs.key, true)?,
            entry: Conversion::new(&theirs.value, &own.value, false)?,
            table,
            family: PhantomData,
        };
        let ours = (size_of::<CtKey<A>>(), size_of::<CtEntry<A>>());
        (this.lens() == ours).then_some(this)
    }

    /// How many flows there is room for, of two halves each.
    pub(super) fn max_flows(&self) -> u32 {
        self.table.max_entries() / 2
    }

    /// The lengths of what conversion gives.
    fn lens(&self) -> (usize, usize) {
        (self.key.len(), self.entry.len())
    }

    /// Puts flows into our table. One that has no place there is lost, and said.
    pub(super) fn copy(
        &self,
        program: &mut SchedClassifier,
        wanted: Wanted,
    ) -> Result<(), DatapathError> {
        let (mut halves, mut refused) = (Vec::new(), 0);
        let mut result = Ok(());
        let walked = self.table.for_each(|key, entry| {
            let entry: CtEntry<A> = pod_read_unaligned(&self.entry.convert(entry));
            if entry.is_reply() || entry.last_seen_secs == CLAIMED || !wanted.includes(&entry) {
                return Ok(());
            }
            self.add_pair(&mut halves, pod_read_unaligned(&self.key.convert(key)), entry)?;
            if halves.len() >= INHERITED {
                result = insert(program, &halves, wanted).map(|count| refused += count);
                halves.clear();
            }
            if result.is_err() { Err(io::ErrorKind::Interrupted.into()) } else { Ok(()) }
        });
        result?;
        walked.map_err(|source| map_error(self.name)(MapError::IoError(source)))?;
        if !halves.is_empty() {
            refused += insert(program, &halves, wanted)?;
        }
        if refused != 0 && wanted != Wanted::ToLearn {
            warn!(table = self.name, halves = refused, "flows of another layout have no place");
        }
        Ok(())
    }

    /// Adds both halves of a flow, the reply half first.
    fn add_pair(
        &self,
        halves: &mut Vec<(CtKey<A>, CtEntry<A>)>,
        key: CtKey<A>,
        entry: CtEntry<A>,
    ) -> io::Result<()> {
        let reply_key = entry.peer_key(&key);
        // One that has gone meanwhile, or is about to go, is over.
        if let Some(reply) = self.table.get(&self.key_back.convert(bytes_of(&reply_key)))? {
            let reply: CtEntry<A> = pod_read_unaligned(&self.entry.convert(&reply));
            if reply.last_seen_secs != CLAIMED {
                halves.extend([(reply_key, reply), (key, entry)]);
            }
        }
        Ok(())
    }
}

/// Has the kernel insert halves, and says how many it has refused.
fn insert<A: Address>(
    program: &mut SchedClassifier,
    halves: &[(CtKey<A>, CtEntry<A>)],
    wanted: Wanted,
) -> Result<u32, DatapathError>
where
    CtKey<A>: Pod,
    CtEntry<A>: Pod,
{
    let head = BatchHead::new(A::FAMILY == Family::V6);
    let head = if wanted == Wanted::ToLearn { head.learning() } else { head };
    let mut packet = vec![0; ETHERNET_LEN as usize];
    packet.extend_from_slice(bytes_of(&head));
    for (key, entry) in halves {
        packet.extend_from_slice(bytes_of(key));
        packet.extend_from_slice(bytes_of(entry));
    }
    let mut after = vec![0; packet.len()];
    let options = TestRunOptions {
        data_in: Some(&packet),
        data_out: Some(&mut after),
        repeat: halves.len() as u32,
        ..TestRunOptions::default()
    };
    fail_point::before_step();
    program.test_run(options).map_err(program_error(names::INHERIT_FLOWS))?;
    let head = &after[ETHERNET_LEN as usize..][..size_of::<BatchHead>()];
    Ok(pod_read_unaligned::<BatchHead>(head).refused)
}
