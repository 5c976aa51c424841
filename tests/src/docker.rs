//! A Docker host: a world with a real dockerd beside netd, and containers that Docker runs.
//!
//! dockerd and its containerd live in a [`System`] of their own.

mod api;
mod firewalld;
mod leftovers;
mod system;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::Once,
};

use nix::sys::signal::Signal;
use serde_json::Value;

pub use self::{
    api::Answer,
    firewalld::Firewalld,
    system::{Release, System},
};
use crate::{
    condition::{eventually, eventually_some},
    netns::Namespace,
    process::{Outcome, Running, run},
    topology::World,
};

/// How dockerd is told to leave packets to netd.
pub const FOR_NETD: &str = "--iptables=false --ip6tables=false --userland-proxy=false";

/// The image of all containers: busybox, which does nothing until it is told.
pub const IMAGE: &str = "probe";

/// A world whose host has a dockerd.
#[derive(Debug)]
pub struct DockerHost {
    /// The world; netd runs in it from the start.
    pub world: World,
    dockerd: Option<Running>,
    system: System,
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
        SWEEP.call_once(leftovers::remove);
        let world = World::without_daemon("");
        let dir = world.directory().join("docker");
        fs::create_dir_all(&dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
        let system = System::new(release, world.host.path(), &dir);
        let this = Self { world, dockerd: None, system };
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
        self.system.directory()
    }

    /// dockerd and its proxies.
    ///
    /// # Panics
    /// Where it does not run.
    #[track_caller]
    pub fn docker_processes(&mut self) -> Vec<u32> {
        let dockerd = self.dockerd.as_ref().unwrap_or_else(|| panic!("dockerd does not run")).pid();
        let is_proxy = |pid: &i32| {
            leftovers::parent(*pid) == Some(dockerd.cast_signed())
                && fs::read_to_string(format!("/proc/{pid}/comm"))
                    .is_ok_and(|name| name.trim_end() == "docker-proxy")
        };
        let proxies = leftovers::processes().filter(is_proxy).map(i32::cast_unsigned);
        proxies.chain([dockerd]).collect()
    }

    fn socket(&self) -> String {
        self.directory().join("docker.sock").to_string_lossy().into_owned()
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
        let files = ["/run/docker.pid", "/run/docker/containerd/containerd.pid"];
        self.system.run(&["rm", "-f", files[0], files[1]], "").ok();
    }

    /// Writes the file of dockerd's settings, which it reads when it starts.
    ///
    /// # Panics
    /// Where it cannot be written.
    #[track_caller]
    pub fn write_daemon_json(&self, text: &str) {
        self.system.write("/etc/docker/daemon.json", text);
    }

    /// Makes that file younger than any dockerd that has been started so far: files' times are whole seconds to netd.
    ///
    /// # Panics
    /// Where there is none.
    #[track_caller]
    pub fn make_daemon_json_younger(&self) {
        self.system.run(&["touch", "-d", "+1 hour", "/etc/docker/daemon.json"], "").ok();
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

    /// Runs `docker LINE`, split at white space, to its end.
    ///
    /// # Panics
    /// Where it cannot be started.
    #[track_caller]
    pub fn docker(&self, line: &str) -> Outcome {
        let host = format!("unix://{}", self.socket());
        let args = ["docker", "--host", &host].into_iter().chain(line.split_whitespace());
        self.system.run(&args.collect::<Vec<_>>(), "")
    }

    /// `docker LINE` as a shell has it, for who runs many at once.
    pub fn docker_line(&self, line: &str) -> String {
        self.system.shell_line(&format!("docker --host unix://{} {line}", self.socket()))
    }

    /// An image of nothing but busybox: what answers in a container is a program of this machine's.
    #[track_caller]
    fn import_image(&self) {
        let image = self.directory().join("image");
        for folder in ["bin", "etc", "tmp"] {
            fs::create_dir_all(image.join(folder)).unwrap_or_else(|error| panic!("{error}"));
        }
        let busybox = run(Command::new("sh").args(["-c", "command -v busybox"]), "").ok();
        let copied = fs::copy(busybox.trim(), image.join("bin/busybox"));
        copied.unwrap_or_else(|error| panic!("{busybox}: {error}"));
        let tar = self.directory().join("image.tar");
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
        leftovers::end_processes(&self.directory().to_string_lossy());
    }
}
