//! The daemon's side of the data path: loads and attaches the programs, keeps the maps as they should
//! be, reads the counters and the connection table. The only place that knows `aya`.
//!
//! Everything here outlives the daemon: maps, programs and socket hooks are pinned, classifiers hang on
//! their devices. A daemon that starts finds them, replaces the programs and goes on.

mod asked;
mod attach;
mod batch;
pub(crate) mod conntrack;
pub(crate) mod expiry;
mod flow_counts;
mod layout;
mod load;
#[cfg(feature = "packet-log")]
mod packet_log;
mod pins;
pub(crate) mod probe;
mod programs;
mod raw;
mod succession;
mod synced;
mod tables;
mod xdp;

use std::{collections::BTreeSet, io, path::PathBuf};

use aya::{
    maps::{Array, Map, MapData, MapError, PerCpuArray, SockMap},
    programs::ProgramError,
};
use netd_common::{
    config::{ConfigFlags, DatapathConfig},
    counters::{Counter, Traffic},
    names,
    reason::Reason,
};
use thiserror::Error;

pub(crate) use asked::AskedFor;
pub(crate) use attach::{Carried, HANDLE, PRIORITY, Side};
pub(crate) use pins::Pins;
pub(crate) use xdp::XdpError;

use crate::{programmed::Programmed, proxy::Sockets};
use layout::Layout;
use programs::Programs;
use succession::Predecessor;
use tables::Tables;

/// Why the data path could not do what it was asked to.
#[derive(Debug, Error)]
pub(crate) enum DatapathError {
    #[error("the eBPF programs could not be loaded")]
    Load(#[from] aya::EbpfError),
    #[error(
        "the kernel has no memory for the eBPF map {name} (Cannot allocate memory) where there are to be \
         {max_flows} flows: lower max_flows in the configuration, or raise the limit of netd's memory"
    )]
    NoMemory { name: String, max_flows: u32 },
    #[error("eBPF program {name} could not be loaded or run")]
    Program { name: &'static str, source: ProgramError },
    #[error("eBPF program {name} is not in the object")]
    NoProgram { name: &'static str },
    #[error("eBPF map {name} could not be read or written")]
    Map { name: &'static str, source: MapError },
    #[error("{path} is gone, and other pins with it: restart netd")]
    PinsGone { path: PathBuf },
    #[error("{path} cannot be read")]
    PinnedMap { path: PathBuf, source: MapError },
    #[error(
        "{path} is not the map that this netd would make there (it has {found}; wanted: {wanted}): run the netd \
         that made it, or remove everything with its `netd stop --detach`"
    )]
    Layout { path: PathBuf, found: Layout, wanted: Layout },
    #[error(
        "{path} has the pins of another netd, whose tables this one cannot take over: run the netd that made them, \
         or remove everything with `netd stop --detach`"
    )]
    Version { path: PathBuf },
    #[error("the programs could not be attached to {ifname}")]
    Attach { ifname: String, source: aya::programs::ProgramError },
    #[error("the programs on {ifname} could not be listed")]
    Query { ifname: String, source: ProgramError },
    #[error("{ifname} cannot carry classifiers")]
    Clsact { ifname: String, source: aya::programs::tc::TcError },
    #[error("the socket hooks could not be attached to the cgroup {path}")]
    Cgroup { path: PathBuf, source: ProgramError },
    #[error("{path} has the pins of a netd in another network namespace: give another --bpffs")]
    ForeignPins { path: PathBuf },
    #[error("{path} cannot be pinned")]
    PinObject { path: PathBuf, source: aya::pin::PinError },
    #[error("{path} cannot be made, replaced or removed")]
    Pin { path: PathBuf, source: io::Error },
}

/// The loaded data path.
pub(crate) struct Datapath {
    programs: Programs,
    tables: Tables,
    counters: PerCpuArray<MapData, Counter>,
    config: DatapathConfig,
    /// The size of the tables that there are.
    max_flows: u32,
    /// A netd of another layout, until its flows are ours.
    predecessor: Option<Predecessor>,
}

impl Datapath {
    /// Opens programs and maps, which are loaded and made where they are missing, and hooks the host's
    /// sockets.
    pub(crate) fn open(
        pins: &Pins,
        cgroup: &std::path::Path,
        config: DatapathConfig,
        max_flows: u32,
    ) -> Result<Self, DatapathError> {
        check_owner(pins, config.netns_cookie)?;
        let predecessor = Predecessor::find(pins)?;
        // Tables that take flows over have room for all of them.
        let room = predecessor.as_ref().map_or(max_flows, Predecessor::max_flows);
        let programs = Programs::open(pins, room, |draft| {
            succession::describe(draft)?;
            if predecessor.is_some() { Tables::open(draft)?.begin_no_flows() } else { Ok(()) }
        })?;
        succession::describe(pins)?;
        load::say_kept_size(pins, max_flows);
        let max_flows = load::held_flows(pins)?;
        let mut flags = 0;
        if let Some(predecessor) = &predecessor {
            flags = held_flags(pins)? & ConfigFlags::SUCCEEDED;
            if flags != 0 {
                predecessor.copy_slots(pins)?;
            }
        }
        let tables = Tables::open(pins)?;
        let counters = load::open_map(pins, "COUNTERS", Map::PerCpuArray)?;
        let config = DatapathConfig { flags: config.flags | flags, ..config };
        let mut this = Self { programs, tables, counters, config, max_flows, predecessor };
        this.configure(config)?;
        attach::hook_sockets(&this.programs, pins, cgroup)?;
        attach::hook_socket_lookup(&this.programs, pins)?;
        Ok(this)
    }

    /// Gives the proxy's sockets their places.
    pub(crate) fn place_proxy(&self, pins: &Pins, sockets: &Sockets) -> Result<(), DatapathError> {
        let name = names::PROXY_SOCKETS;
        let mut map: SockMap<MapData> = load::open_map(pins, name, Map::SockMap)?;
        for (place, socket) in sockets.places() {
            let placed = map.set(place as u32, &socket, 0);
            placed.map_err(|source| DatapathError::Map { name, source })?;
        }
        Ok(())
    }

    /// Whether a device that carries the classifiers with these numbers carries the programs of that side.
    pub(crate) fn is_attached(
        &mut self,
        carried: Carried,
        side: Side,
    ) -> Result<bool, DatapathError> {
        attach::is_attached(&mut self.programs, carried, side)
    }

    /// Whether there is a netd of another layout whose flows are to become ours.
    pub(crate) fn has_predecessor(&self) -> bool {
        self.predecessor.is_some()
    }

    /// Makes its flows ours, and its programs leave to ours what they do not know. Our maps are complete by then.
    pub(crate) fn succeed(&mut self, pins: &Pins) -> Result<(), DatapathError> {
        let Some(predecessor) = &self.predecessor else { return Ok(()) };
        if self.config.flags & ConfigFlags::SUCCEEDED != 0 {
            predecessor.take_over(pins, &self.programs)?;
        }
        predecessor.hand_down(pins, &mut self.programs)?;
        self.config.flags &= !ConfigFlags::SUCCEEDED;
        self.tables.set_config(self.config)
    }

    /// Lets go of what other builds have left: no device carries their programs any more.
    pub(crate) fn forget_others(&mut self, pins: &Pins) -> Result<(), DatapathError> {
        if let Some(predecessor) = self.predecessor.take() {
            predecessor.finish(pins, &self.programs)?;
        }
        pins.remove_versions_without_maps()?;
        self.programs.forget_others()
    }

    /// Changes timers and switches.
    pub(crate) fn configure(&mut self, config: DatapathConfig) -> Result<(), DatapathError> {
        let config = DatapathConfig { max_flows: self.max_flows, ..config };
        self.config = config;
        self.tables.set_config(config)
    }

    /// Writes what the maps lack and then removes what they should not have: containers are known
    /// before they can be reached, and cannot be reached once they are unknown.
    pub(crate) fn program(&mut self, wanted: &Programmed) -> Result<(), DatapathError> {
        self.tables.program(self.config, wanted)
    }

    /// Puts the programs of one side on a device, in place of older ones.
    pub(crate) fn attach(&mut self, ifname: &str, side: Side) -> Result<(), DatapathError> {
        attach::attach(&mut self.programs, ifname, side)
    }

    /// Takes our programs off a device.
    pub(crate) fn detach(ifname: &str) {
        attach::detach(ifname);
    }

    /// Puts the XDP program on a device, in place of an older one of ours.
    pub(crate) fn attach_xdp(&mut self, pins: &Pins, ifindex: u32) -> Result<(), XdpError> {
        xdp::attach(&self.programs, pins, ifindex)
    }

    /// Takes the XDP program off every device but these; answers with the indices of those it was on.
    pub(crate) fn detach_xdp_from_others(
        pins: &Pins,
        kept: &BTreeSet<u32>,
    ) -> Result<Vec<u32>, DatapathError> {
        xdp::detach_others(pins, kept)
    }

    /// Ends every flow of these slots, from the next packet on.
    pub(crate) fn end_flows(
        &mut self,
        slots: impl IntoIterator<Item = u32>,
    ) -> Result<(), DatapathError> {
        slots.into_iter().try_for_each(|slot| self.tables.end_flows(slot))
    }

    /// The counters by reason, summed over all CPUs.
    pub(crate) fn counters(&self) -> Result<Vec<(Reason, Counter)>, DatapathError> {
        Reason::ALL.iter().map(|&reason| Ok((reason, self.counter(reason)?))).collect()
    }

    /// The counter of a reason, summed over all CPUs.
    pub(crate) fn counter(&self, reason: Reason) -> Result<Counter, DatapathError> {
        let values = self.counters.get(&(reason as u32), 0).map_err(map_error("COUNTERS"))?;
        let mut sum = Counter::default();
        values.iter().for_each(|value| add(&mut sum, value));
        Ok(sum)
    }

    /// The traffic of a slot, summed over all CPUs; zero where it is not counted.
    pub(crate) fn traffic(&self, slot: u32) -> Result<Traffic, DatapathError> {
        let mut sum = Traffic::default();
        for value in self.tables.traffic(slot)?.iter() {
            add(&mut sum.received, &value.received);
            add(&mut sum.sent, &value.sent);
            sum.flows += value.flows;
        }
        Ok(sum)
    }
}

/// Checks that what is pinned is what this build would make, if there is anything.
pub(crate) fn check_pins(pins: &Pins) -> Result<(), DatapathError> {
    Predecessor::find(pins)?;
    load::check_maps(pins)
}

/// The flags that the programs over the pinned maps read.
fn held_flags(pins: &Pins) -> Result<u32, DatapathError> {
    let config: Array<MapData, DatapathConfig> = load::open_map(pins, "CONFIG", Map::Array)?;
    Ok(config.get(&0, 0).map_err(map_error("CONFIG"))?.flags)
}

/// Checks that the pins, if there are any, are those of a daemon of this network namespace.
pub(crate) fn check_owner(pins: &Pins, netns_cookie: u64) -> Result<(), DatapathError> {
    // One that cannot be understood is refused elsewhere.
    if let Ok(Some(predecessor)) = Predecessor::find(pins) {
        predecessor.check_owner(netns_cookie)?;
    }
    let Ok(map) = load::pinned_map(pins, "CONFIG") else {
        return Ok(());
    };
    let error = map_error("CONFIG");
    let config: Array<MapData, DatapathConfig> = Map::Array(map).try_into().map_err(&error)?;
    let owner = config.get(&0, 0).map_err(&error)?.netns_cookie;
    if owner == 0 || owner == netns_cookie {
        return Ok(());
    }
    Err(DatapathError::ForeignPins { path: pins.root().to_owned() })
}

/// Takes netd's programs off the devices, and every pin away. Pins are the last to go, so without them the
/// programs that a device carries are those of a netd with pins elsewhere, and stay.
pub(crate) fn remove_all(
    pins: &Pins,
    ifnames: impl IntoIterator<Item = String>,
) -> Result<(), DatapathError> {
    if pins.exist()? {
        ifnames.into_iter().for_each(|ifname| attach::detach(&ifname));
        xdp::detach_others(pins, &BTreeSet::new())?;
    }
    pins.remove()
}

fn add(sum: &mut Counter, value: &Counter) {
    sum.packets += value.packets;
    sum.bytes += value.bytes;
}

fn map_error(name: &'static str) -> impl Fn(MapError) -> DatapathError {
    move |source| DatapathError::Map { name, source }
}
