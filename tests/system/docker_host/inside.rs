//! Docker in Docker: a privileged container that runs a dockerd and a netd of its own, beside the host's two on one
//! kernel.
//!
//! All of it is real: the outer one is `docker run --privileged`, with PID, mount and network namespaces of its own,
//! and in it run dockerd and netd with their defaults. For want of an image with Docker the container gets the folders
//! of the system that the host's dockerd lives in. What serves in the inner container is a program of this machine in
//! its namespace, as everywhere in these tests. Docker 20.10 is not here: its privileged containers ask for
//! capabilities that root does not have on every machine of the tests.

use std::{
    fs,
    net::IpAddr,
    sync::{Mutex, PoisonError},
    thread,
};

use netd_tests::{
    clients::{Transport, ask_udp, fetch, try_fetch},
    condition::{deadline, eventually, eventually_some, within},
    daemon,
    data_path::DataPath,
    docker::{DockerContainer, DockerHost, FOR_NETD, IMAGE, Release},
    family::Family,
    netns::Namespace,
    process::Outcome,
    servers,
    streams::Stream,
    topology::{at, gateway, subnet},
};

use super::{create_network, own_address};

/// The system's folders, as a container's.
const SYSTEM: &str = "-v /usr:/usr:ro -v /usr/bin:/bin:ro -v /usr/sbin:/sbin:ro -v /usr/lib:/lib:ro \
                      -v /usr/lib64:/lib64:ro -v /etc/alternatives:/etc/alternatives:ro -v /etc/group:/etc/group:ro";

/// The number of the inner network's subnets.
const INNER: u8 = 3;

/// A container that is a Docker host with netd.
struct Outer {
    host: DockerHost,
    container: DockerContainer,
}

impl Outer {
    #[track_caller]
    fn new(release: Release) -> Self {
        let host = DockerHost::new(release);
        create_network(&host, "front", 1, "");
        let place = host.directory().display().to_string();
        write_scripts(&host);
        let line = format!(
            "run -d --privileged --name outer --network front -p 8080:8080 -p 5000:5000/udp --tmpfs /run {SYSTEM} \
             -v {place}:{place} -v {place}/inner:/var/lib/docker {IMAGE} /bin/sh {place}/start"
        );
        host.docker(&line).ok();
        let container = host.running("outer");
        host.published("outer");
        let this = Self { host, container };
        this.wait_for_netd();
        this.docker(&format!("import {place}/image.tar {IMAGE}"));
        this
    }

    /// Runs a program in it.
    fn run(&self, line: &str) -> Outcome {
        self.host.docker(&format!("exec outer {line}"))
    }

    /// Runs one of its scripts.
    fn script(&self, name: &str) -> Outcome {
        self.run(&format!("sh {}/{name}", self.host.directory().display()))
    }

    #[track_caller]
    fn docker(&self, line: &str) -> String {
        self.run(&format!("docker {line}")).ok()
    }

    /// Waits until its netd follows its dockerd.
    #[track_caller]
    fn wait_for_netd(&self) {
        let line = format!("{}/netd docker status --json", self.host.directory().display());
        let mut last = None;
        let found = within(deadline(), || {
            let status = last.insert(self.run(&line));
            (status.is_ok() && status.stdout.contains("\"followed\"")).then_some(())
        });
        assert!(found.is_some(), "the inner netd does not follow the inner dockerd: {last:?}");
    }

    /// Runs a container in it. Its process is found by its cgroup: dockerd has the numbers of another PID namespace.
    #[track_caller]
    fn inner(&self, name: &str, options: &str) -> Namespace {
        let id = self.docker(&format!(
            "run -d --stop-signal KILL --name {name} {options} {IMAGE} /bin/busybox sleep 3600"
        ));
        let is_its_own = |pid: &i32| {
            let cgroup = fs::read_to_string(format!("/proc/{pid}/cgroup"));
            cgroup.is_ok_and(|cgroup| cgroup.contains(id.trim()))
        };
        let pid = eventually_some("the inner container has a process", || {
            let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
            entries
                .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
                .find(is_its_own)
        });
        Namespace::of_others(&self.host.world.name_of(name), format!("/proc/{pid}/ns/net").into())
    }
}

impl Drop for Outer {
    fn drop(&mut self) {
        if thread::panicking() {
            for log in ["dockerd.inner.log", "netd.inner.log"] {
                let log = fs::read_to_string(self.host.directory().join(log));
                eprintln!("--- inside\n{}", log.unwrap_or_default());
            }
        }
        // With them go their cgroups.
        self.script("end");
    }
}

/// What runs in the outer container, and netd as it sees it.
#[track_caller]
fn write_scripts(host: &DockerHost) {
    let dir = host.directory();
    let place = dir.display();
    let write = |name: &str, text: String| fs::write(dir.join(name), text).unwrap();
    // Docker's layers do not lie on a container's own.
    fs::create_dir(dir.join("inner")).unwrap();
    if fs::hard_link(daemon::binary(), dir.join("netd")).is_err() {
        fs::copy(daemon::binary(), dir.join("netd")).unwrap();
    }
    write("netd.toml", "[datapath]\nmax_flows = 8192\n".to_owned());
    write(
        "start-netd",
        format!(
            "echo $$ > /run/netd.pid\nexec {place}/netd run --config {place}/netd.toml --datapath {} \
             >> {place}/netd.inner.log 2>&1\n",
            DataPath::under_test()
        ),
    );
    write("kill-netd", "kill -KILL $(cat /run/netd.pid)\n".to_owned());
    write(
        "start",
        format!(
            "sh {place}/start-netd &\ndockerd {FOR_NETD} > {place}/dockerd.inner.log 2>&1 &\nwait\n"
        ),
    );
    write("end", "docker rm -f $(docker ps -aq)\n".to_owned());
}

/// The inner container is reached through one netd and through both, and its servers see who asks.
#[track_caller]
fn check_reached(outer: &Outer, neighbour: &DockerContainer, web: &Namespace) {
    let world = &outer.host.world;
    for family in Family::BOTH {
        let own = own_address(&outer.container.namespace, family);
        let of = |number| -> IpAddr { gateway(family, number).parse().unwrap() };
        for (from, to, client) in [
            (&outer.container.namespace, family.loopback(), of(INNER)),
            (&outer.container.namespace, own, of(INNER)),
            (&neighbour.namespace, own, own_address(&neighbour.namespace, family)),
            (&world.client, family.host(), family.client()),
            (&world.host, family.loopback(), of(1)),
        ] {
            let page = fetch(from, at(to, 8080));
            assert_eq!((page.server.as_str(), page.client), (web.name(), client), "{to}");
            assert_eq!(ask_udp(from, at(to, 5000), "hello").client, client, "{to}");
        }
        assert_eq!(fetch(web, at(family.remote(), 80)).client, family.host());
    }
}

/// What is not published is closed to the outer container's neighbours.
#[track_caller]
fn check_closed(outer: &Outer, neighbour: &DockerContainer, web: &Namespace) {
    for family in Family::BOTH {
        let own = own_address(&outer.container.namespace, family);
        let subnet = subnet(family, INNER);
        neighbour.namespace.ip(&[&format!("route add {subnet} via {own}")]);
        let inside = at(own_address(web, family), 80);
        assert_eq!(fetch(&outer.container.namespace, inside).server, web.name());
        assert!(try_fetch(&neighbour.namespace, inside).is_err());
        assert!(try_fetch(&neighbour.namespace, at(own, 80)).is_err());
    }
}

#[track_caller]
fn check(release: Release) {
    // Each is two hosts. Two of these tests at once have been seen to wait for each other for a minute, in the kernel.
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut outer = Outer::new(release);
    let _outside = servers::nginx(&outer.host.world.client, &[80]);
    let neighbour = outer.host.container("neighbour", "--network front");
    outer.host.known("neighbour");
    let [v4, v6] = Family::BOTH.map(|family| subnet(family, INNER));
    outer.docker(&format!("network create --ipv6 --subnet {v4} --subnet {v6} inner"));
    let web = outer.inner("web", "--network inner -p 8080:80 -p 5000:5000/udp");
    let _servers = [servers::nginx(&web, &[80]), servers::udp_echo(&web, 5000)];
    // Docker 26 lets the kernel look for duplicates of its bridges' addresses, which nobody has until that is done.
    eventually("the inner bridge has its address", || {
        let tentative = outer.container.namespace.run("ip -6 -oneline address show tentative");
        tentative.ok().is_empty()
    });
    check_reached(&outer, &neighbour, &web);
    check_closed(&outer, &neighbour, &web);
    // Neither needs the other.
    let client = &outer.host.world.client;
    let streams =
        Family::BOTH.map(|family| Stream::begin(client, Transport::Udp, at(family.host(), 5000)));
    outer.script("kill-netd").ok();
    streams.iter().for_each(Stream::goes_on);
    outer.host.world.daemon.kill();
    check_reached(&outer, &neighbour, &web);
    let start = format!("exec -d outer sh {}/start-netd", outer.host.directory().display());
    outer.host.docker(&start).ok();
    outer.wait_for_netd();
    outer.host.world.daemon.start();
    check_reached(&outer, &neighbour, &web);
    streams.into_iter().for_each(Stream::finish);
}

#[test]
fn docker_26_in_docker_has_a_netd_of_its_own() {
    check(Release::Middle);
}

#[test]
fn docker_28_in_docker_has_a_netd_of_its_own() {
    check(Release::New);
}
