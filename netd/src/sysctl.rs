//! The kernel settings that netd depends on: which they are, and keeping them.
//!
//! A setting is read first and written only where it differs, so keeping them costs nothing and a
//! host that is set up already sees no write. `/proc/sys/net` shows the network namespace of the
//! thread that opens something below it. The kernel remembers an `ipv4` and an `ipv6` for each namespace, all of
//! one parent, and looks through them one after the other: with a thousand sandboxes that takes the most time of a
//! small request. So a thread looks each up once, and says when it [has moved](has_moved) to another namespace.

use std::{
    cell::RefCell,
    collections::{BTreeMap, btree_map::Entry},
    ffi::OsString,
    fs::File,
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
};

use nix::{
    fcntl::{AT_FDCWD, OFlag, openat},
    sys::stat::Mode,
    unistd::{AccessFlags, access},
};

const NET: &str = "/proc/sys/net";

thread_local! {
    /// The folders below [`NET`] of the namespace that the thread is in, by their names.
    static FOLDERS: RefCell<BTreeMap<OsString, File>> = const { RefCell::new(BTreeMap::new()) };
}

/// A setting that netd needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sysctl {
    path: PathBuf,
    value: &'static str,
    why: &'static str,
    /// Left alone unless it has this value.
    only_from: Option<&'static str>,
    /// No error where the kernel or the device is without it.
    may_be_absent: bool,
}

/// A setting that was changed, for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub path: PathBuf,
    pub from: String,
    pub to: &'static str,
    pub why: &'static str,
}

/// The directory of a family below `/proc/sys/net`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    V4,
    V6,
}

/// Why the settings were not all applied; those after the failed one were not touched.
#[derive(Debug, thiserror::Error)]
#[error("cannot set {} to {value} ({why})", path.display())]
pub struct ApplyError {
    pub path: PathBuf,
    pub value: &'static str,
    pub why: &'static str,
    /// What was changed before the failure.
    pub changes: Vec<Change>,
    pub source: io::Error,
}

impl Sysctl {
    fn new(path: PathBuf, value: &'static str, why: &'static str) -> Self {
        Self { path, value, why, only_from: None, may_be_absent: false }
    }

    /// Names a setting of one device, as in `net.ipv4.conf.IFNAME.KEY`.
    pub fn of_link(
        family: Family,
        ifname: &str,
        key: &str,
        value: &'static str,
        why: &'static str,
    ) -> Self {
        let family = match family {
            Family::V4 => "ipv4",
            Family::V6 => "ipv6",
        };
        let path = Path::new("/proc/sys/net").join(family).join("conf").join(ifname).join(key);
        Self::new(path, value, why)
    }

    /// Makes it no error that the setting does not exist: a kernel without IPv6, a device that
    /// has gone.
    pub fn if_present(self) -> Self {
        Self { may_be_absent: true, ..self }
    }
}

/// Lists the settings of the host that forwarding needs, in the order in which to apply them.
///
/// `router_advertised` names the uplinks whose default route came by router advertisement: IPv6
/// forwarding makes the kernel drop that route unless `accept_ra` is 2, so that comes first. An
/// uplink that has `accept_ra` 0 keeps it: there a daemon reads the advertisements.
pub fn required(ipv6_networks: bool, router_advertised: &[String]) -> Vec<Sysctl> {
    let forward = "packets of containers are routed";
    let mut sysctls = vec![Sysctl::new("/proc/sys/net/ipv4/ip_forward".into(), "1", forward)];
    if !ipv6_networks {
        return sysctls;
    }
    let keep = "forwarding must not cost the host its IPv6 default route";
    sysctls.extend(router_advertised.iter().map(|uplink| Sysctl {
        only_from: Some("1"),
        ..Sysctl::of_link(Family::V6, uplink, "accept_ra", "2", keep).if_present()
    }));
    sysctls.push(Sysctl::new("/proc/sys/net/ipv6/conf/all/forwarding".into(), "1", forward));
    sysctls
}

/// Writes each setting that differs, in order, and returns what was changed.
///
/// # Errors
/// At the first setting that cannot be read or written.
pub fn apply(sysctls: &[Sysctl]) -> Result<Vec<Change>, ApplyError> {
    let mut changes = Vec::new();
    for sysctl in sysctls {
        match apply_one(sysctl) {
            Ok(change) => changes.extend(change),
            Err(error) if sysctl.may_be_absent && is_absence(&error) => {}
            Err(source) => {
                let Sysctl { path, value, why, .. } = sysctl.clone();
                return Err(ApplyError { path, value, why, changes, source });
            }
        }
    }
    Ok(changes)
}

/// To be called by a thread that has entered another network namespace.
pub fn has_moved() {
    FOLDERS.take();
}

/// Reads a setting.
///
/// # Errors
/// Where it cannot be read.
pub fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    open(path, OFlag::O_RDONLY)?.read_to_string(&mut text)?;
    Ok(text.trim().to_owned())
}

fn write(path: &Path, value: &str) -> io::Result<()> {
    open(path, OFlag::O_WRONLY | OFlag::O_TRUNC)?.write_all(value.as_bytes())
}

fn open(path: &Path, flags: OFlag) -> io::Result<File> {
    let flags = flags | OFlag::O_CLOEXEC;
    let mut parts = path.strip_prefix(NET).unwrap_or(Path::new("")).components();
    let Some(folder) = parts.next() else {
        return Ok(openat(AT_FDCWD, path, flags, Mode::empty())?.into());
    };
    FOLDERS.with_borrow_mut(|folders| {
        let folder = match folders.entry(folder.as_os_str().to_owned()) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => place.insert(File::open(Path::new(NET).join(folder))?),
        };
        Ok(openat(&*folder, parts.as_path(), flags, Mode::empty())?.into())
    })
}

/// Those of the settings that [`apply`] could not set: each with why it is needed and what stands against it.
pub fn refused(sysctls: &[Sysctl]) -> Vec<ApplyError> {
    let refusal = |sysctl: &Sysctl| {
        let source = match needs_write(sysctl) {
            Ok(None) => return None,
            Ok(Some(_)) => access(&sysctl.path, AccessFlags::W_OK).err()?.into(),
            Err(error) if sysctl.may_be_absent && is_absence(&error) => return None,
            Err(error) => error,
        };
        let Sysctl { path, value, why, .. } = sysctl.clone();
        Some(ApplyError { path, value, why, changes: Vec::new(), source })
    };
    sysctls.iter().filter_map(refusal).collect()
}

/// What the setting has now, where that is to be changed.
fn needs_write(sysctl: &Sysctl) -> io::Result<Option<String>> {
    let from = read(&sysctl.path)?;
    let is_left_alone = sysctl.only_from.is_some_and(|only| only != from);
    Ok((from != sysctl.value && !is_left_alone).then_some(from))
}

fn apply_one(sysctl: &Sysctl) -> io::Result<Option<Change>> {
    let Some(from) = needs_write(sysctl)? else { return Ok(None) };
    crate::fail_point::before_step();
    write(&sysctl.path, sysctl.value)?;
    let Sysctl { path, value, why, .. } = sysctl.clone();
    Ok(Some(Change { path, from, to: value, why }))
}

/// A device that goes between opening and writing answers ENODEV.
fn is_absence(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
        || error.raw_os_error() == Some(nix::errno::Errno::ENODEV as i32)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{Change, Sysctl, apply, required};

    #[test]
    fn router_advertisements_are_kept_before_forwarding_starts() {
        let paths: Vec<String> = required(true, &["eth0".to_owned(), "wlan0.5".to_owned()])
            .iter()
            .map(|sysctl| format!("{}={}", sysctl.path.display(), sysctl.value))
            .collect();
        assert_eq!(
            paths,
            [
                "/proc/sys/net/ipv4/ip_forward=1",
                "/proc/sys/net/ipv6/conf/eth0/accept_ra=2",
                "/proc/sys/net/ipv6/conf/wlan0.5/accept_ra=2",
                "/proc/sys/net/ipv6/conf/all/forwarding=1",
            ]
        );
    }

    #[test]
    fn hosts_without_ipv6_networks_keep_their_ipv6_settings() {
        assert_eq!(required(false, &["eth0".to_owned()]).len(), 1);
    }

    #[track_caller]
    fn check(held: &str, sysctl: impl Fn(Sysctl) -> Sysctl, left: &str, is_changed: bool) {
        let dir = std::env::temp_dir().join(format!("netd-sysctl-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let path = dir.join(format!("line-{}", std::panic::Location::caller().line()));
        fs::write(&path, held).unwrap();
        let changes = apply(&[sysctl(Sysctl::new(path.clone(), "2", "test"))]).unwrap();
        let change = Change { path: path.clone(), from: held.trim().into(), to: "2", why: "test" };
        assert_eq!(changes, if is_changed { vec![change] } else { vec![] });
        assert_eq!(fs::read_to_string(&path).unwrap(), left);
        fs::remove_file(path).unwrap();
        let _ = fs::remove_dir(dir);
    }

    #[test]
    fn only_what_differs_is_written() {
        let only_from_1 = |sysctl| Sysctl { only_from: Some("1"), ..sysctl };
        check("0\n", |sysctl| sysctl, "2", true);
        check("2\n", |sysctl| sysctl, "2\n", false);
        check("1\n", only_from_1, "2", true);
        check("0\n", only_from_1, "0\n", false);
    }

    #[test]
    fn a_failure_names_the_setting_and_what_was_changed_before() {
        let absent = Sysctl::new("/nonexistent/accept_ra".into(), "2", "test");
        assert_eq!(apply(&[absent.clone().if_present()]).unwrap(), []);
        let error = apply(&[absent]).unwrap_err();
        assert_eq!(error.to_string(), "cannot set /nonexistent/accept_ra to 2 (test)");
        assert!(error.changes.is_empty());
    }
}
