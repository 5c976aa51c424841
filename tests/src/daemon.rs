//! The daemon under test, and its command line.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::ExitStatus,
};

use nix::sys::signal::Signal;

use crate::{
    condition::{eventually, eventually_some},
    data_path::DataPath,
    netns::{Namespace, PINS_DIR, PINS_PREFIX},
    process::{Outcome, Running, run_in},
    reasons,
};

/// The connection table of a test's daemon: small, since every world has one.
const CONFIG: &str = "[datapath]\nmax_flows = 8192\n";

/// A daemon with directories of its own, and the network namespace that is its host.
#[derive(Debug)]
pub struct Daemon {
    running: Option<Running>,
    program: PathBuf,
    data_path: DataPath,
    /// Where the log of the daemon that runs begins in the file that all of them share.
    log_start: usize,
    host: PathBuf,
    dir: PathBuf,
    bpffs: PathBuf,
}

impl Daemon {
    /// Prepares a daemon that is not started. `config` is what `netd.toml` says beyond what tests need.
    ///
    /// # Panics
    /// Where its directory cannot be made.
    #[track_caller]
    pub fn new(host: &Namespace, name: &str, config: &str) -> Self {
        let this = Self {
            running: None,
            program: binary(),
            data_path: DataPath::under_test(),
            log_start: 0,
            host: host.path().to_owned(),
            dir: env::temp_dir().join(name),
            bpffs: Path::new(PINS_DIR).join(format!("{PINS_PREFIX}{name}")),
        };
        let made = fs::create_dir_all(&this.dir);
        made.unwrap_or_else(|error| panic!("{}: {error}", this.dir.display()));
        this.configure(config);
        this
    }

    /// Runs the development build that logs each packet: `NETD_PACKET_LOG_BIN`, else what
    /// `cargo xtask build --packet-log` has made.
    pub fn log_packets(&mut self) {
        let built = binary().with_file_name("netd-packet-log");
        self.program = env::var_os("NETD_PACKET_LOG_BIN").map_or(built, PathBuf::from);
    }

    /// Makes the next daemon another build.
    pub fn run_by(&mut self, program: PathBuf) {
        self.program = program;
    }

    /// Writes `netd.toml` anew; a section `[datapath]` replaces the one of the tests.
    ///
    /// # Panics
    /// Where it cannot be written.
    #[track_caller]
    pub fn configure(&self, config: &str) {
        let path = self.config();
        let base = if config.contains("[datapath]") { "" } else { CONFIG };
        let written = fs::write(&path, format!("{base}{config}"));
        written.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }

    /// Starts the daemon and waits until it says that it is ready.
    ///
    /// # Panics
    /// Where it ends instead.
    #[track_caller]
    pub fn start(&mut self) {
        self.start_with(&[]);
    }

    /// Starts the daemon with further arguments and waits until it says that it is ready.
    ///
    /// # Panics
    /// Where it ends instead.
    #[track_caller]
    pub fn start_with(&mut self, args: &[&str]) {
        self.spawn(args);
        self.wait_until_ready();
    }

    /// Starts the daemon by a program that becomes it, such as env(1), and waits until it says that it is
    /// ready.
    ///
    /// # Panics
    /// Where it ends instead.
    #[track_caller]
    pub fn start_by<S: AsRef<str>>(&mut self, wrapper: &[S]) {
        self.spawn_by(wrapper, &[]);
        self.wait_until_ready();
    }

    /// Starts the daemon with further arguments.
    ///
    /// # Panics
    /// Where that fails.
    #[track_caller]
    pub fn spawn(&mut self, args: &[&str]) {
        self.spawn_by::<&str>(&[], args);
    }

    /// Starts the daemon by a program that becomes it, with further arguments.
    ///
    /// # Panics
    /// Where that fails.
    #[track_caller]
    pub fn spawn_by<S: AsRef<str>>(&mut self, wrapper: &[S], args: &[&str]) {
        let config = fs::read_to_string(self.config()).unwrap_or_default();
        let is_chosen = config.contains("mode =") || args.contains(&"--datapath");
        let path = if is_chosen { String::new() } else { format!("--datapath {}", self.data_path) };
        let line = format!("run {} --config {} {path}", self.places(), self.config().display());
        let program = self.program.to_string_lossy().into_owned();
        let netd = [program.as_str()].into_iter().chain(line.split_whitespace());
        let mut words = wrapper.iter().map(AsRef::as_ref).chain(netd).chain(args.iter().copied());
        self.log_start = self.log().len();
        let first = words.next().unwrap_or_default();
        let words: Vec<&str> = words.collect();
        let running = Running::start(&self.host, &self.log_path(), first, &words);
        self.running = Some(running);
    }

    /// Starts a daemon that takes over from the one that runs, and waits until it is ready; with what that one
    /// has ended.
    ///
    /// # Panics
    /// Where it ends instead, or the other does not run.
    #[track_caller]
    pub fn take_over(&mut self) -> ExitStatus {
        let other = self.running.take();
        self.spawn(&["--takeover"]);
        self.wait_until_ready();
        other.unwrap_or_else(|| panic!("netd does not run")).wait()
    }

    /// Starts a daemon that ends itself at that point (`netd/src/fail_point.rs`).
    ///
    /// # Panics
    /// Where it cannot be started.
    #[track_caller]
    pub fn spawn_to_fail(&mut self, point: &str) {
        let variable = format!("NETD_FAIL_POINT={point}");
        self.spawn_by(&["env", &variable], &[]);
    }

    /// Waits until the daemon is ready, or has ended instead; says whether it is ready.
    ///
    /// # Panics
    /// Where neither comes.
    #[track_caller]
    pub fn is_ready_or_ended(&mut self) -> bool {
        let start = self.log_start;
        let running = self.running();
        let is_ready = |running: &Running| {
            running.log()[start..].split_whitespace().any(|word| word == "ready")
        };
        eventually_some("netd is ready or has ended", || {
            let has_ended = running.status().is_some();
            (has_ended || is_ready(running)).then(|| is_ready(running))
        })
    }

    /// Makes the next daemon load programs of its own, as one of another build would.
    ///
    /// # Panics
    /// Where it cannot.
    #[track_caller]
    pub fn forget_programs(&self) {
        let current = self.bpffs.join(format!("v{}/progs/current", netd_common::ABI_VERSION));
        match fs::remove_file(current) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => panic!("{error}"),
            _ => {}
        }
    }

    /// Waits until the daemon says that it is ready.
    ///
    /// # Panics
    /// Where it ends instead.
    #[track_caller]
    pub fn wait_until_ready(&mut self) {
        let start = self.log_start;
        let running = self.running();
        eventually("netd says that it is ready", || {
            let log = running.log();
            if let Some(status) = running.status() {
                panic!("netd ended with {status}:\n{log}");
            }
            log[start..].split_whitespace().any(|word| word == "ready")
        });
    }

    /// Runs `netd LINE` in the host's namespace; the line is split at white space. It gets the socket
    /// of this daemon unless it names one.
    ///
    /// # Panics
    /// Where it cannot be started.
    #[track_caller]
    pub fn netd(&self, line: &str) -> Outcome {
        let socket = self.socket().to_string_lossy().into_owned();
        let mut args: Vec<&str> = line.split_whitespace().collect();
        if !args.contains(&"--socket") {
            args.extend(["--socket", &socket]);
        }
        run_in(&self.host, &binary().to_string_lossy(), &args, "")
    }

    /// Begins to run `netd LINE` in the host's namespace, for tests that do something meanwhile.
    ///
    /// # Panics
    /// Where it cannot be started.
    #[track_caller]
    pub fn begin(&self, line: &str) -> Running {
        let socket = self.socket().to_string_lossy().into_owned();
        let args: Vec<&str> = line.split_whitespace().chain(["--socket", &socket]).collect();
        Running::start(&self.host, &self.dir.join("cli.log"), &binary().to_string_lossy(), &args)
    }

    /// Sends the daemon a signal.
    ///
    /// # Panics
    /// Where it does not run.
    #[track_caller]
    pub fn signal(&mut self, signal: Signal) {
        self.running().signal(signal);
    }

    /// Waits for the end of the daemon.
    ///
    /// # Panics
    /// Where it does not come.
    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        let status = self.running().wait();
        self.running = None;
        status
    }

    /// Ends the daemon in the middle of whatever it does.
    ///
    /// # Panics
    /// Where it does not run.
    #[track_caller]
    pub fn kill(&mut self) {
        self.signal(Signal::SIGKILL);
        self.wait();
    }

    /// Ends the daemon if it has not ended by itself.
    pub fn end(&mut self) {
        // Dropping it kills it.
        self.running = None;
    }

    /// Its process id.
    ///
    /// # Panics
    /// Where it does not run.
    #[track_caller]
    pub fn pid(&mut self) -> u32 {
        self.running().pid()
    }

    #[track_caller]
    fn running(&mut self) -> &mut Running {
        self.running.as_mut().unwrap_or_else(|| panic!("netd does not run"))
    }

    /// Everything that it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// Throws away what it has logged, while it does not run.
    ///
    /// # Panics
    /// Where the file cannot be emptied.
    #[track_caller]
    pub fn forget_log(&self) {
        let path = self.log_path();
        let emptied = fs::write(&path, "");
        emptied.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }

    fn log_path(&self) -> PathBuf {
        self.dir.join("netd.log")
    }

    /// The arguments that say where its socket, state and pins are.
    pub fn places(&self) -> String {
        let socket = self.socket();
        format!("{} --socket {}", self.remains(), socket.display())
    }

    /// The arguments that say where what a daemon leaves behind is.
    pub fn remains(&self) -> String {
        let (state, bpffs) = (self.state_dir(), &self.bpffs);
        format!("--state-dir {} --bpffs {}", state.display(), bpffs.display())
    }

    /// The configuration file.
    pub fn config(&self) -> PathBuf {
        self.dir.join("netd.toml")
    }

    /// Where its state is.
    pub fn state_dir(&self) -> PathBuf {
        self.dir.join("state")
    }

    /// Where its pins are.
    pub fn bpffs(&self) -> &Path {
        &self.bpffs
    }

    /// Where it answers.
    pub fn socket(&self) -> PathBuf {
        self.dir.join("sock")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.running = None;
        reasons::tell_of_pins(&self.bpffs);
        // With the pins go the socket hooks. The classifiers go with the devices of the namespace.
        let _ = fs::remove_dir_all(&self.bpffs);
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// A build whose tables are laid out in another way: `NETD_OTHER_LAYOUT_BIN`, else what
/// `cargo xtask build --other-layout` has made.
pub fn other_layout() -> PathBuf {
    let built = binary().with_file_name("netd-other-layout");
    env::var_os("NETD_OTHER_LAYOUT_BIN").map_or(built, PathBuf::from)
}

/// The program under test: `NETD_BIN`, else what `cargo xtask build` has made.
pub fn binary() -> PathBuf {
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/debug/netd");
    env::var_os("NETD_BIN").map_or(built, PathBuf::from)
}
