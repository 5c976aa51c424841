//! What a start has made on the way, which goes again where the start is refused.
//!
//! Directories go only while they are empty, and a bpffs only while nobody has pinned anything: what somebody else
//! has put there meanwhile is more than a trace of ours.

use std::{
    fs, io, mem,
    path::{Path, PathBuf},
};

use nix::mount::{MntFlags, umount2};

use crate::mounts;

/// Something that was not there before.
#[derive(Debug)]
enum Made {
    Directory(PathBuf),
    File(PathBuf),
    Mount(PathBuf),
}

/// What has been made so far. Dropping it removes all of that, the last first.
#[derive(Debug, Default)]
pub struct Traces {
    made: Vec<Made>,
}

impl Traces {
    /// Notes what is missing of a directory that is about to be made, with those above it.
    pub fn directory(&mut self, path: &Path) {
        let missing: Vec<&Path> = path.ancestors().take_while(|path| !path.exists()).collect();
        // A relative path ends in an empty one.
        let missing = missing.into_iter().rev().filter(|path| !path.as_os_str().is_empty());
        self.made.extend(missing.map(|path| Made::Directory(path.to_owned())));
    }

    /// Notes a file or a socket that was made.
    pub fn file(&mut self, path: PathBuf) {
        self.made.push(Made::File(path));
    }

    /// Notes a file system that was mounted.
    pub fn mount(&mut self, path: &Path) {
        self.made.push(Made::Mount(path.to_owned()));
    }

    /// Leaves everything where it is.
    pub fn keep(&mut self) {
        self.made.clear();
    }
}

impl Drop for Traces {
    fn drop(&mut self) {
        for made in mem::take(&mut self.made).into_iter().rev() {
            // Whatever cannot go is in use; why the start was refused is what counts.
            let _ = match made {
                Made::Directory(path) => fs::remove_dir(path),
                Made::File(path) => fs::remove_file(path),
                Made::Mount(path) => unmount(&path),
            };
        }
    }
}

/// Takes a file system away in which nobody has made anything.
fn unmount(path: &Path) -> io::Result<()> {
    let is_used = mounts::is_on_bpffs(path).unwrap_or(true) && has_pins(path)?;
    if is_used { Ok(()) } else { Ok(umount2(path, MntFlags::empty())?) }
}

/// Whether a bpffs has more than what the kernel puts into each (`bpf_preload`): the only names with a dot.
fn has_pins(bpffs: &Path) -> io::Result<bool> {
    let mut entries = fs::read_dir(bpffs)?.flatten();
    Ok(entries.any(|entry| !entry.file_name().to_string_lossy().contains('.')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_made_goes_unless_it_is_kept_or_in_use() {
        let root = std::env::temp_dir().join(format!("netd-traces-{}", std::process::id()));
        let (folder, file) = (root.join("a/b"), root.join("a/b/file"));
        for (is_kept, is_used) in [(false, false), (false, true), (true, false)] {
            let mut traces = Traces::default();
            traces.directory(&folder);
            fs::create_dir_all(&folder).unwrap();
            fs::write(&file, "").unwrap();
            traces.file(file.clone());
            if is_used {
                fs::write(root.join("a/other"), "").unwrap();
            }
            if is_kept {
                traces.keep();
            }
            drop(traces);
            assert_eq!(file.exists(), is_kept);
            assert_eq!(root.exists(), is_kept || is_used);
            let _ = fs::remove_dir_all(&root);
        }
    }
}
