//! The build that logs each packet, and the ordinary one that cannot.

use std::{env, fs, path::Path};

use netd_tests::{
    clients::fetch,
    condition::eventually,
    data_path::DataPath,
    family::Family,
    servers,
    topology::{World, at},
};

#[test]
fn each_packet_of_the_development_build_is_a_line_of_the_log() {
    let mut world = World::without_daemon("");
    world.daemon.log_packets();
    world.daemon.start();
    world.network("front", 1, "");
    let web = world.container("web", "front", "-p 8080:80");
    let _nginx = servers::nginx(&web.namespace, &[80]);
    for family in Family::BOTH {
        fetch(&world.client, at(family.host(), 8080));
    }
    let logged: &[_] = match DataPath::under_test() {
        DataPath::Fast => &[
            ("from_uplink", "published_redirected"),
            ("from_endpoint", "published_reply_redirected"),
            ("to_uplink", "not_ours"),
        ],
        DataPath::Stack => &[
            ("from_uplink", "published"),
            ("to_endpoint", "flow_to_container"),
            ("from_endpoint", "container_to_outside"),
            ("to_uplink", "published_reply"),
        ],
    };
    for (hook, reason) in logged {
        let words = format!("hook=\"{hook}\" reason=\"{reason}\"");
        eventually(&words, || world.daemon.log().contains(&words));
    }
}

#[test]
fn the_ordinary_object_has_no_log() {
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/ebpf/netd-ebpf.o");
    let path = env::var_os("NETD_EBPF_OBJECT").map_or(built, Into::into);
    let object = fs::read(path).unwrap();
    let name = b"AYA_LOGS";
    assert!(!object.windows(name.len()).any(|window| window == name));
}
