//! A dockerd that answers anything: nothing that it has made is lost.

use std::fs;

use netd_tests::{
    clients::fetch,
    condition::eventually,
    docker::{DockerHost, FOR_NETD, Release},
    family::Family,
    process::Running,
    servers,
    topology::at,
};

const FAKE: &str = include_str!("nonsense.py");

#[test]
fn what_docker_has_made_outlives_its_nonsense() {
    let mut host = DockerHost::without_daemons(Release::New);
    let flags = format!("{FOR_NETD} --live-restore");
    host.world.daemon.start();
    host.start_docker(&flags);
    let web = host.container("web", "-p 8080:80");
    let _nginx = servers::nginx(&web.namespace, &[80]);
    host.published("web");
    let rows = host.world.netd("port ls --json").json();
    let is_as_before = |host: &DockerHost| {
        assert_eq!(
            fetch(&host.world.client, at(Family::V4.host(), 8080)).server,
            web.namespace.name()
        );
        let now = host.world.netd("port ls --json").json();
        assert_eq!(now[0]["host_port"], rows[0]["host_port"]);
        assert_eq!(now.as_array().map(Vec::len), Some(1));
    };
    let network = host.docker("network inspect -f {{.Id}} bridge").ok();
    let container = host.inspect("web")["Id"].as_str().unwrap_or_default().to_owned();
    host.kill_docker();
    let script = host.directory().join("nonsense.py");
    fs::write(&script, FAKE).unwrap();
    let (script, socket) = (script.to_string_lossy(), host.directory().join("docker.sock"));
    for mode in ["garbage", "errors", "nonsense", "close", "silence"] {
        let log = host.directory().join(format!("{mode}.log"));
        let socket = socket.to_string_lossy();
        let args = [&*script, &socket, mode, network.trim(), &container];
        let fake = Running::start(host.world.host.path(), &log, "python3", &args);
        // The last one never lets it go on.
        let calls = if mode == "silence" { 1 } else { 3 };
        eventually(&format!("netd has called {calls} times: {mode}"), || {
            fake.log().matches("called").count() >= calls || fake.log().contains("/events")
        });
        is_as_before(&host);
        drop(fake);
        host.world.daemon.kill();
        host.world.daemon.start();
        is_as_before(&host);
    }
    host.start_docker(&flags);
    host.container("other", "-p 8081:80");
    host.published("other");
    fetch(&host.world.client, at(Family::V4.host(), 8080));
}
