//! dockerd, netd and a container are restarted in every order while flows of another container go on: none of them
//! notices, and new ones come about all along.
//!
//! No datagram may be lost: nothing on their way is dockerd's or netd's process, and the namespaces' queues hold far
//! more than there is at a time. The servers run beside the containers, so that a wrong one never answers: what the
//! flows ask for nobody else has.

use std::{net::UdpSocket, thread, time::Duration};

use netd_tests::{
    clients::{Connection, Transport, ask_by, fetch, try_fetch, udp_socket},
    condition::eventually,
    docker::{DockerContainer, DockerHost, FOR_NETD, Release},
    family::Family,
    netns::Namespace,
    servers::{self, Server},
    steady::Steady,
    streams::Stream,
    topology::{World, at},
};

use super::create_network;

/// How long a stream rests after each turn: dockerd has to get on as well.
const REST: Duration = Duration::from_millis(2);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    KillDocker,
    StopDocker,
    StartDocker,
    KillNetd,
    StartNetd,
    /// The other container, by Docker.
    RestartOther,
}
use Step::{KillDocker, KillNetd, RestartOther, StartDocker, StartNetd, StopDocker};

const DOCKER: &[Step] = &[KillDocker, StartDocker];
const NETD: &[Step] = &[KillNetd, StartNetd];
const OTHER: &[Step] = &[RestartOther];

/// One after the other: the shortest walk in which each of the six orders of the three is somewhere. Once dockerd
/// ends in order, which takes it seconds.
const IN_TURN: [&[Step]; 9] =
    [DOCKER, NETD, OTHER, DOCKER, NETD, DOCKER, OTHER, NETD, &[StopDocker, StartDocker]];

/// More than one of them at once.
const OVERLAPPING: [&[Step]; 4] = [
    &[KillDocker, KillNetd, StartDocker, StartNetd],
    &[KillNetd, StopDocker, StartNetd, StartDocker],
    &[KillDocker, KillNetd, StartNetd, StartDocker],
    &[KillNetd, KillDocker, StartDocker, RestartOther, StartNetd],
];

/// The host, its flows, and the container that is restarted.
struct Scene {
    host: DockerHost,
    web: DockerContainer,
    flows: Flows,
    other: Other,
    _servers: [Server; 5],
}

impl Scene {
    #[track_caller]
    fn new(release: Release) -> Self {
        let mut host = DockerHost::without_daemons(release);
        host.world.daemon.start();
        host.start_docker(&flags());
        create_network(&host, "front", 1, "");
        let web = host.container("web", "--network front -p 8080:80 -p 7000:7/udp -p 7001:7");
        host.container("other", "--network front -p 8081:80 -p 5001:5000/udp");
        let (inside, outside) = (&web.namespace, &host.world.client);
        let servers = [
            servers::nginx(inside, &[80]),
            servers::tcp_echo(inside, 7),
            servers::udp_echo(inside, 7),
            servers::tcp_echo(outside, 7),
            servers::udp_echo(outside, 7),
        ];
        host.published("web");
        host.published("other");
        let (flows, other) = (Flows::new(&host.world, &web), Other::new(&host));
        Self { host, web, flows, other, _servers: servers }
    }

    #[track_caller]
    fn take(&mut self, step: Step) {
        let Self { host, other, .. } = self;
        match step {
            KillDocker => host.kill_docker(),
            StopDocker => drop(host.stop_docker()),
            StartDocker => host.start_docker(&flags()),
            KillNetd => host.world.daemon.kill(),
            StartNetd => host.world.daemon.start(),
            RestartOther => other.restart(host),
        }
    }

    /// What has gone on goes on, and what begins comes about.
    #[track_caller]
    fn check(&self) {
        self.flows.go_on();
        for family in Family::BOTH {
            let page = fetch(&self.host.world.client, at(family.host(), 8080));
            let expected = (self.web.namespace.name(), family.client());
            assert_eq!((page.server.as_str(), page.client), expected);
        }
    }
}

fn flags() -> String {
    format!("{FOR_NETD} --live-restore")
}

/// Flows of both families and protocols, to the published ports and out of the container.
struct Flows {
    streams: Vec<Stream>,
    datagrams: Vec<Steady>,
}

impl Flows {
    #[track_caller]
    fn new(world: &World, web: &DockerContainer) -> Self {
        let (mut streams, mut datagrams) = (Vec::new(), Vec::new());
        for family in Family::BOTH {
            let (host, client) = (family.host(), family.client());
            let stream = |from, to| Stream::begin_paced(from, Transport::Tcp, to, REST);
            streams.push(stream(&world.client, at(host, 7001)));
            streams.push(stream(&web.namespace, at(client, 7)));
            datagrams.push(Steady::begin(&world.client, at(host, 7000), client));
            datagrams.push(Steady::begin(&web.namespace, at(client, 7), host));
        }
        Self { streams, datagrams }
    }

    #[track_caller]
    fn go_on(&self) {
        thread::scope(|scope| {
            for stream in &self.streams {
                scope.spawn(|| stream.goes_on());
            }
            for datagrams in &self.datagrams {
                scope.spawn(|| datagrams.goes_on());
            }
        });
    }

    #[track_caller]
    fn finish(self) {
        self.streams.into_iter().for_each(Stream::finish);
        self.datagrams.into_iter().for_each(Steady::finish);
    }
}

/// The container that is restarted, and who talks to it.
struct Other {
    restarts: u32,
    namespace: Namespace,
    servers: [Server; 2],
    connections: Vec<Connection>,
    sockets: Vec<UdpSocket>,
}

impl Other {
    #[track_caller]
    fn new(host: &DockerHost) -> Self {
        let (namespace, servers) = serve(host, 0);
        let mut this =
            Self { restarts: 0, namespace, servers, connections: Vec::new(), sockets: Vec::new() };
        this.connect(&host.world);
        this
    }

    #[track_caller]
    fn connect(&mut self, world: &World) {
        let (client, to) = (&world.client, |family: Family| at(family.host(), 8081));
        self.connections = Family::BOTH.map(|family| Connection::open(client, to(family))).into();
        let socket = |family: Family| udp_socket(client, at(family.host(), 5001)).unwrap();
        self.sockets = Family::BOTH.map(socket).into();
        self.sockets.iter().for_each(|socket| drop(ask_by(socket, "hello")));
    }

    /// What served in it has no time to end its connections.
    #[track_caller]
    fn restart(&mut self, host: &DockerHost) {
        host.docker("restart -t 0 other").ok();
        self.restarts += 1;
        (self.namespace, self.servers) = serve(host, self.restarts);
    }

    /// Its ports lead to it again, and to nothing of before.
    #[track_caller]
    fn check(&mut self, world: &World) {
        for (family, socket) in Family::BOTH.into_iter().zip(&self.sockets) {
            eventually(&format!("{family}: the port leads to it again"), || {
                let page = try_fetch(&world.client, at(family.host(), 8081));
                page.is_ok_and(|page| page.server == self.namespace.name())
            });
            // Who asks once more from the same port has another server now.
            assert_eq!(ask_by(socket, "again").client, family.client());
        }
        for connection in &mut self.connections {
            let answer = connection.try_fetch();
            assert!(answer.is_err(), "a connection of before goes on: {answer:?}");
        }
        self.connect(world);
    }
}

/// Starts what serves in the other container, under a name that no restart before had.
#[track_caller]
fn serve(host: &DockerHost, restarts: u32) -> (Namespace, [Server; 2]) {
    let other = host.running("other").namespace;
    let name = format!("{}-{restarts}", other.name());
    let namespace = Namespace::of_others(&name, other.path().to_owned());
    let servers = [servers::nginx(&namespace, &[80]), servers::udp_echo(&namespace, 5000)];
    (namespace, servers)
}

#[track_caller]
fn check(release: Release, steps: &[&[Step]]) {
    let mut scene = Scene::new(release);
    let (mut is_netd_there, mut is_restarted) = (true, false);
    for step in steps.concat() {
        eprintln!("{step:?}");
        scene.take(step);
        match step {
            KillNetd | StartNetd => is_netd_there = step == StartNetd,
            RestartOther => is_restarted = true,
            KillDocker | StopDocker | StartDocker => {}
        }
        if is_restarted && is_netd_there {
            scene.other.check(&scene.host.world);
            is_restarted = false;
        }
        scene.check();
    }
    scene.flows.finish();
}

#[test]
fn no_flow_of_docker_20_10_notices_a_restart() {
    check(Release::Old, &IN_TURN);
}

#[test]
fn no_flow_of_docker_28_notices_a_restart() {
    check(Release::New, &IN_TURN);
}

#[test]
fn no_flow_of_docker_20_10_notices_that_several_are_away() {
    check(Release::Old, &OVERLAPPING);
}

#[test]
fn no_flow_of_docker_28_notices_that_several_are_away() {
    check(Release::New, &OVERLAPPING);
}
