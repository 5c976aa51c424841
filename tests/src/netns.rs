//! Network namespaces of a test's own, under names that no other test has.

use std::{
    fs::{self, File},
    net::IpAddr,
    panic::resume_unwind,
    path::{Path, PathBuf},
    process::{self, Command},
    sync::{
        Once,
        atomic::{AtomicU32, Ordering},
    },
    thread,
};

use nix::sched::{CloneFlags, setns};

use crate::{
    condition::eventually,
    hostile::link::Mac,
    process::{Outcome, run, run_in},
};

/// What the name of everything begins with that tests make and that others can see.
const PREFIX: &str = "ntd";

const NAMES_DIR: &str = "/run/netns";

/// Where the tests' daemons pin their programs and maps, in folders of [`unique_name`]s.
pub const PINS_DIR: &str = "/sys/fs/bpf";

/// What the names of those folders begin with.
pub const PINS_PREFIX: &str = "netd-test-";

/// Returns `ntd-PID-N`, which nothing else in this boot of the machine is called at the same time.
pub fn unique_name() -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    static SWEEP: Once = Once::new();
    SWEEP.call_once(remove_leftovers);
    format!("{PREFIX}-{}-{}", process::id(), NUMBER.fetch_add(1, Ordering::Relaxed))
}

/// Removes what test processes that were killed could not: namespaces and pins. They are found by the
/// number of the process in their names.
fn remove_leftovers() {
    for name in names_in(NAMES_DIR).filter(|name| is_leftover(name)) {
        let _ = run(Command::new("ip").args(["netns", "del", &name]), "");
    }
    for name in names_in(PINS_DIR) {
        if name.strip_prefix(PINS_PREFIX).is_some_and(is_leftover) {
            let _ = fs::remove_dir_all(Path::new(PINS_DIR).join(name));
        }
    }
}

fn names_in(dir: &str) -> impl Iterator<Item = String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned())
}

/// Whether a name is of the form `ntd-PID-...` and there is no such process.
fn is_leftover(name: &str) -> bool {
    let pid = name.strip_prefix(PREFIX).and_then(|rest| rest.strip_prefix('-')?.split('-').next());
    let pid = pid.and_then(|pid| pid.parse::<u32>().ok());
    pid.is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists())
}

/// Runs a closure on a thread of its own inside the namespace at `path`.
///
/// # Panics
/// Where the namespace cannot be entered, or as the closure does.
pub(crate) fn inside<T: Send>(path: &Path, work: impl FnOnce() -> T + Send) -> T {
    let enter = || {
        let file = File::open(path).map_err(|error| error.to_string())?;
        setns(file, CloneFlags::CLONE_NEWNET).map_err(|error| error.to_string())?;
        Ok::<_, String>(work())
    };
    let result = thread::scope(|scope| scope.spawn(enter).join());
    match result.unwrap_or_else(|panic| resume_unwind(panic)) {
        Ok(result) => result,
        Err(error) => panic!("namespace {} cannot be entered: {error}", path.display()),
    }
}

/// A network namespace. Its name is gone when it is dropped, and with the name the namespace, unless
/// something still uses it.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    path: PathBuf,
    /// Somebody else has made it, and takes it away.
    is_others: bool,
}

impl Namespace {
    /// Makes a namespace; its loopback device is up.
    ///
    /// # Panics
    /// Where it cannot be made.
    #[track_caller]
    pub fn new(name: &str) -> Self {
        run(Command::new("ip").args(["netns", "add", name]), "").ok();
        let path = Path::new(NAMES_DIR).join(name);
        let this = Self { name: name.to_owned(), path, is_others: false };
        this.ip(&["link set lo up"]);
        this
    }

    /// A namespace that somebody else has made, under a name that is good for nothing but messages.
    pub fn of_others(name: &str, path: PathBuf) -> Self {
        Self { name: name.to_owned(), path, is_others: true }
    }

    /// Its name below /run/netns.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it can be opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Runs a program inside, to its end; the line is split at white space.
    ///
    /// # Panics
    /// Where it cannot be started.
    #[track_caller]
    pub fn run(&self, line: &str) -> Outcome {
        let words: Vec<&str> = line.split_whitespace().collect();
        let Some((program, args)) = words.split_first() else { panic!("no program to run") };
        run_in(&self.path, program, args, "")
    }

    /// Runs `ip` with each line as its arguments.
    ///
    /// # Panics
    /// Where one of them fails.
    #[track_caller]
    pub fn ip(&self, lines: &[&str]) {
        run_in(&self.path, "ip", &["-batch", "-"], &lines.join("\n")).ok();
    }

    /// Gives a device an address that is usable at once.
    ///
    /// # Panics
    /// Where that fails.
    #[track_caller]
    pub fn add_address(&self, ifname: &str, address: IpAddr, prefix_len: u8) {
        let nodad = if address.is_ipv6() { "nodad" } else { "" };
        self.ip(&[&format!("address add {address}/{prefix_len} dev {ifname} {nodad}")]);
    }

    /// Runs a closure on a thread of its own inside the namespace: sockets made there belong to it.
    ///
    /// # Panics
    /// Where the namespace cannot be entered, or as the closure does.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        inside(&self.path, work)
    }

    /// Reads a file below /proc/sys/net of the namespace.
    ///
    /// # Panics
    /// Where it cannot be read.
    pub fn sysctl(&self, path: &str) -> String {
        let path = Path::new("/proc/sys/net").join(path);
        let read = self.inside(|| fs::read_to_string(&path));
        let text = read.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        text.trim().to_owned()
    }

    /// Writes a file below /proc/sys/net of the namespace.
    ///
    /// # Panics
    /// Where it cannot be written.
    pub fn set_sysctl(&self, path: &str, value: &str) {
        let path = Path::new("/proc/sys/net").join(path);
        let written = self.inside(|| fs::write(&path, value));
        written.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }

    /// Whether the namespace has a device of that name.
    pub fn has_link(&self, ifname: &str) -> bool {
        self.run(&format!("ip link show dev {ifname}")).is_ok()
    }

    /// The MAC address of a device.
    ///
    /// # Panics
    /// Where there is no such device.
    #[track_caller]
    pub fn mac(&self, ifname: &str) -> Mac {
        let links = self.run(&format!("ip -json link show dev {ifname}")).json();
        let text = links[0]["address"].as_str().unwrap_or_default();
        let mut bytes =
            text.split(':').map(|byte| u8::from_str_radix(byte, 16).unwrap_or_default());
        std::array::from_fn(|_| bytes.next().unwrap_or_default())
    }

    /// Waits until a socket listens on a port. `table` is `tcp`, `tcp6`, `udp` or `udp6`; a socket for
    /// both families is in that of IPv6.
    ///
    /// # Panics
    /// Where none does within the deadline.
    #[track_caller]
    pub fn wait_for_listener(&self, table: &str, port: u16) {
        eventually(&format!("{table} port {port} is listened on in {}", self.name), || {
            self.inside(|| has_listener(table, port))
        });
    }

    /// Removes the name, and says whether that went well.
    fn remove(&self) -> bool {
        run(Command::new("ip").args(["netns", "del", &self.name]), "").is_ok()
    }
}

/// Looks through a table of the calling thread's namespace. There, a listening TCP socket has state 0A,
/// an unconnected UDP socket 07.
fn has_listener(table: &str, port: u16) -> bool {
    let text = fs::read_to_string(format!("/proc/thread-self/net/{table}")).unwrap_or_default();
    let local = format!(":{port:04X}");
    text.lines().skip(1).any(|line| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        columns.get(1).is_some_and(|address| address.ends_with(&local))
            && matches!(columns.get(3), Some(&("0A" | "07")))
    })
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // A test that destroys a sandbox has removed the name itself.
        if !self.is_others && self.path.exists() && !self.remove() {
            eprintln!("namespace {} stays behind", self.name);
        }
    }
}
