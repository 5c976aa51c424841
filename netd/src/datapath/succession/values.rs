//! What another netd's maps hold beside its flows: the switch by which it is succeeded, slots, counters.

use std::{io, ops::Range};

use aya::maps::MapError;
use bytemuck::{Pod, bytes_of, bytes_of_mut, try_pod_read_unaligned};
use netd_common::{
    counters::{Counter, Traffic},
    reason::Reason,
};
use nix::libc;

use super::{
    super::{DatapathError, map_error, pins::Pins, raw::RawMap},
    description::{Conversion, Description, fields},
};
use crate::{clock, fail_point};

/// `MEMBARRIER_CMD_GLOBAL` of `linux/membarrier.h`: waits until every program that runs now has ended.
const MEMBARRIER_CMD_GLOBAL: libc::c_int = 1;

/// The key of the only element of an array.
const ONLY: [u8; 4] = [0; 4];

/// The configuration that its programs read.
pub(super) struct Settings {
    map: RawMap,
    flags: Range<usize>,
    netns_cookie: Range<usize>,
    /// The bit of the flags.
    succeeded: u32,
}

impl Settings {
    /// Opens it; none where it cannot be understood.
    pub(super) fn open(pins: &Pins, description: &Description) -> Option<Self> {
        let map = RawMap::open(&pins.map("CONFIG")).ok()?;
        let place = |name: &str, len: usize| {
            let fields = &description.tables.get("CONFIG")?.value;
            let field = fields.iter().find(|field| field.name == name && field.len == len)?;
            let place = field.offset..field.offset + field.len;
            (place.end <= map.lens().1).then_some(place)
        };
        Some(Self {
            flags: place("flags", size_of::<u32>())?,
            netns_cookie: place("netns_cookie", size_of::<u64>())?,
            succeeded: description.succeeded,
            map,
        })
    }

    /// The network namespace of its daemon; 0 where it never was ready.
    pub(super) fn netns_cookie(&self) -> Result<u64, DatapathError> {
        let value = self.map.get(&ONLY).map_err(io_error("CONFIG"))?.unwrap_or_default();
        Ok(value.get(self.netns_cookie.clone()).map_or(0, number))
    }

    /// Has no more flows begin with its programs; those that begin meanwhile have begun when it returns.
    pub(super) fn set_succeeded(&self) -> Result<(), DatapathError> {
        let mut value = self.map.get(&ONLY).map_err(io_error("CONFIG"))?.unwrap_or_default();
        let Some(place) = value.get_mut(self.flags.clone()) else { return Ok(()) };
        let flags: u32 = number(place);
        if flags & self.succeeded != 0 {
            return Ok(());
        }
        place.copy_from_slice(bytes_of(&(flags | self.succeeded)));
        self.map.set(&ONLY, &mut value).map_err(io_error("CONFIG"))?;
        // SAFETY: the call has no pointers. A kernel that refuses it (`nohz_full`) has programs of another CPU
        // end some microseconds later, of which reading the flows takes more.
        unsafe { libc::syscall(libc::SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) };
        Ok(())
    }
}

/// What flows refer to, and what is counted.
pub(super) struct Values {
    slots: RawMap,
    generations: RawMap,
    host_flows: RawMap,
    counters: RawMap,
    traffic: RawMap,
    counter: Option<Conversion>,
    carried: Option<Conversion>,
    /// Their counters by reason: the names of the reasons.
    reasons: Vec<String>,
}

impl Values {
    /// Opens them; none where they cannot be understood. Counters may be of any kind: they begin anew then.
    pub(super) fn open(pins: &Pins, description: &Description) -> Option<Self> {
        let open = |name: &str| RawMap::open(&pins.map(name)).ok();
        let numbers = |name: &str| open(name).filter(|map| map.lens() == (4, 4));
        let conversion =
            |name: &str, own| Conversion::new(&description.tables.get(name)?.value, own, false);
        Some(Self {
            slots: numbers("SLOTS")?,
            generations: numbers("GENERATIONS")?,
            host_flows: numbers("HOST_FLOWS_SEEN")?,
            counters: open("COUNTERS")?,
            traffic: open("TRAFFIC")?,
            counter: conversion("COUNTERS", &fields::<Counter>()),
            carried: conversion("TRAFFIC", &fields::<Traffic>()),
            reasons: description.reasons.clone(),
        })
    }

    /// Makes our slots and generations theirs.
    pub(super) fn copy_slots(&self, pins: &Pins) -> Result<(), DatapathError> {
        for (name, theirs) in [("GENERATIONS", &self.generations), ("SLOTS", &self.slots)] {
            let ours = open(pins, name)?;
            let copied = theirs.for_each(|key, value| {
                if ours.get(key)?.as_deref() == Some(value) {
                    return Ok(());
                }
                fail_point::before_step();
                ours.set(key, &mut value.to_vec())
            });
            copied.map_err(io_error(name))?;
        }
        Ok(())
    }

    /// Makes our counters theirs, as far as both count the same. What has counted already goes on.
    pub(super) fn copy_counters(&self, pins: &Pins) -> Result<(), DatapathError> {
        if let Some(conversion) = &self.counter {
            let ours = open(pins, "COUNTERS")?;
            for (number, reason) in (0_u32..).zip(Reason::ALL) {
                let theirs = (0_u32..).zip(&self.reasons).find(|(_, name)| *name == reason.name());
                if let Some((their_number, _)) = theirs {
                    let copied = copy(&self.counters, their_number, &ours, number, conversion);
                    copied.map_err(io_error("COUNTERS"))?;
                }
            }
        }
        if let Some(conversion) = &self.carried {
            let ours = open(pins, "TRAFFIC")?;
            let copied = self.slots.for_each(|slot, _| {
                copy(&self.traffic, number(slot), &ours, number(slot), conversion)
            });
            copied.map_err(io_error("TRAFFIC"))?;
        }
        Ok(())
    }

    /// Has our programs look for translated flows of the host's own where there are some, and theirs from now on:
    /// such flows may begin with ours.
    pub(super) fn copy_host_flows(&self, pins: &Pins) -> Result<(), DatapathError> {
        self.learn_host_flows(pins)?;
        let mut now = clock::kernel_secs();
        fail_point::before_step();
        self.host_flows.set(&ONLY, bytes_of_mut(&mut now)).map_err(io_error("HOST_FLOWS_SEEN"))
    }

    /// Has our programs know when theirs have seen the last translated flow of the host's own.
    pub(super) fn learn_host_flows(&self, pins: &Pins) -> Result<(), DatapathError> {
        let error = io_error("HOST_FLOWS_SEEN");
        let ours = open(pins, "HOST_FLOWS_SEEN")?;
        let seen = |map: &RawMap| -> Result<u32, DatapathError> {
            let value = map.get(&ONLY).map_err(&error)?.unwrap_or_default();
            Ok(number(&value))
        };
        let mut theirs = seen(&self.host_flows)?;
        if seen(&ours)? < theirs {
            fail_point::before_step();
            ours.set(&ONLY, bytes_of_mut(&mut theirs)).map_err(error)?;
        }
        Ok(())
    }
}

/// Copies an element that each CPU has of its own.
fn copy(
    from: &RawMap,
    theirs: u32,
    to: &RawMap,
    ours: u32,
    conversion: &Conversion,
) -> io::Result<()> {
    let has_counted = to.get(bytes_of(&ours))?.is_none_or(|own| own.iter().any(|byte| *byte != 0));
    let Some(values) = from.get(bytes_of(&theirs))?.filter(|_| !has_counted) else {
        return Ok(());
    };
    let mut converted = Vec::new();
    for value in values.chunks_exact(from.stride()) {
        converted.extend(conversion.convert(value));
        converted.resize(converted.len().next_multiple_of(to.stride()), 0);
    }
    to.set(bytes_of(&ours), &mut converted)
}

/// A number of that many bytes; zero where there are fewer or more.
fn number<N: Pod>(bytes: &[u8]) -> N {
    try_pod_read_unaligned(bytes).unwrap_or_else(|_| N::zeroed())
}

fn open(pins: &Pins, name: &'static str) -> Result<RawMap, DatapathError> {
    RawMap::open(&pins.map(name)).map_err(map_error(name))
}

fn io_error(name: &'static str) -> impl Fn(io::Error) -> DatapathError {
    move |source| map_error(name)(MapError::IoError(source))
}
