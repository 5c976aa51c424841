//! A Docker host: a world with a real dockerd beside netd, and containers that Docker runs.
//!
//! dockerd and its containerd live in a mount namespace of their own, in a Debian system that `cargo xtask` has made
//! (`target/docker`), above which lies a layer that is the test's.

mod api;

use std::{
    collections::BTreeSet,
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    sync::Once,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

pub use self::api::Answer;
use crate::{
    condition::{eventually, eventually_some},
    netns::Namespace,
    process::{Outcome, Running, run, run_in},
    topology::World,
};

/// A Debian release, by the Docker that it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// 20.10.
    Old,
    /// 26.1.
    Middle,
    /// 28 or later.
    New,
}

impl Release {
    fn suite(self) -> &'static str {
        match self {
            Self::Old => "bookworm",
            Self::Middle => "trixie",
            Self::New => "sid",
        }
    }
}

/// How dockerd is told to leave packets to netd.
pub const FOR_NETD: &str = "--iptables=false --ip6tables=false --userland-proxy=false";

/// The image of all containers: busybox, which does nothing until it is told.
pub const IMAGE: &str = "probe";

/// Makes the namespace that dockerd lives in, and stays there: $1 the system, $2 the test's folder.
const HOLD: &str = r#"
set -e
system=$1 dir=$2
mkdir -p "$dir/upper" "$dir/work" "$dir/root" "$dir/data" "$dir/cgroup"
mount --rbind /sys/fs/cgroup "$dir/cgroup"
mount -t overlay overlay -o "lowerdir=$system,upperdir=$dir/upper,workdir=$dir/work" "$dir/root"
cd "$dir/root"
mount -t proc proc proc
mount -t sysfs sys sys
mount --rbind "$dir/cgroup" sys/fs/cgroup
mount --rbind /dev dev
mount -t tmpfs run run
mkdir -p var/lib/docker "./$dir" old
mount --bind "$dir/data" var/lib/docker
mount --bind "$dir" "./$dir"
pivot_root . old
umount -l /old
echo made
exec sleep infinity
"#;

/// A world whose host has a dockerd.
#[derive(Debug)]
pub struct DockerHost {
    /// The world; netd runs in it from the start.
    pub world: World,
    dockerd: Option<Running>,
    holder: Running,
    dir: PathBuf,
}

/// A container that Docker runs.
#[derive(Debug)]
pub struct DockerContainer {
    /// Its network namespace.
    pub namespace: Namespace,
    /// Its name.
    pub name: String,
}

impl DockerHost {
    /// Makes a host with netd and a dockerd that leaves packets to it.
    ///
    /// # Panics
    /// Where it cannot be made.
    #[track_caller]
    pub fn new(release: Release) -> Self {
        let mut this = Self::without_daemons(release);
        this.world.daemon.start();
        this.start_docker(FOR_NETD);
        this
    }

    /// Makes a host where neither runs yet.
    ///
    /// # Panics
    /// Where it cannot be made.
    #[track_caller]
    pub fn without_daemons(release: Release) -> Self {
        static SWEEP: Once = Once::new();
        SWEEP.call_once(remove_leftovers);
        let world = World::without_daemon("");
        let dir = world.directory().join("docker");
        fs::create_dir_all(&dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
        let system = system(release);
        let script = ["--mount", "--propagation=private", "sh", "-c", HOLD, "hold"];
        let (system, place) = (system.to_string_lossy(), dir.to_string_lossy());
        let args: Vec<&str> = script.into_iter().chain([&*system, &*place]).collect();
        let log = dir.join("holder.log");
        let mut holder = Running::start(world.host.path(), &log, "unshare", &args);
        eventually("there is a place for dockerd", || {
            assert_eq!(holder.status(), None, "{}", holder.log());
            holder.log().contains("made")
        });
        let this = Self { world, dockerd: None, holder, dir };
        this.configure_netd("");
        this
    }

    /// Writes `netd.toml` anew, with more in its section `[docker]`.
    ///
    /// # Panics
    /// Where it cannot be written.
    #[track_caller]
    pub fn configure_netd(&self, docker: &str) {
        let host = self.socket();
        self.world.daemon.configure(&format!("[docker]\nhost = \"unix://{host}\"\n{docker}\n"));
    }

    /// A folder of its own, which the host and dockerd see at the same place.
    pub fn directory(&self) -> &Path {
        &self.dir
    }

    /// dockerd and its proxies.
    ///
    /// # Panics
    /// Where it does not run.
    #[track_caller]
    pub fn docker_processes(&mut self) -> Vec<u32> {
        let dockerd = self.dockerd.as_ref().unwrap_or_else(|| panic!("dockerd does not run")).pid();
        let is_proxy = |pid: &i32| {
            parent(*pid) == Some(dockerd.cast_signed())
                && fs::read_to_string(format!("/proc/{pid}/comm"))
                    .is_ok_and(|name| name.trim_end() == "docker-proxy")
        };
        let proxies = processes().filter(is_proxy).map(i32::cast_unsigned);
        proxies.chain([dockerd]).collect()
    }

    fn socket(&self) -> String {
        self.dir.join("docker.sock").to_string_lossy().into_owned()
    }

    /// Starts dockerd and waits until it answers.
    ///
    /// # Panics
    /// Where it ends instead.
    #[track_caller]
    pub fn start_docker(&mut self, flags: &str) {
        self.dockerd = Some(self.spawn_docker(flags));
        eventually("dockerd answers", || {
            let dockerd = self.dockerd.as_mut().unwrap_or_else(|| unreachable!("just started"));
            if let Some(status) = dockerd.status() {
                panic!("dockerd ended with {status}:\n{}", dockerd.log());
            }
            self.docker("version").is_ok()
        });
        if !self.docker(&format!("image inspect {IMAGE}")).is_ok() {
            self.import_image();
        }
    }

    /// Ends dockerd as its service manager does, and waits for it: what it has logged.
    ///
    /// # Panics
    /// Where it does not end.
    #[track_caller]
    pub fn stop_docker(&mut self) -> String {
        let mut dockerd = self.dockerd.take().unwrap_or_else(|| panic!("dockerd does not run"));
        // The one that was started became nsenter's child, and dockerd in the end: all the same process.
        dockerd.signal(Signal::SIGTERM);
        dockerd.wait();
        dockerd.log()
    }

    /// Ends dockerd in the middle of whatever it does.
    ///
    /// # Panics
    /// Where it does not run.
    #[track_caller]
    pub fn kill_docker(&mut self) {
        let mut dockerd = self.dockerd.take().unwrap_or_else(|| panic!("dockerd does not run"));
        dockerd.signal(Signal::SIGKILL);
        dockerd.wait();
        // Where no init reaps, a containerd that has ended with it looks as if it were alive.
        let rm = ["rm", "-f", "/run/docker.pid", "/run/docker/containerd/containerd.pid"];
        let args: Vec<String> = self.mount_namespace();
        let args: Vec<&str> = args.iter().map(String::as_str).chain(rm).collect();
        run_in(self.world.host.path(), "nsenter", &args, "").ok();
    }

    /// Writes the file of dockerd's settings, which it reads when it starts.
    ///
    /// # Panics
    /// Where it cannot be written.
    #[track_caller]
    pub fn write_daemon_json(&self, text: &str) {
        let written = fs::write(self.dir.join("daemon.json"), text);
        written.unwrap_or_else(|error| panic!("{error}"));
        let (from, to) = (self.dir.join("daemon.json"), "/etc/docker/daemon.json");
        let args = self.mount_namespace();
        let from = from.to_string_lossy();
        let script = format!("mkdir -p /etc/docker && cp {from} {to}");
        let args: Vec<&str> =
            args.iter().map(String::as_str).chain(["sh", "-c", &script]).collect();
        run_in(self.world.host.path(), "nsenter", &args, "").ok();
    }

    /// Makes that file younger than any dockerd that has been started so far: files' times are whole seconds to netd.
    ///
    /// # Panics
    /// Where there is none.
    #[track_caller]
    pub fn make_daemon_json_younger(&self) {
        let touch = ["touch", "-d", "+1 hour", "/etc/docker/daemon.json"];
        let args = self.mount_namespace();
        let args: Vec<&str> = args.iter().map(String::as_str).chain(touch).collect();
        run_in(self.world.host.path(), "nsenter", &args, "").ok();
    }

    /// Has dockerd read its settings again, as far as it does.
    ///
    /// # Panics
    /// Where it does not run.
    #[track_caller]
    pub fn reload_docker(&mut self) {
        let dockerd = self.dockerd.as_mut().unwrap_or_else(|| panic!("dockerd does not run"));
        dockerd.signal(Signal::SIGHUP);
    }

    /// Waits until a network of Docker's is netd's work.
    ///
    /// # Panics
    /// Where it does not become so.
    #[track_caller]
    pub fn known_network(&self, name: &str) {
        eventually(&format!("netd knows network {name}"), || {
            self.world.netd(&format!("network inspect {name}")).is_ok()
        });
    }

    /// The program that goes where dockerd lives, as arguments of nsenter(1).
    fn mount_namespace(&self) -> Vec<String> {
        vec![format!("--mount=/proc/{}/ns/mnt", self.holder.pid()), "--".to_owned()]
    }

    /// Runs `docker LINE`, split at white space, to its end.
    ///
    /// # Panics
    /// Where it cannot be started.
    #[track_caller]
    pub fn docker(&self, line: &str) -> Outcome {
        self.docker_with(line, "")
    }

    /// `docker LINE` as a shell has it, for who runs many at once.
    pub fn docker_line(&self, line: &str) -> String {
        let (netns, mount) = (self.world.host.path().display(), self.holder.pid());
        let host = self.socket();
        format!(
            "nsenter --net={netns} --mount=/proc/{mount}/ns/mnt -- docker --host unix://{host} {line}"
        )
    }

    #[track_caller]
    fn docker_with(&self, line: &str, stdin: &str) -> Outcome {
        let host = format!("unix://{}", self.socket());
        let args = self.mount_namespace().into_iter();
        let args = args.chain(["docker", "--host", &host].map(str::to_owned));
        let args: Vec<String> = args.chain(line.split_whitespace().map(str::to_owned)).collect();
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        run_in(self.world.host.path(), "nsenter", &args, stdin)
    }

    /// An image of nothing but busybox: what answers in a container is a program of this machine's.
    #[track_caller]
    fn import_image(&self) {
        let image = self.dir.join("image");
        for folder in ["bin", "etc", "tmp"] {
            fs::create_dir_all(image.join(folder)).unwrap_or_else(|error| panic!("{error}"));
        }
        let busybox = run(Command::new("sh").args(["-c", "command -v busybox"]), "").ok();
        let copied = fs::copy(busybox.trim(), image.join("bin/busybox"));
        copied.unwrap_or_else(|error| panic!("{busybox}: {error}"));
        let tar = self.dir.join("image.tar");
        run(Command::new("tar").arg("-C").arg(&image).arg("-cf").arg(&tar).arg("."), "").ok();
        self.docker(&format!("import {} {IMAGE}", tar.display())).ok();
    }

    /// Runs a container with these options, which does nothing until something is started in it.
    ///
    /// # Panics
    /// Where that fails.
    #[track_caller]
    pub fn container(&self, name: &str, options: &str) -> DockerContainer {
        self.docker(&format!(
            "run -d --stop-signal KILL --name {name} {options} {IMAGE} /bin/busybox sleep 3600"
        ))
        .ok();
        self.running(name)
    }

    /// A container that runs already.
    ///
    /// # Panics
    /// Where it does not.
    #[track_caller]
    pub fn running(&self, name: &str) -> DockerContainer {
        let pid = self.inspect(name)["State"]["Pid"].as_u64().unwrap_or_default();
        assert_ne!(pid, 0, "container {name} does not run");
        let path = PathBuf::from(format!("/proc/{pid}/ns/net"));
        let namespace = Namespace::of_others(&self.world.name_of(name), path);
        DockerContainer { namespace, name: name.to_owned() }
    }

    /// What `docker inspect` says of a container.
    ///
    /// # Panics
    /// Where there is none.
    #[track_caller]
    pub fn inspect(&self, container: &str) -> Value {
        self.docker(&format!("inspect {container}")).json()[0].take()
    }

    /// Waits until netd publishes what a container publishes.
    ///
    /// # Panics
    /// Where it does not.
    #[track_caller]
    pub fn published(&self, endpoint: &str) -> Value {
        eventually_some(&format!("netd publishes ports of {endpoint}"), || {
            let ports = self.world.netd(&format!("port ls {endpoint} --json"));
            let ports = ports.is_ok().then(|| ports.json())?;
            ports.as_array().is_some_and(|rows| !rows.is_empty()).then_some(ports)
        })
    }

    /// Waits until netd knows an endpoint.
    ///
    /// # Panics
    /// Where it does not.
    #[track_caller]
    pub fn known(&self, endpoint: &str) -> Value {
        eventually_some(&format!("netd knows endpoint {endpoint}"), || {
            let endpoint = self.world.netd(&format!("endpoint inspect {endpoint} --json"));
            endpoint.is_ok().then(|| endpoint.json()[0].take())
        })
    }

    /// Waits until an endpoint is not netd's any more.
    ///
    /// # Panics
    /// Where it stays.
    #[track_caller]
    pub fn forgotten(&self, endpoint: &str) {
        eventually(&format!("netd has forgotten endpoint {endpoint}"), || {
            !self.world.netd(&format!("endpoint inspect {endpoint}")).is_ok()
        });
    }
}

impl Drop for DockerHost {
    fn drop(&mut self) {
        if self.dockerd.is_some() {
            let containers = self.docker("ps -aq").stdout.replace('\n', " ");
            if !containers.trim().is_empty() {
                // With them go their cgroups.
                self.docker(&format!("rm -f {containers}"));
            }
        }
        self.dockerd = None;
        end_processes(&self.dir.to_string_lossy());
    }
}

/// The system with that release's Docker: `NETD_DOCKER_SYSTEMS`, else where `cargo xtask` makes them.
fn system(release: Release) -> PathBuf {
    let made = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/docker");
    let systems = env::var_os("NETD_DOCKER_SYSTEMS").map_or(made, PathBuf::from);
    let system = systems.join(release.suite());
    let system = system.canonicalize();
    system.unwrap_or_else(|error| panic!("{}: {error}; run `cargo xtask setup`", release.suite()))
}

/// Ends what test processes that were killed have left running.
fn remove_leftovers() {
    let own = std::process::id();
    let folder = env::temp_dir();
    for pid in processes() {
        for dir in folders_of(pid, &folder.to_string_lossy()) {
            let owner = dir.split('-').nth(1).and_then(|owner| owner.parse::<u32>().ok());
            if owner.is_some_and(|it| it != own && !Path::new(&format!("/proc/{it}")).exists()) {
                end_processes(&dir);
            }
        }
    }
}

/// The folders of tests that a process sees as mounts.
fn folders_of(pid: i32, folder: &str) -> BTreeSet<String> {
    let mounts = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
    let start = format!("{folder}/ntd-");
    let folders = mounts.split(&[' ', ',', '=', ':']).filter(|word| word.starts_with(&start));
    folders.filter_map(|word| Some(word.split_once("/docker")?.0.to_owned())).collect()
}

/// Ends every process that lives in the mount namespace of a test's dockerd, and their children: containers.
fn end_processes(dir: &str) {
    let lives_there = |pid: &i32| {
        let mounts = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
        mounts.contains(dir)
    };
    let mut ended: BTreeSet<i32> = processes().filter(lives_there).collect();
    loop {
        let is_child = |pid: &i32| parent(*pid).is_some_and(|parent| ended.contains(&parent));
        let children: Vec<i32> =
            processes().filter(is_child).filter(|it| !ended.contains(it)).collect();
        if children.is_empty() {
            break;
        }
        ended.extend(children);
    }
    for pid in ended {
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
}

fn processes() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn parent(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}
