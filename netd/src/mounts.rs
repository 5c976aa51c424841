//! The two file systems that netd needs: cgroup2, where socket hooks attach, and bpffs, where
//! programs and maps are pinned.

use std::{
    ffi::OsString,
    fs::{self, DirBuilder, File},
    io,
    os::unix::{ffi::OsStringExt, fs::DirBuilderExt},
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
    libc,
    mount::{MsFlags, mount},
    sys::{
        stat::stat,
        statfs::{BPF_FS_MAGIC, CGROUP2_SUPER_MAGIC, FsType, statfs},
    },
};

use crate::traces::Traces;

/// Where systemd and bpftool expect bpffs.
const BPFFS_ROOT: &str = "/sys/fs/bpf";

/// Only root may look at pins: whoever can open a map can change it.
const PRIVATE: u32 = 0o700;

/// Why a file system is not there.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    #[error("cannot read the list of mounts below /proc")]
    ReadMounts(#[source] io::Error),
    #[error("cannot create directory {}", path.display())]
    CreateDirectory { path: PathBuf, source: io::Error },
    #[error("cannot lock {}", path.display())]
    Lock { path: PathBuf, source: io::Error },
    #[error("cannot tell which file system {} is on", path.display())]
    StatFs { path: PathBuf, source: Errno },
    #[error("cannot mount {fstype} at {}", path.display())]
    Mount { fstype: &'static str, path: PathBuf, source: Errno },
}

/// Finds the root of the cgroup2 hierarchy, and mounts it at `fallback` where nobody has.
///
/// Hybrid hosts have it at `/sys/fs/cgroup/unified`, others at `/sys/fs/cgroup`.
pub fn cgroup2_root(fallback: &Path, traces: &mut Traces) -> Result<PathBuf, MountError> {
    if let Some(path) = mounted_cgroup2()? {
        return Ok(path);
    }
    create_private(fallback, traces)?;
    mount_once("cgroup2", CGROUP2_SUPER_MAGIC, fallback, traces)?;
    Ok(fallback.to_owned())
}

/// The root of the cgroup2 hierarchy, where somebody has mounted it.
pub fn mounted_cgroup2() -> Result<Option<PathBuf>, MountError> {
    let mounts = fs::read("/proc/self/mountinfo").map_err(MountError::ReadMounts)?;
    // A mount point can be hidden by a later mount, so the list is asked and then the path.
    let visible = |path: &PathBuf| is_on(path, CGROUP2_SUPER_MAGIC).unwrap_or(false);
    Ok(cgroup2_mounts(&mounts).into_iter().find(visible))
}

/// Whether a directory that may not exist yet is, or would be, on a bpffs that is mounted already.
pub fn is_on_bpffs(dir: &Path) -> Result<bool, MountError> {
    is_on(nearest_existing(dir), BPF_FS_MAGIC)
}

/// Whether the file system that a directory is on, or would be made on, is also mounted for the first process:
/// if not, it ends with the last process of this mount namespace.
pub fn is_shared_with_init(dir: &Path) -> Result<bool, MountError> {
    let path = nearest_existing(dir);
    let stat = stat(path).map_err(|source| MountError::StatFs { path: path.to_owned(), source })?;
    let device = format!("{}:{}", libc::major(stat.st_dev), libc::minor(stat.st_dev));
    Ok(mountinfo("1")?.lines().any(|line| line.split(' ').nth(2) == Some(device.as_str())))
}

/// Whether this process has the mounts of the first one. A mount's number is its own, in whichever namespace.
pub fn are_inits() -> Result<bool, MountError> {
    let number = |line: &str| line.split(' ').next().map(str::to_owned);
    let own = mountinfo("self")?.lines().next().and_then(number);
    Ok(mountinfo("1")?.lines().any(|line| number(line) == own))
}

fn mountinfo(process: &str) -> Result<String, MountError> {
    fs::read_to_string(format!("/proc/{process}/mountinfo")).map_err(MountError::ReadMounts)
}

/// Makes a directory, mode 0700, on a bpffs, and mounts one where there is none: at
/// `/sys/fs/bpf` if the directory is to be below that, else at the directory itself.
pub fn ensure_bpffs(dir: &Path, traces: &mut Traces) -> Result<(), MountError> {
    if !is_on(nearest_existing(dir), BPF_FS_MAGIC)? {
        let mount_point = if dir.starts_with(BPFFS_ROOT) {
            Path::new(BPFFS_ROOT)
        } else {
            create_private(dir, traces)?;
            dir
        };
        mount_once("bpf", BPF_FS_MAGIC, mount_point, traces)?;
    }
    create_private(dir, traces)
}

/// Mounts unless someone else did in the meantime: a second mount would hide the first one's
/// files.
///
/// The lock is on the directory beneath. Whoever opens the path afterwards locks the new root
/// instead and sees that the work is done.
fn mount_once(
    fstype: &'static str,
    magic: FsType,
    path: &Path,
    traces: &mut Traces,
) -> Result<(), MountError> {
    let lock_error = |source| MountError::Lock { path: path.to_owned(), source };
    let directory = File::open(path).map_err(lock_error)?;
    let _lock = Flock::lock(directory, FlockArg::LockExclusive)
        .map_err(|(_, errno)| lock_error(errno.into()))?;
    if is_on(path, magic)? {
        return Ok(());
    }
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    // Without a mode the root of a bpffs is writable by everyone.
    let options = (magic == BPF_FS_MAGIC).then_some("mode=0700");
    mount(Some(fstype), path, Some(fstype), flags, options)
        .map_err(|source| MountError::Mount { fstype, path: path.to_owned(), source })?;
    traces.mount(path);
    Ok(())
}

fn is_on(path: &Path, magic: FsType) -> Result<bool, MountError> {
    match statfs(path) {
        Ok(stat) => Ok(stat.filesystem_type() == magic),
        Err(source) => Err(MountError::StatFs { path: path.to_owned(), source }),
    }
}

/// The directory itself or the nearest above it that is there.
pub fn nearest_existing(path: &Path) -> &Path {
    path.ancestors().find(|ancestor| ancestor.exists()).unwrap_or(Path::new("/"))
}

fn create_private(path: &Path, traces: &mut Traces) -> Result<(), MountError> {
    traces.directory(path);
    let mut builder = DirBuilder::new();
    builder.recursive(true).mode(PRIVATE);
    builder
        .create(path)
        .map_err(|source| MountError::CreateDirectory { path: path.to_owned(), source })
}

/// Lists the mount points of whole cgroup2 hierarchies, the shortest first.
fn cgroup2_mounts(mountinfo: &[u8]) -> Vec<PathBuf> {
    let mut mounts: Vec<PathBuf> =
        mountinfo.split(|byte| *byte == b'\n').filter_map(cgroup2_mount).collect();
    mounts.sort_by_key(|path| path.as_os_str().len());
    mounts
}

/// Reads a line of proc_pid_mountinfo(5):
/// `ID PARENT MAJOR:MINOR ROOT MOUNT_POINT OPTIONS [TAG]... - FSTYPE SOURCE OPTIONS`.
fn cgroup2_mount(line: &[u8]) -> Option<PathBuf> {
    let mut fields = line.split(|byte| *byte == b' ');
    let (root, mount_point) = (fields.nth(3)?, fields.next()?);
    let fstype = fields.skip_while(|field| *field != b"-").nth(1)?;
    let is_whole = fstype == b"cgroup2" && root == b"/";
    is_whole.then(|| PathBuf::from(OsString::from_vec(unescape(mount_point))))
}

/// Spaces, tabs, line feeds and backslashes are written as `\` and three octal digits.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, tail)) = rest.split_first() {
        let octal = tail.get(..3).filter(|_| *first == b'\\');
        let octal = octal.and_then(|digits| std::str::from_utf8(digits).ok());
        if let Some(byte) = octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            bytes.push(byte);
            rest = &tail[3..];
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::{cgroup2_mounts, nearest_existing};

    #[track_caller]
    fn check(mountinfo: &str, mounts: &[&str]) {
        let mounts: Vec<PathBuf> = mounts.iter().map(PathBuf::from).collect();
        assert_eq!(cgroup2_mounts(mountinfo.as_bytes()), mounts);
    }

    #[test]
    fn cgroup2_is_found_among_the_mounts() {
        check(
            "24 1 0:22 / /sys rw,nosuid shared:7 - sysfs sysfs rw\n\
             31 24 0:27 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n",
            &["/sys/fs/cgroup"],
        );
        check(
            "30 24 0:26 / /sys/fs/cgroup ro shared:8 - tmpfs tmpfs ro,mode=755\n\
             31 30 0:27 / /sys/fs/cgroup/unified rw shared:9 master:2 - cgroup2 cgroup2 rw\n\
             32 30 0:28 / /sys/fs/cgroup/cpu rw shared:10 - cgroup cgroup rw,cpu\n",
            &["/sys/fs/cgroup/unified"],
        );
    }

    #[test]
    fn parts_of_the_hierarchy_do_not_count_and_short_paths_come_first() {
        check(
            "40 1 0:27 / /run/some\\040where\\134 rw - cgroup2 none rw\n\
             41 1 0:27 /system.slice /c rw - cgroup2 none rw\n\
             42 1 0:27 / /cgroup rw - cgroup2 none rw\n\
             garbage\n\n",
            &["/cgroup", "/run/some where\\"],
        );
    }

    #[test]
    fn a_directory_to_be_made_is_judged_by_its_nearest_ancestor() {
        let path = Path::new("/proc/self/no/such/directory");
        assert_eq!(nearest_existing(path), Path::new("/proc/self"));
    }
}
