//! What a build's maps look like, in words that every other one understands.

use std::{collections::BTreeMap, io};

use aya::maps::MapError;
use netd_common::{
    address::{V4, V6},
    config::{ConfigFlags, DatapathConfig},
    conntrack::{CtEntry, CtKey},
    counters::{Counter, Traffic},
    layout::{self, Fields},
    names,
    reason::Reason,
};
use serde::{Deserialize, Serialize};

use super::super::{DatapathError, map_error, pins::Pins, raw::RawMap};
use crate::fail_point;

/// The tables that the next build reads, and the switch by which it takes over.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Description {
    /// The bit of the configuration's `flags` that is [`ConfigFlags::SUCCEEDED`].
    pub(super) succeeded: u32,
    pub(super) tables: BTreeMap<String, Table>,
    /// The names of the reasons, in the order of their counters.
    pub(super) reasons: Vec<String>,
}

/// The keys and values of a map, by field.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Table {
    pub(super) key: Vec<Field>,
    pub(super) value: Vec<Field>,
}

/// A field, and where its bytes are.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Field {
    pub(super) name: String,
    pub(super) offset: usize,
    pub(super) len: usize,
}

impl Description {
    /// This build's.
    pub(super) fn own() -> Self {
        let tables = [
            ("CONNTRACK_V4", Table::of::<CtKey<V4>, CtEntry<V4>>()),
            ("CONNTRACK_V6", Table::of::<CtKey<V6>, CtEntry<V6>>()),
            ("CONFIG", Table { key: Vec::new(), value: fields::<DatapathConfig>() }),
            ("COUNTERS", Table { key: Vec::new(), value: fields::<Counter>() }),
            ("TRAFFIC", Table { key: Vec::new(), value: fields::<Traffic>() }),
        ];
        let tables = tables.map(|(name, table)| (name.to_owned(), table));
        let reasons = Reason::ALL.iter().map(|reason| reason.name().to_owned()).collect();
        Self { succeeded: ConfigFlags::SUCCEEDED, tables: tables.into(), reasons }
    }

    /// The one that the netd of these pins has left, if it leaves any and this build understands it.
    pub(super) fn read(pins: &Pins) -> Option<Self> {
        let text = RawMap::open(&pins.map(names::LAYOUT)).ok()?.get(&ONLY).ok()??;
        let end = text.iter().position(|byte| *byte == 0)?;
        serde_json::from_slice(text.get(..end)?).ok()
    }
}

/// The key of an array's only element.
const ONLY: [u8; 4] = [0; 4];

/// Leaves the description of our maps for the netd that comes after.
pub(in super::super) fn describe(pins: &Pins) -> Result<(), DatapathError> {
    let error = |source: io::Error| map_error(names::LAYOUT)(MapError::IoError(source));
    let mut text = serde_json::to_vec(&Description::own()).map_err(|it| error(it.into()))?;
    text.resize(names::LAYOUT_BYTES, 0);
    let map = RawMap::open(&pins.map(names::LAYOUT)).map_err(map_error(names::LAYOUT))?;
    if map.get(&ONLY).map_err(error)?.as_ref() != Some(&text) {
        fail_point::before_step();
        map.set(&ONLY, &mut text).map_err(error)?;
    }
    Ok(())
}

impl Table {
    pub(super) fn of<K: Fields, V: Fields>() -> Self {
        Self { key: fields::<K>(), value: fields::<V>() }
    }
}

/// The fields of a type.
pub(super) fn fields<T: Fields>() -> Vec<Field> {
    let owned = |field: &layout::Field| Field {
        name: field.name.to_owned(),
        offset: field.offset,
        len: field.len,
    };
    T::FIELDS.iter().map(owned).collect()
}

/// How bytes of one layout become those of another.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Conversion {
    moves: Vec<Move>,
    len: usize,
}

#[derive(Debug, PartialEq, Eq)]
struct Move {
    from: usize,
    to: usize,
    len: usize,
}

impl Conversion {
    /// The conversion between two layouts. A field that is new is zero. None where a field has another length, or
    /// all are to be known and one is not.
    pub(super) fn new(from: &[Field], to: &[Field], is_whole: bool) -> Option<Self> {
        let mut moves = Vec::new();
        for field in to {
            match from.iter().find(|other| other.name == field.name) {
                Some(other) if other.len == field.len => {
                    moves.push(Move { from: other.offset, to: field.offset, len: field.len });
                }
                None if !is_whole => {}
                Some(_) | None => return None,
            }
        }
        let len = to.iter().map(|field| field.offset + field.len).max()?;
        (!is_whole || from.len() == to.len()).then_some(Self { moves, len })
    }

    /// How long it becomes.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Converts. What lies outside of `from` is zero.
    pub(super) fn convert(&self, from: &[u8]) -> Vec<u8> {
        let mut to = vec![0; self.len];
        for step in &self.moves {
            if let (Some(from), Some(to)) =
                (from.get(step.from..step.from + step.len), to.get_mut(step.to..step.to + step.len))
            {
                to.copy_from_slice(from);
            }
        }
        to
    }
}

#[cfg(test)]
mod tests {
    use netd_common::names::LAYOUT_BYTES;

    use super::*;

    fn field(name: &str, offset: usize, len: usize) -> Field {
        Field { name: name.to_owned(), offset, len }
    }

    #[test]
    fn fields_are_found_by_their_names() {
        let old = [field("a", 0, 2), field("b", 2, 1), field("gone", 3, 1)];
        let new = [field("new", 0, 1), field("b", 1, 1), field("a", 2, 2)];
        let conversion = Conversion::new(&old, &new, false).unwrap();
        assert_eq!(conversion.convert(&[1, 2, 3, 4]), [0, 3, 1, 2]);
    }

    #[test]
    fn what_cannot_be_converted_is_refused() {
        let (short, long) = ([field("a", 0, 2)], [field("a", 0, 4)]);
        assert_eq!(Conversion::new(&short, &long, false), None);
        let more = [field("a", 0, 2), field("b", 2, 2)];
        assert_eq!(Conversion::new(&short, &more, true), None);
        assert_eq!(Conversion::new(&more, &short, true), None);
        assert!(Conversion::new(&more, &short, false).is_some());
    }

    #[test]
    fn the_own_description_has_room() {
        let text = serde_json::to_vec(&Description::own()).unwrap();
        assert!(text.len() < LAYOUT_BYTES, "{}", text.len());
        assert_eq!(serde_json::from_slice::<Description>(&text).unwrap(), Description::own());
    }
}
