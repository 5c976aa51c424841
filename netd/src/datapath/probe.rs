//! What the kernel says when it is asked whether it can run the data path, and who else has programs on a
//! device. Loads without pinning or attaching: nothing is left of it.

use aya::{
    EbpfLoader,
    programs::{
        Program, ProgramError, ProgramInfo, ProgramType, SchedClassifier, TcAttachType,
        loaded_links, loaded_programs,
    },
    sys::{BpfHelper, is_helper_supported, is_program_supported},
};
use netd_common::names;
use nix::libc;

use super::{
    DatapathError, Pins, XdpError,
    attach::{HANDLE, PRIORITY},
    load::{OBJECT, program_error},
    xdp::{self, errno},
};

/// The helpers whose absence makes a kernel too old, with the release that brought them.
const HELPERS: [(ProgramType, BpfHelper, &str); 7] = [
    (ProgramType::SchedClassifier, BpfHelper::BPF_FUNC_redirect_neigh, "bpf_redirect_neigh (5.10)"),
    (ProgramType::SchedClassifier, BpfHelper::BPF_FUNC_redirect_peer, "bpf_redirect_peer (5.10)"),
    (ProgramType::SchedClassifier, BpfHelper::BPF_FUNC_loop, "bpf_loop (5.17)"),
    (ProgramType::SchedClassifier, BpfHelper::BPF_FUNC_fib_lookup, "bpf_fib_lookup (4.18)"),
    (ProgramType::SchedClassifier, BpfHelper::BPF_FUNC_skc_lookup_tcp, "bpf_skc_lookup_tcp (5.0)"),
    (
        ProgramType::CgroupSockAddr,
        BpfHelper::BPF_FUNC_get_netns_cookie,
        "bpf_get_netns_cookie (5.7)",
    ),
    (ProgramType::Xdp, BpfHelper::BPF_FUNC_xdp_get_buff_len, "bpf_xdp_get_buff_len (5.18)"),
];

/// The kinds of programs that are loaded.
const KINDS: [(ProgramType, &str); 3] = [
    (ProgramType::SchedClassifier, "classifiers (BPF_PROG_TYPE_SCHED_CLS)"),
    (ProgramType::CgroupSockAddr, "socket hooks (BPF_PROG_TYPE_CGROUP_SOCK_ADDR)"),
    (ProgramType::Xdp, "XDP (BPF_PROG_TYPE_XDP)"),
];

/// How the kernel took the programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loaded {
    /// As machine code.
    Compiled,
    /// To be interpreted, which is some times slower.
    Interpreted,
}

/// A program of somebody's on a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Foreign {
    pub id: u32,
    pub name: String,
    /// The number of the link that holds it there, without which it was attached the older way.
    pub link: Option<u32>,
}

/// Which way packets of a device go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Ingress,
    Egress,
}

/// Names what the data path needs and this kernel is without.
pub(crate) fn missing_features() -> Result<Vec<&'static str>, DatapathError> {
    let mut missing = Vec::new();
    for (kind, name) in KINDS {
        if !is_program_supported(kind).map_err(program_error("probe"))? {
            missing.push(name);
        }
    }
    for (kind, helper, name) in HELPERS {
        if !is_helper_supported(kind, helper).map_err(program_error("probe"))? {
            missing.push(name);
        }
    }
    Ok(missing)
}

/// Loads every program over maps of its own, and lets go of all.
pub(crate) fn try_programs() -> Result<Loaded, DatapathError> {
    /// Enough for maps that nothing is put into.
    const ENTRIES: u32 = 64;
    let mut loader = EbpfLoader::new();
    loader.map_max_entries("CONNTRACK_V4", ENTRIES).map_max_entries("CONNTRACK_V6", ENTRIES);
    let mut ebpf = loader.load(OBJECT)?;
    let mut loaded = Loaded::Compiled;
    let sockets = names::SOCKET_HOOKS_V4.into_iter().chain(names::SOCKET_HOOKS_V6);
    let others = [names::TO_SOCKET, names::FROM_WIRE, names::EXPIRE_FLOWS];
    for name in names::PARTS.into_iter().chain(sockets).chain(others) {
        let program = ebpf.program_mut(name).ok_or(DatapathError::NoProgram { name })?;
        if load_one(program).map_err(program_error(name))? == 0 {
            loaded = Loaded::Interpreted;
        }
    }
    Ok(loaded)
}

/// The length of its machine code, zero where there is none.
fn load_one(program: &mut Program) -> Result<u32, ProgramError> {
    if let Program::SchedClassifier(program) = program {
        program.load()?;
    } else if let Program::CgroupSockAddr(program) = program {
        program.load()?;
    } else if let Program::Xdp(program) = program {
        program.load()?;
    } else if let Program::SkLookup(program) = program {
        program.load()?;
    }
    Ok(program.info()?.size_jitted())
}

/// Whether a classifier of this priority and handle is netd's.
pub(crate) fn is_our_classifier(priority: u16, handle: u32) -> bool {
    (priority, handle) == (PRIORITY, u32::from(HANDLE))
}

/// The priority that netd's classifiers have.
pub(crate) const OUR_PRIORITY: u16 = PRIORITY;

/// The programs that netd has on devices by XDP.
pub(crate) fn our_xdp_programs(pins: &Pins) -> Result<Vec<u32>, XdpError> {
    xdp::programs(pins)
}

/// A loaded program by its number.
pub(crate) fn foreign(id: u32) -> Foreign {
    let program = loaded_programs().flatten().find(|program| program.id() == id);
    let name = program.as_ref().and_then(ProgramInfo::name_as_str).unwrap_or_default().to_owned();
    let link = loaded_links().flatten().find(|link| link.program_id() == id);
    Foreign { id, name, link: link.map(|link| link.id()) }
}

/// The programs that are attached by TCX, which all run before classifiers. None where the kernel has no TCX.
pub(crate) fn tcx_programs(
    ifname: &str,
    direction: Direction,
) -> Result<Vec<Foreign>, DatapathError> {
    let hook = match direction {
        Direction::Ingress => TcAttachType::Ingress,
        Direction::Egress => TcAttachType::Egress,
    };
    match SchedClassifier::query_tcx(ifname, hook) {
        Ok((_, programs)) => Ok(programs.iter().map(|program| foreign(program.id())).collect()),
        // Before Linux 6.6.
        Err(error) if errno(&error) == Some(libc::EINVAL) => Ok(Vec::new()),
        Err(source) => Err(DatapathError::Query { ifname: ifname.to_owned(), source }),
    }
}
