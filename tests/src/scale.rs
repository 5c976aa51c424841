//! A host with many containers: how long the daemon's start and its requests take there.

use std::{
    fmt::Write as _,
    fs,
    ops::Range,
    time::{Duration, Instant},
};

use crate::{
    clients::fetch,
    condition::now,
    family::Family,
    servers,
    topology::{Container, UPLINK, World, at},
};

/// How long a start may take that finds everything as it was.
const WARM_TARGET: Duration = Duration::from_millis(300);
/// How long one may take that has to make everything but the containers.
const COLD_TARGET: Duration = Duration::from_secs(2);

/// The first host port.
const FIRST_PORT: u32 = 10_000;

/// A group of devices that nobody else has.
const GROUP: u32 = 77;

/// How much there is.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Networks, at most 250.
    pub networks: u32,
    /// Endpoints, spread over the networks.
    pub endpoints: u32,
    /// Published ports, spread over the endpoints.
    pub ports: u32,
}

/// What is gone when the daemon starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gone {
    /// Only the daemon was away.
    Nothing,
    /// No program and no map is there.
    Pins,
    /// As after a reboot of everything but the containers.
    PinsAndDevices,
}

/// How long something took, each time it was done.
#[derive(Clone, Debug)]
pub struct Figure {
    what: String,
    target: Option<Duration>,
    times: Vec<Duration>,
}

/// A host with that many containers.
#[derive(Debug)]
pub struct Crowd {
    world: World,
    containers: Vec<Container>,
    size: Size,
}

impl Crowd {
    /// Makes the host, and measures what it takes to connect the containers.
    ///
    /// # Panics
    /// Where it cannot be made.
    #[track_caller]
    pub fn new(size: Size) -> (Self, Vec<Figure>) {
        // A table of the size that it has by default, and not that of tests.
        let world = World::with_config("[datapath]\nmax_flows = 262144\n");
        let mut this = Self { world, containers: Vec::new(), size };
        let numbers = 0..size.networks;
        let created = numbers.map(|n| timed(|| this.world.network(&network(n), n as u8, "")).1);
        let created = created.collect();
        let connected = this.connect_all();
        let latest = connected.len() - connected.len().div_ceil(10)..;
        let figures = vec![
            Figure::new("network create", created),
            Figure::new("network connect, the latest tenth", connected[latest].to_vec()),
            Figure::new("network connect, all", connected),
        ];
        (this, figures)
    }

    fn connect_all(&mut self) -> Vec<Duration> {
        let mut times = Vec::new();
        for n in 0..self.size.endpoints {
            let container = self.world.sandbox(&format!("c{n}"));
            let options = self.ports_of(n);
            let network = network(n % self.size.networks);
            let (outcome, time) = timed(|| self.world.connect(&container, &network, &options));
            outcome.ok();
            times.push(time);
            self.containers.push(container);
        }
        times
    }

    /// The options that publish a container's ports.
    fn ports_of(&self, container: u32) -> String {
        let Range { start, end } = self.host_ports(container);
        (start..end).fold(String::new(), |mut options, port| {
            let _ = write!(options, " -p {port}:{}", 80 + port - start);
            options
        })
    }

    fn host_ports(&self, container: u32) -> Range<u32> {
        let each = self.size.ports / self.size.endpoints;
        let first = FIRST_PORT + container * each;
        first..first + each
    }

    /// Starts the daemon anew without what is gone, and measures until it is ready.
    ///
    /// # Panics
    /// Where it does not start, or leaves something out.
    #[track_caller]
    pub fn start(&mut self, gone: Gone) -> Duration {
        self.world.daemon.end();
        if gone != Gone::Nothing {
            let pins = self.world.daemon.bpffs();
            let removed = fs::remove_dir_all(pins);
            removed.unwrap_or_else(|error| panic!("{}: {error}", pins.display()));
        }
        if gone == Gone::PinsAndDevices {
            self.remove_devices();
        }
        let time = timed(|| self.world.daemon.start()).1;
        self.check();
        time
    }

    /// Takes away every device that netd has made.
    fn remove_devices(&self) {
        let names = self.host_devices();
        let mut lines: Vec<String> =
            names.iter().map(|name| format!("link set {name} group {GROUP}")).collect();
        // All at once: one after the other, each is waited for.
        lines.push(format!("link delete group {GROUP}"));
        self.world.host.ip(&lines.iter().map(String::as_str).collect::<Vec<_>>());
    }

    fn host_devices(&self) -> Vec<String> {
        let links = self.world.host.run("ip -json link show").json();
        let names = links.as_array().into_iter().flatten().map(|link| link["ifname"].as_str());
        let names = names.flatten().filter(|name| !["lo", UPLINK].contains(name));
        names.map(str::to_owned).collect()
    }

    /// Checks that everything is there, and that the last port of the last container is reached.
    ///
    /// # Panics
    /// Where it is not.
    #[track_caller]
    pub fn check(&self) {
        let Size { networks, endpoints, .. } = self.size;
        assert_eq!(self.host_devices().len() as u32, networks + endpoints);
        let Some(last) = self.containers.last() else { panic!("no container") };
        let Range { start, end } = self.host_ports(endpoints - 1);
        let _server = servers::nginx(&last.namespace, &[(80 + end - 1 - start) as u16]);
        for family in Family::BOTH {
            fetch(&self.world.client, at(family.host(), (end - 1) as u16));
        }
    }

    /// Measures requests, each of which is taken back, `rounds` times.
    ///
    /// # Panics
    /// Where one is refused.
    #[track_caller]
    pub fn requests(&self, rounds: u32) -> Vec<Figure> {
        let guest = self.world.sandbox("guest");
        let sandbox = guest.namespace.name();
        let lines = [
            "network ls -q".to_owned(),
            "network create extra".to_owned(),
            format!("network connect extra {sandbox} --name guest -p 8080:80"),
            "port add guest 8081:80".to_owned(),
            "port rm guest 8081:80".to_owned(),
            format!("network disconnect extra {sandbox}"),
            "network rm extra".to_owned(),
        ];
        let mut figures: Vec<Figure> =
            lines.iter().map(|line| Figure::new(&words(line), Vec::new())).collect();
        for _ in 0..rounds {
            for (line, figure) in lines.iter().zip(&mut figures) {
                let (outcome, time) = timed(|| self.world.netd(line));
                outcome.ok();
                figure.times.push(time);
            }
        }
        figures
    }
}

impl Figure {
    fn new(what: &str, times: Vec<Duration>) -> Self {
        Self { what: what.to_owned(), target: None, times }
    }

    /// The times of starts.
    pub fn of_starts(gone: Gone, times: Vec<Duration>) -> Self {
        let (what, target) = match gone {
            Gone::Nothing => ("start, all as it was", Some(WARM_TARGET)),
            Gone::Pins => ("start, pins gone", None),
            Gone::PinsAndDevices => ("start, pins and devices gone", Some(COLD_TARGET)),
        };
        Self { target, ..Self::new(what, times) }
    }

    fn row(&self) -> String {
        let mut times = self.times.clone();
        times.sort_unstable();
        let at = |place: usize| times.get(place).map_or("-".to_owned(), |time| millis(*time));
        let (min, median, max) = (at(0), at(times.len() / 2), at(times.len().saturating_sub(1)));
        let target = self.target.map_or(String::new(), millis);
        format!("{:<36}{median:>10}{min:>10}{max:>10}{target:>10}\n", self.what)
    }
}

/// The figures as a table.
pub fn table(figures: &[Figure]) -> String {
    let head = format!(
        "{:<36}{:>10}{:>10}{:>10}{:>10}\n",
        "milliseconds", "median", "min", "max", "target"
    );
    figures.iter().fold(head, |table, figure| table + &figure.row())
}

fn millis(time: Duration) -> String {
    format!("{:.1}", time.as_secs_f64() * 1e3)
}

/// The words of a request that say what it is.
fn words(line: &str) -> String {
    line.split_whitespace().take(2).collect::<Vec<_>>().join(" ")
}

fn network(number: u32) -> String {
    format!("n{number}")
}

fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let start: Instant = now();
    let result = work();
    (result, start.elapsed())
}
