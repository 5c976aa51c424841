//! How long Docker's containers and ports take with netd, and what they cost. No figure makes a test fail; a packet
//! that crosses networks does.
//!
//! `NETD_DOCKER_STARTS` and `NETD_DOCKER_PORTS` choose how much is measured; `cargo xtask docker` sets them.

use std::{
    env, fs,
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream, UdpSocket},
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use netd_tests::{
    condition::{eventually, now},
    docker::{DockerHost, FOR_NETD, IMAGE, Release},
    family::Family,
    topology::{at, subnet},
};

/// How long one attempt to connect may take: nothing is sent again before that.
const ATTEMPT: Duration = Duration::from_millis(10);

fn number(what: &str, default: usize) -> usize {
    let text = env::var(format!("NETD_DOCKER_{what}")).ok();
    text.map_or(default, |text| text.parse().unwrap())
}

/// The time that a share of all took at most. Units: milliseconds.
fn quantile(times: &[Duration], share: f64) -> f64 {
    let place = ((times.len() - 1) as f64 * share).round() as usize;
    times[place].as_secs_f64() * 1000.0
}

#[test]
fn a_published_port_answers_soon_after_the_start_and_no_neighbour_does() {
    let starts = number("STARTS", 5);
    let host = DockerHost::new(Release::New);
    let world = &host.world;
    for (name, number) in [("front", 1), ("vault", 2)] {
        host.docker(&format!("network create --subnet {} {name}", subnet(Family::V4, number))).ok();
    }
    let got = host.directory().join("got");
    fs::create_dir_all(&got).unwrap();
    let vault = host.container("vault", "--network vault");
    host.known("vault");
    // The container serves HTTP, and writes down every datagram that gets to it.
    let script = "busybox nc -l -u -p 9 > /got/datagrams & exec busybox httpd -f -p 80 -h /tmp";
    let script_file = got.join("serve");
    fs::write(&script_file, script).unwrap();
    let run = format!(
        "create --stop-signal KILL --name web --network front --ip 10.77.1.77 -p 8080:80 -v {}:/got {IMAGE} \
         /bin/busybox sh /got/serve",
        got.display()
    );
    host.docker(&run).ok();
    let is_over = AtomicBool::new(false);
    let mut times = thread::scope(|scope| {
        scope.spawn(|| attack(&vault.namespace, &is_over));
        let times = (0..starts).map(|_| time_of_start(&host)).collect::<Vec<_>>();
        is_over.store(true, Ordering::Relaxed);
        times
    });
    let crossed = fs::read(got.join("datagrams")).unwrap_or_default();
    assert_eq!(crossed.len(), 0, "what crossed networks: {crossed:?}");
    assert!(world.packets("networks_apart") > 0, "nobody tried");
    times.sort_unstable();
    eprintln!(
        "{starts} starts, from `docker start` to the first answer: median {:.1} ms, 90 % {:.1} ms, 99 % {:.1} ms, most \
         {:.1} ms",
        quantile(&times, 0.5),
        quantile(&times, 0.9),
        quantile(&times, 0.99),
        quantile(&times, 1.0),
    );
}

/// Sends to the container without end, as a neighbour who is to get nowhere.
fn attack(vault: &netd_tests::netns::Namespace, is_over: &AtomicBool) {
    let socket = vault.inside(|| UdpSocket::bind("0.0.0.0:0").unwrap());
    while !is_over.load(Ordering::Relaxed) {
        let _ = socket.send_to(b"x", "10.77.1.77:9");
        thread::yield_now();
    }
}

fn time_of_start(host: &DockerHost) -> Duration {
    host.docker("start web").ok();
    let begun = now();
    let client = &host.world.client;
    let to: SocketAddr = at(Family::V4.host(), 8080);
    let took = client.inside(|| {
        while answers(to).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(30), "nobody answers");
        }
        begun.elapsed()
    });
    host.docker("kill web").ok();
    host.forgotten("web");
    took
}

/// Whether a server answers: dockerd's own listener would take the connection, and say nothing.
fn answers(to: SocketAddr) -> io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&to, ATTEMPT)?;
    stream.set_read_timeout(Some(ATTEMPT))?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    stream.read_exact(&mut [0; 4])
}

/// How Docker's ports are done.
#[derive(Clone, Copy, Debug)]
enum Engine {
    Netd,
    Iptables,
    IptablesAndProxy,
}

#[test]
fn many_ports_cost_what_they_cost() {
    let ports = number("PORTS", 20);
    let engines = match ports {
        // A process for each port, and one more for IPv6: more than a machine holds.
        2000.. => &[Engine::Netd, Engine::Iptables][..],
        _ => &[Engine::Netd, Engine::Iptables, Engine::IptablesAndProxy],
    };
    for engine in engines {
        let mut host = DockerHost::without_daemons(Release::New);
        if matches!(engine, Engine::Netd) {
            host.world.daemon.start();
        }
        host.start_docker(match engine {
            Engine::Netd => FOR_NETD,
            Engine::Iptables => "--userland-proxy=false",
            Engine::IptablesAndProxy => "",
        });
        if matches!(engine, Engine::Netd) {
            host.known_network("bridge");
        }
        let before = memory(&mut host, *engine);
        let begun = now();
        let last = 20_000 + ports - 1;
        let options = format!("-p 20000-{last}:20000-{last} {IMAGE} /bin/busybox sleep 3600");
        if !host.docker(&format!("run -d --stop-signal KILL --name web {options}")).is_ok() {
            eprintln!(
                "{ports} ports, {engine:?}: not done after {:.0} s",
                begun.elapsed().as_secs_f64()
            );
            continue;
        }
        let ran = begun.elapsed();
        let container = host.running("web");
        let _server =
            netd_tests::servers::nginx(&container.namespace, &[u16::try_from(last).unwrap()]);
        let client = &host.world.client;
        eventually("the last port answers", || {
            netd_tests::clients::try_fetch(
                client,
                at(Family::V4.host(), u16::try_from(last).unwrap()),
            )
            .is_ok()
        });
        let (answered, after) = (begun.elapsed(), memory(&mut host, *engine));
        let rules = host.world.host.run("iptables-save").stdout.lines().count();
        let begun = now();
        host.docker("rm -f web").ok();
        eprintln!(
            "{ports} ports, {engine:?}: docker run {:.2} s, answered after {:.2} s, docker rm {:.2} s, memory +{} KiB, \
             {rules} lines of iptables-save",
            ran.as_secs_f64(),
            answered.as_secs_f64(),
            begun.elapsed().as_secs_f64(),
            after.saturating_sub(before),
        );
    }
}

/// What dockerd, its proxies and netd have of memory for themselves. Units: KiB.
fn memory(host: &mut DockerHost, engine: Engine) -> u64 {
    let netd = matches!(engine, Engine::Netd).then(|| host.world.daemon.pid());
    host.docker_processes().into_iter().chain(netd).map(share).sum()
}

/// A process's proportional set size (`Pss` of `smaps_rollup`).
fn share(pid: u32) -> u64 {
    let path = Path::new("/proc").join(pid.to_string()).join("smaps_rollup");
    let text = fs::read_to_string(path).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}
