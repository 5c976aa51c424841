//! What a run leaves on the machine until it ends: a folder, pins, names of namespaces.
//!
//! All of it carries the number of our process, so that the next run can remove what one that was
//! killed could not.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{self, Command},
};

use anyhow::{Context as _, Result};

use super::netns;

const PREFIX: &str = "netd-bench-";

/// Where BPF programs and maps are pinned.
const BPFFS: &str = "/sys/fs/bpf";

/// The folders of a run, removed when it is dropped.
pub(super) struct Scratch {
    name: String,
    folder: PathBuf,
    pins: PathBuf,
}

impl Scratch {
    /// Makes the folder, after removing what dead runs have left.
    ///
    /// # Errors
    /// Fails if the folder cannot be made.
    pub(super) fn new() -> Result<Self> {
        remove_leftovers();
        let name = format!("{PREFIX}{}", process::id());
        let folder = env::temp_dir().join(&name);
        let pins = Path::new(BPFFS).join(&name);
        fs::create_dir(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        Ok(Self { name, folder, pins })
    }

    /// A name that nothing else has while this run lasts.
    pub(super) fn name(&self, part: &str) -> String {
        format!("{}-{part}", self.name)
    }

    /// The path of a file of that name.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The path of a folder for pins of that name.
    pub(super) fn pins(&self, name: &str) -> PathBuf {
        self.pins.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.pins);
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn remove_leftovers() {
    for name in leftovers(Path::new(netns::NAMES)) {
        let _ = Command::new("ip").args(["netns", "del", &name]).status();
    }
    for parent in [Path::new(BPFFS), &env::temp_dir()] {
        for name in leftovers(parent) {
            let _ = fs::remove_dir_all(parent.join(name));
        }
    }
}

fn leftovers(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| owner(name).is_some_and(|pid| !is_running(pid))).collect()
}

/// The number of the process that made something of this name.
fn owner(name: &str) -> Option<u32> {
    name.strip_prefix(PREFIX)?.split('-').next()?.parse().ok()
}

fn is_running(pid: u32) -> bool {
    Path::new("/proc").join(pid.to_string()).exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_the_process_that_made_them() {
        assert_eq!(owner("netd-bench-12"), Some(12));
        assert_eq!(owner("netd-bench-12-routing-1-client"), Some(12));
        assert_eq!(owner("netd-bench-x"), None);
        assert_eq!(owner("netd"), None);
    }
}
