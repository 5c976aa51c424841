//! Which reasons packets have met in the kernel, told to whoever runs the tests: `cargo xtask test` sums up
//! what all of them have counted, and knows a reason that none has met.

use std::{
    collections::BTreeMap,
    env,
    fs::OpenOptions,
    io::Write as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use aya::maps::{Map, MapData, PerCpuArray};
use netd_common::{ABI_VERSION, counters::Counter, reason::Reason};

use crate::prog::maps::add;

/// Packets and bytes of every reason that has met a packet.
pub type Counters = BTreeMap<Reason, (u64, u64)>;

/// The file that is told to, if any.
const FILE: &str = "NETD_REASONS_FILE";

/// Reads the map of counters.
///
/// # Errors
/// Where the kernel refuses that.
pub fn read(map: &PerCpuArray<impl std::borrow::Borrow<MapData>, Counter>) -> Result<Counters> {
    let mut counters = Counters::new();
    for &reason in Reason::ALL {
        let values = map.get(&(reason as u32), 0)?;
        let sum = values.iter().fold(Counter::default(), |sum, cpu| add(sum, *cpu));
        if sum != Counter::default() {
            counters.insert(reason, (sum.packets, sum.bytes));
        }
    }
    Ok(counters)
}

/// Tells what packets have met: a line for every reason there is, with their number. One write, so that
/// tests that run at the same time do not mix their lines.
pub(crate) fn tell(counters: &Counters) {
    let Some(file) = env::var_os(FILE) else { return };
    let packets = |reason: &Reason| counters.get(reason).map_or(0, |(packets, _)| *packets);
    let line = |reason: &Reason| format!("{} {}\n", reason.name(), packets(reason));
    let lines: String = Reason::ALL.iter().map(line).collect();
    let opened = OpenOptions::new().append(true).create(true).open(PathBuf::from(file));
    // The test is about something else: what cannot be told counts as not met.
    let _ = opened.and_then(|mut file| file.write_all(lines.as_bytes()));
}

/// Tells what the packets of a daemon with these pins have met, if they are still there.
pub(crate) fn tell_of_pins(bpffs: &Path) {
    if let Ok(counters) = read_pinned(bpffs) {
        tell(&counters);
    }
}

fn read_pinned(bpffs: &Path) -> Result<Counters> {
    let path = bpffs.join(format!("v{ABI_VERSION}/maps/COUNTERS"));
    let data = MapData::from_pin(&path).with_context(|| path.display().to_string())?;
    read(&PerCpuArray::try_from(Map::PerCpuArray(data))?)
}
