//! `netd stop --detach` without a daemon: takes away what one has left.
//!
//! What it has made is stored. A store that cannot be read keeps nothing from being taken away that can be
//! recognised without, and is left as it is.

use std::path::Path;

use anyhow::Result;

use crate::{
    config::RunOptions,
    controller::{TornDown, tear_down},
    daemon::{netns_cookie, runtime},
    datapath::{self, Pins},
    desired::Desired,
    locks,
    netlink::Netlink,
    store::{Store, StoreError},
};

/// Takes away what a daemon that no longer runs has left.
///
/// # Errors
/// Where a daemon still uses the state directory, or something cannot be removed.
pub fn run(options: RunOptions) -> Result<()> {
    let config = options.resolve()?;
    let (bpffs, state_dir) = (&config.daemon.bpffs, &config.daemon.state_dir);
    let _host = locks::host()?;
    let _pins = bpffs.exists().then(|| locks::pins(bpffs)).transpose()?;
    let stored = read(state_dir)?;
    datapath::check_owner(&Pins::new(bpffs), netns_cookie()?)?;
    let torn_down = runtime()?.block_on(async {
        let netlink = Netlink::open()?;
        anyhow::Ok(tear_down(stored.as_ref().ok(), &config, &netlink).await?)
    })?;
    if !torn_down.was_pinned {
        eprintln!(
            "warning: nothing of netd's is pinned in {}; name the directories of a daemon that had others \
             with --config, or --bpffs and --state-dir",
            bpffs.display()
        );
    }
    match stored {
        Ok(_) => {}
        Err(StoreError::Missing { .. }) if !torn_down.was_pinned => {}
        Err(error) => warn_of_unknown(&error, &torn_down),
    }
    Ok(())
}

/// What is to exist, or why that is not known.
fn read(state_dir: &Path) -> Result<Result<Desired, StoreError>, StoreError> {
    match Store::read(state_dir) {
        Ok(stored) => Ok(Ok(stored.desired)),
        Err(error) if error.is_unreadable() => Ok(Err(error)),
        Err(error) => Err(error),
    }
}

/// Says what was taken for netd's own, and what may be left.
fn warn_of_unknown(error: &StoreError, torn_down: &TornDown) {
    let devices = &torn_down.devices;
    let found = if devices.is_empty() { "none".to_owned() } else { devices.join(" ") };
    eprintln!("warning: {error}");
    eprintln!(
        "warning: so the devices that carried netd's programs were removed ({found}); one of netd's that carried \
         none is left, see `ip link`"
    );
}
