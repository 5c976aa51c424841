//! What containers, dockerd and netd go through, in any order: packets go where they should all along, or as soon as
//! somebody is back who can say where.

use std::process::Command;

use netd_tests::{
    clients::{NoConnection, fetch, pings, try_fetch},
    condition::eventually,
    docker::{DockerContainer, DockerHost, FOR_NETD, IMAGE, Release},
    family::Family,
    process::run,
    servers::{self, Server},
    topology::{World, at},
};

use super::{create_network, own_address};

/// A container on docker0 that publishes port 8080.
#[track_caller]
fn web(host: &DockerHost) -> (DockerContainer, Server) {
    let web = host.container("web", "-p 8080:80");
    let server = servers::nginx(&web.namespace, &[80]);
    host.published("web");
    (web, server)
}

/// The page behind port 8080, from outside.
#[track_caller]
fn fetched(world: &World) -> String {
    fetch(&world.client, at(Family::V4.host(), 8080)).server
}

fn is_closed(world: &World) -> bool {
    try_fetch(&world.client, at(Family::V4.host(), 8080)).is_err()
}

#[test]
fn a_container_is_unpublished_while_it_is_stopped() {
    let host = DockerHost::new(Release::Old);
    let (_, server) = web(&host);
    fetched(&host.world);
    drop(server);
    for (down, up) in [("stop -t 0", "start"), ("kill", "start")] {
        host.docker(&format!("{down} web")).ok();
        host.forgotten("web");
        assert!(is_closed(&host.world));
        assert_eq!(host.world.netd("port ls --json").json(), serde_json::json!([]));
        host.docker(&format!("{up} web")).ok();
        let again = host.running("web");
        let _server = servers::nginx(&again.namespace, &[80]);
        host.published("web");
        fetched(&host.world);
    }
    host.docker("restart -t 0 web").ok();
    let again = host.running("web");
    let _server = servers::nginx(&again.namespace, &[80]);
    eventually("the port leads to it again", || {
        try_fetch(&host.world.client, at(Family::V4.host(), 8080)).is_ok()
    });
    host.docker("rm -f web").ok();
    host.forgotten("web");
}

#[test]
fn a_container_keeps_its_ports_when_its_networks_change() {
    let host = DockerHost::new(Release::New);
    let world = &host.world;
    create_network(&host, "alpha", 1, "");
    create_network(&host, "beta", 2, "");
    let web = host.container("web", "--network alpha -p 8080:80");
    let _server = servers::nginx(&web.namespace, &[80]);
    host.published("web");
    let fetch_all = || {
        for family in Family::BOTH {
            let to = at(family.host(), 8080);
            eventually(&format!("{to} leads to the container"), || {
                try_fetch(&world.client, to).is_ok_and(|page| page.client == family.client())
            });
        }
    };
    fetch_all();
    host.docker("network connect beta web").ok();
    host.known("web.beta");
    fetch_all();
    host.docker("network disconnect alpha web").ok();
    host.published("web.beta");
    host.forgotten("web");
    fetch_all();
    host.docker("network connect alpha web").ok();
    // The first by its name is the way again.
    host.published("web");
    fetch_all();
}

#[test]
fn names_are_dockers_and_a_paused_container_is_there() {
    let host = DockerHost::new(Release::New);
    let (_, _server) = web(&host);
    host.docker("rename web shop").ok();
    host.published("shop");
    host.forgotten("web");
    fetched(&host.world);
    host.docker("pause shop").ok();
    // nginx runs beside the container, and is not paused.
    fetched(&host.world);
    host.docker("unpause shop").ok();
    let refused = host.world.refused("port add shop 9090:90");
    assert!(refused.contains("docker run -p"), "{refused}");
    let refused = host.world.refused("network rm bridge");
    assert!(refused.contains("docker network rm"), "{refused}");
}

#[test]
fn who_shares_a_namespace_or_has_none_is_no_endpoint() {
    let host = DockerHost::new(Release::New);
    let (_, _server) = web(&host);
    host.container("beside", "--network container:web");
    host.container("hosts", "--network host");
    host.container("alone", "--network none");
    host.container("last", "");
    host.known("last");
    let endpoints = host.world.netd("endpoint ls -q").ok();
    let mut names: Vec<&str> = endpoints.lines().collect();
    names.sort_unstable();
    assert_eq!(names, ["last", "web"]);
    // The one that shares goes, the one whose namespace it is stays.
    host.docker("rm -f beside").ok();
    fetched(&host.world);
}

#[track_caller]
fn check_restarts(release: Release) {
    let mut host = DockerHost::without_daemons(release);
    let flags = format!("{FOR_NETD} --live-restore");
    host.start_docker(&flags);
    host.world.daemon.start();
    let (_, _server) = web(&host);
    fetched(&host.world);
    // Docker goes: nothing changes.
    host.kill_docker();
    fetched(&host.world);
    // netd goes and comes back while Docker is away.
    host.world.daemon.kill();
    fetched(&host.world);
    host.world.daemon.start();
    fetched(&host.world);
    assert_eq!(host.world.netd("port ls --json").json()[0]["endpoint"], "web");
    host.start_docker(&flags);
    host.container("other", "-p 8081:80");
    host.published("other");
    fetched(&host.world);
    // What happens while netd is away.
    host.world.daemon.kill();
    host.docker("rm -f other").ok();
    host.container("third", "-p 8082:80");
    host.world.daemon.start();
    host.published("third");
    host.forgotten("other");
    fetched(&host.world);
    // Docker ends in order.
    host.stop_docker();
    fetched(&host.world);
    host.start_docker(&flags);
    host.published("web");
    fetched(&host.world);
}

#[test]
fn docker_20_10_and_netd_are_restarted_in_any_order() {
    check_restarts(Release::Old);
}

#[test]
fn docker_28_and_netd_are_restarted_in_any_order() {
    check_restarts(Release::New);
}

#[test]
fn what_overlaps_a_network_of_netds_is_taken_up_when_that_is_gone() {
    let host = DockerHost::new(Release::New);
    let world = &host.world;
    world.netd("network create own --subnet 10.66.0.0/24").ok();
    host.docker("network create --subnet 10.66.0.0/24 over").ok();
    eventually("netd says why it is left alone", || {
        world.netd("docker status").ok().contains("it overlaps 10.66.0.0/24 of netd's network own")
    });
    world.netd("network rm own").ok();
    host.known_network("over");
    assert!(!world.netd("docker status").ok().contains("overlaps"));
}

#[test]
fn a_dockerd_that_ends_does_not_wait_for_netd() {
    let mut host = DockerHost::new(Release::New);
    host.known_network("bridge");
    let log = host.stop_docker();
    // So it says when somebody has kept listening for as long as it waits.
    assert!(!log.contains("Error shutting down http server"), "{log}");
    eventually("netd says that it is away", || {
        host.world.netd("docker status --json").json()["state"] == "away"
    });
}

#[test]
fn a_restart_without_live_restore_ends_the_containers() {
    let mut host = DockerHost::new(Release::New);
    let web = host.container("web", "-p 8080:80 --restart always");
    let server = servers::nginx(&web.namespace, &[80]);
    host.published("web");
    drop(server);
    host.world.netd("network create own").ok();
    host.world.netd("network allow own bridge").ok();
    host.stop_docker();
    assert!(is_closed(&host.world));
    host.start_docker(FOR_NETD);
    eventually("Docker has started it again", || {
        host.inspect("web")["State"]["Running"] == serde_json::json!(true)
    });
    let web = host.running("web");
    let _server = servers::nginx(&web.namespace, &[80]);
    eventually("the port leads to it again", || {
        try_fetch(&host.world.client, at(Family::V4.host(), 8080)).is_ok()
    });
    // docker0 is another network of Docker's each time, and the same one for its users.
    assert_eq!(host.world.netd("network ls -q").ok(), "bridge\nown\n");
    assert_eq!(host.world.netd("endpoint ls -q").ok(), "web\n");
    let own = host.world.netd("network inspect own --json").json();
    assert_eq!(own[0]["allowed"], serde_json::json!(["bridge"]));
}

#[test]
fn a_bridge_that_others_use_as_well_is_left_alone() {
    let host = DockerHost::new(Release::New);
    let world = &host.world;
    // The host's way out is a port of a bridge, as on many machines.
    world.add_link("lan0", "lan1");
    world.host.ip(&["link add br0 type bridge", "link set lan0 master br0", "link set br0 up"]);
    world.host.ip(&["address add 10.66.0.1/24 dev br0"]);
    world.client.ip(&["address add 10.66.0.2/24 dev lan1"]);
    let outside = "10.66.0.2".parse().unwrap();
    assert!(pings(&world.host, outside));
    host.docker(
        "network create --subnet 10.66.0.0/24 --gateway 10.66.0.1 -o com.docker.network.bridge.name=br0 lan",
    )
    .ok();
    eventually("netd says why it leaves it alone", || {
        let status = world.netd("docker status").ok();
        status.contains("network lan: bridge br0 has ports beside its containers' (lan0)")
    });
    assert!(pings(&world.host, outside));
    // What is plugged in later is closed, and said so.
    host.known_network("bridge");
    world.host.ip(&["link add man0 type veth peer man1", "link set man0 master docker0 up"]);
    eventually("the log names it", || {
        let log = world.daemon.log();
        log.lines().any(|line| line.contains("man0") && line.contains("is closed"))
    });
}

#[test]
fn a_bridge_that_somebody_deletes_is_missed_until_docker_has_made_it_anew() {
    let mut host = DockerHost::new(Release::New);
    create_network(&host, "front", 1, "--opt com.docker.network.bridge.name=front0");
    host.known_network("front");
    let status = |host: &DockerHost| host.world.netd("docker status").ok();
    assert!(!status(&host).contains("front0"));
    host.world.host.ip(&["link del front0"]);
    eventually("netd says so", || {
        status(&host).contains("network front: its bridge front0 is gone")
    });
    host.stop_docker();
    host.start_docker(FOR_NETD);
    eventually("all is well", || {
        let status = status(&host);
        status.contains("followed") && !status.contains("front0")
    });
    let web = host.container("web", "--network front -p 8080:80");
    let _nginx = servers::nginx(&web.namespace, &[80]);
    host.published("web");
    for family in Family::BOTH {
        fetch(&host.world.client, at(family.host(), 8080));
    }
}

#[test]
fn a_docker_whose_settings_have_not_been_read_again_is_judged_by_what_it_does() {
    let mut host = DockerHost::without_daemons(Release::New);
    host.world.daemon.start();
    // Since Docker 27 ip6tables are on where nobody says otherwise.
    host.start_docker("--iptables=false --userland-proxy=false");
    let state = |host: &DockerHost| host.world.netd("docker status --json").json()["state"].take();
    eventually("it is left alone", || state(&host) == "left_alone");
    host.stop_docker();
    host.world.host.run("nft flush ruleset").ok();
    host.start_docker(FOR_NETD);
    eventually("it is followed", || state(&host) == "followed");
    let (_, _server) = web(&host);
    // A file that this dockerd has not read, and takes no notice of when it is told to look.
    host.write_daemon_json("{ \"debug\": true }");
    host.make_daemon_json_younger();
    host.reload_docker();
    eventually("netd has heard of it", || {
        host.world.daemon.log().contains("dockerd has read its configuration again")
    });
    host.container("other", "");
    host.known("other");
    assert_eq!(state(&host), "followed");
    fetched(&host.world);
}

#[test]
fn a_docker_that_does_it_itself_is_left_alone_and_said_so() {
    let mut host = DockerHost::without_daemons(Release::New);
    host.world.daemon.start();
    host.start_docker("");
    let status = |host: &DockerHost| host.world.netd("docker status --json").json();
    eventually("netd has seen it", || status(&host)["state"] == "left_alone");
    let conflicts: Vec<String> = status(&host)["conflicts"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|it| Some(it["conflict"].as_str()?.to_owned()))
        .collect();
    assert_eq!(conflicts, ["iptables", "userland_proxy"]);
    let findings = host.world.netd(&format!("doctor {}", host.world.daemon.places()));
    assert!(findings.stdout.contains("Docker's networks are left alone"), "{findings}");
    assert!(host.world.daemon.log().contains("Docker's networks are left alone"));
    host.docker("network create -o com.docker.network.bridge.name=own0 own").ok();
    let plain = host.container("web", "-p 8080:80 --network own");
    let _server = servers::nginx(&plain.namespace, &[80]);
    fetched(&host.world);
    for device in ["docker0", "own0"] {
        eventually(&format!("nothing of netd's is on {device}"), || {
            let line = format!("tc filter show dev {device} ingress");
            host.world.host.run(&line).ok().is_empty()
        });
    }
    // The user decides, and decides again.
    drop(_server);
    host.docker("rm -f web").ok();
    host.stop_docker();
    // Docker leaves its rules behind, among them a policy of DROP.
    host.world.host.run("nft flush ruleset").ok();
    host.start_docker(FOR_NETD);
    eventually("it is followed", || status(&host)["state"] == "followed");
    let (_, server) = web(&host);
    fetched(&host.world);
    drop(server);
    host.docker("rm -f web").ok();
    host.stop_docker();
    host.start_docker("");
    eventually("netd has given it up", || status(&host)["state"] == "left_alone");
    assert_eq!(host.world.netd("network ls -q").ok(), "");
    let filters = host.world.host.run("tc filter show dev docker0 ingress").ok();
    assert_eq!(filters, "");
}

#[test]
fn netd_leaves_dockers_devices_where_they_are() {
    let mut host = DockerHost::new(Release::New);
    let (web, _server) = web(&host);
    let before = host.world.host.run("ip -oneline link").ok();
    let native = host.world.netd("network create own").ok();
    assert_eq!(native, "own\n");
    let state = host.world.netd("state export").json();
    assert_eq!(state["networks"].as_array().map(Vec::len), Some(1));
    assert_eq!(state["endpoints"], serde_json::json!([]));
    host.world.netd("stop --detach").ok();
    host.world.daemon.wait();
    let names = |links: &str| -> Vec<String> {
        links.lines().filter_map(|line| Some(line.split(": ").nth(1)?.to_owned())).collect()
    };
    let after = host.world.host.run("ip -oneline link").ok();
    assert_eq!(names(&after), names(&before));
    // A container still has its neighbours and the host.
    assert_eq!(
        fetch(&host.world.host, at(own_address(&web.namespace, Family::V4), 80)).server,
        web.namespace.name()
    );
    assert_eq!(
        try_fetch(&host.world.client, at(Family::V4.host(), 8080)),
        Err(NoConnection::TimedOut)
    );
}

#[test]
fn many_containers_that_start_at_once_are_all_there() {
    let many = std::env::var("NETD_DOCKER_CONTAINERS").ok();
    let many: u16 = many.map_or(20, |many| many.parse().unwrap());
    let host = DockerHost::new(Release::New);
    let mut lines = String::new();
    for i in 0..many {
        let (name, port) = (format!("c{i}"), 20_000 + i);
        lines += &format!("{} & ", host.docker_line(&format!("run -d --stop-signal KILL --name {name} -p {port}:80 {IMAGE} /bin/busybox sleep 3600")));
    }
    run(Command::new("sh").args(["-c", &format!("{lines} wait")]), "").ok();
    for i in 0..many {
        let container = host.running(&format!("c{i}"));
        let _server = servers::nginx(&container.namespace, &[80]);
        host.published(&format!("c{i}"));
        let page = fetch(&host.world.client, at(Family::V4.host(), 20_000 + i));
        assert_eq!(page.server, container.namespace.name());
    }
    assert_eq!(host.world.netd("docker status --json").json()["endpoints"], many);
}
