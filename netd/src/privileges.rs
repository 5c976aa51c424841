//! What the daemon may still do once it has started.

use caps::{CapSet, Capability, CapsHashSet, errors::CapsError};

/// Each with what it is for.
const NEEDED: [Capability; 7] = [
    // Links, addresses, routes, classifiers.
    Capability::CAP_NET_ADMIN,
    // Maps and programs.
    Capability::CAP_BPF,
    Capability::CAP_PERFMON,
    // Entering a sandbox (setns) and reading the pins of a mounted bpffs.
    Capability::CAP_SYS_ADMIN,
    // Opening the namespace of another user's process (/proc/PID/ns/net).
    Capability::CAP_SYS_PTRACE,
    // The store, the socket and namespace files, whoever owns their folders.
    Capability::CAP_DAC_OVERRIDE,
    Capability::CAP_DAC_READ_SEARCH,
];

/// The capabilities that this process is without and the daemon needs.
///
/// # Errors
/// Where the kernel does not say what it holds.
pub fn missing() -> Result<Vec<Capability>, CapsError> {
    let held = caps::read(None, CapSet::Effective)?;
    Ok(NEEDED.into_iter().filter(|capability| !held.contains(capability)).collect())
}

/// Gives every other capability up, for good.
///
/// # Errors
/// Where the kernel does not let the process change them.
pub fn drop_unneeded() -> Result<(), CapsError> {
    let needed: CapsHashSet = NEEDED.into_iter().collect();
    let held = caps::read(None, CapSet::Permitted)?;
    let kept: CapsHashSet = held.intersection(&needed).copied().collect();
    caps::clear(None, CapSet::Ambient)?;
    caps::set(None, CapSet::Inheritable, &CapsHashSet::new())?;
    caps::set(None, CapSet::Effective, &kept)?;
    caps::set(None, CapSet::Permitted, &kept)
}
