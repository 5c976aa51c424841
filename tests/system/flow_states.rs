//! TCP's states and timers with real connections, as `netd conntrack` shows them.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
    time::Duration,
};

use netd_tests::{
    condition::eventually,
    family::Family,
    netns::Namespace,
    topology::{World, at},
};
use nix::{
    libc,
    sys::{
        signal::Signal,
        socket::{setsockopt, sockopt},
    },
};

/// Both ends of a connection to a published port, and the listener.
struct Pair {
    client: TcpStream,
    server: TcpStream,
}

fn accept_from(world: &World, container: &Namespace, family: Family, port: u16) -> Pair {
    let address = at(world.address("web", family), 80);
    let listener = container.inside(|| TcpListener::bind(address)).unwrap();
    let client = world.client.inside(|| TcpStream::connect(at(family.host(), port))).unwrap();
    let server = listener.accept().unwrap().0;
    for stream in [&client, &server] {
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    }
    Pair { client, server }
}

impl Pair {
    fn say(&mut self) {
        let mut byte = [0];
        self.client.write_all(b"a").unwrap();
        self.server.read_exact(&mut byte).unwrap();
        self.server.write_all(b"b").unwrap();
        self.client.read_exact(&mut byte).unwrap();
    }

    fn reset(self) {
        let now = libc::linger { l_onoff: 1, l_linger: 0 };
        setsockopt(&self.client, sockopt::Linger, &now).unwrap();
    }
}

/// Waits until the one TCP flow is in a state, with at most so much time to live.
#[track_caller]
fn await_state(world: &World, state: &str, most_secs: u64) {
    eventually(&format!("the flow is in {state}"), || {
        let line = format!("conntrack ls -p tcp --state {state} --json");
        let flows = world.netd(&line).json();
        let flows = flows.as_array().unwrap();
        flows.len() == 1 && {
            let secs = flows[0]["timeout_secs"].as_u64().unwrap();
            secs <= most_secs && secs + 5 >= most_secs
        }
    });
}

#[test]
fn connections_go_through_the_states_of_conntrack() {
    let world = World::new();
    world.network("front", 1, "");
    let web = world.container("web", "front", "-p 8080:80");
    for family in Family::BOTH {
        let mut pair = accept_from(&world, &web.namespace, family, 8080);
        pair.say();
        await_state(&world, "ESTABLISHED", 432_000);
        pair.client.shutdown(Shutdown::Write).unwrap();
        assert_eq!(pair.server.read(&mut [0]).unwrap(), 0);
        await_state(&world, "CLOSE_WAIT", 60);
        // The other half goes on.
        pair.server.write_all(b"c").unwrap();
        pair.client.read_exact(&mut [0]).unwrap();
        await_state(&world, "CLOSE_WAIT", 60);
        drop(pair.server);
        assert_eq!(pair.client.read(&mut [0]).unwrap(), 0);
        await_state(&world, "TIME_WAIT", 120);
        drop(pair.client);
        world.netd("conntrack flush").ok();

        let mut pair = accept_from(&world, &web.namespace, family, 8080);
        pair.say();
        pair.reset();
        await_state(&world, "CLOSE", 10);
        world.netd("conntrack flush").ok();
    }
}

#[test]
fn a_connection_is_picked_up_after_a_flush_unless_that_is_off() {
    let loose = |is_on| format!("[datapath]\nmax_flows = 8192\ntcp_loose = {is_on}\n");
    let mut world = World::with_config(&loose(true));
    world.network("front", 1, "");
    let web = world.container("web", "front", "-p 8080:80");
    for family in Family::BOTH {
        let mut pair = accept_from(&world, &web.namespace, family, 8080);
        pair.say();
        world.netd("conntrack flush").ok();
        pair.say();
        await_state(&world, "ESTABLISHED", 432_000);
        // From a container to the world.
        let outside = world.client.inside(|| TcpListener::bind(at(family.client(), 9000))).unwrap();
        let own = web.namespace.inside(|| TcpStream::connect(at(family.client(), 9000))).unwrap();
        let mut out = Pair { client: own, server: outside.accept().unwrap().0 };
        out.say();
        world.netd("conntrack flush").ok();
        out.say();

        world.daemon.configure(&loose(false));
        world.daemon.signal(Signal::SIGHUP);
        eventually("nothing is picked up any more", || {
            world.netd("conntrack flush").ok();
            let before = world.packets("no_flow");
            out.client.write_all(b"d").unwrap();
            within_a_second(|| world.packets("no_flow") > before)
        });
        // The host, which knows nothing of it, resets the other one.
        // It may have been reset already, by an ACK that its kernel had put off.
        let is_reset = pair.client.write_all(b"e").is_err() || pair.client.read(&mut [0]).is_err();
        assert!(is_reset);
        world.daemon.configure(&loose(true));
        world.daemon.signal(Signal::SIGHUP);
        world.netd("conntrack flush").ok();
    }
}

fn within_a_second(mut holds: impl FnMut() -> bool) -> bool {
    netd_tests::condition::within(Duration::from_secs(1), || holds().then_some(())).is_some()
}

#[test]
fn a_profile_is_followed_while_connections_are_open() {
    let mut world = World::with_config("[timeouts]\nprofile = \"rfc\"\n");
    world.network("front", 1, "");
    let web = world.container("web", "front", "-p 8080:80");
    let mut pair = accept_from(&world, &web.namespace, Family::V4, 8080);
    pair.say();
    await_state(&world, "ESTABLISHED", 7_440);
    world.daemon.configure("[timeouts]\nprofile = \"lean\"\ntcp_close = 50\n");
    world.daemon.signal(Signal::SIGHUP);
    await_state(&world, "ESTABLISHED", 3_600);
    pair.reset();
    await_state(&world, "CLOSE", 50);
}
