//! Whether the maps that are pinned are those that the object means.
//!
//! aya takes a pinned map whatever it is: programs would read one value for another, or be refused by the
//! verifier for a reason that leads nowhere.

use std::{fmt, io};

use aya::maps::{MapError, MapInfo};
use aya_obj::Object;

use super::{DatapathError, pins::Pins};

/// What makes two maps the same to a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    kind: u32,
    key_bytes: u32,
    value_bytes: u32,
    flags: u32,
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, key_bytes, value_bytes, flags } = self;
        write!(
            f,
            "type {kind}, keys of {key_bytes} bytes, values of {value_bytes}, flags {flags:#x}"
        )
    }
}

/// Compares the pinned maps with those of the object.
pub(super) fn check(object: &[u8], names: &[&str], pins: &Pins) -> Result<(), DatapathError> {
    let object = Object::parse(object).map_err(aya::EbpfError::from)?;
    for &name in names {
        let path = pins.map(name);
        let (Some(wanted), Some(found)) = (in_object(&object, name), pinned(&path)?) else {
            continue;
        };
        if found != wanted {
            return Err(DatapathError::Layout { path, found, wanted });
        }
    }
    Ok(())
}

fn in_object(object: &Object, name: &str) -> Option<Layout> {
    object.maps.get(name).map(|map| Layout {
        kind: map.map_type(),
        key_bytes: map.key_size(),
        value_bytes: map.value_size(),
        flags: map.map_flags(),
    })
}

/// Nothing where nothing is pinned.
fn pinned(path: &std::path::Path) -> Result<Option<Layout>, DatapathError> {
    match MapInfo::from_pin(path) {
        Ok(info) => Ok(Some(Layout {
            kind: info.map_type().map_err(|source| unreadable(path, source))? as u32,
            key_bytes: info.key_size(),
            value_bytes: info.value_size(),
            flags: info.map_flags(),
        })),
        Err(MapError::SyscallError(error)) if error.io_error.kind() == io::ErrorKind::NotFound => {
            Ok(None)
        }
        Err(source) => Err(unreadable(path, source)),
    }
}

fn unreadable(path: &std::path::Path, source: MapError) -> DatapathError {
    DatapathError::PinnedMap { path: path.to_owned(), source }
}
