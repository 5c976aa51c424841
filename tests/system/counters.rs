//! What netd counts: by reason, endpoint and published port.

use netd_tests::{
    clients::{ask_udp, fetch, fetch_big, pings, try_fetch},
    family::Family,
    servers::{self, BIG_FILE_BYTES},
    topology::{World, at},
};

/// Packets, bytes and flows of a published port.
fn traffic(world: &World, row: usize) -> [u64; 3] {
    let rows = world.netd("port ls web --json").json();
    ["packets", "bytes", "flows"].map(|field| rows[row][field].as_u64().unwrap())
}

#[test]
fn a_published_port_counts_what_it_carries() {
    let world = World::new();
    world.network("front", 1, "");
    let web = world.container("web", "front", "-p 8080:80 -p 9000:9000/udp");
    let _nginx = servers::nginx(&web.namespace, &[80]);
    let _echo = servers::udp_echo(&web.namespace, 9000);
    assert_eq!((traffic(&world, 0), traffic(&world, 1)), ([0; 3], [0; 3]));
    for family in Family::BOTH {
        let [packets, bytes, flows] = traffic(&world, 0);
        fetch_big(&world.client, at(family.host(), 8080));
        let after = traffic(&world, 0);
        assert!(after[0] > packets + 10, "{after:?}");
        assert!(after[1] > bytes + BIG_FILE_BYTES, "{after:?}");
        assert_eq!(after[2], flows + 1);

        let [packets, bytes, flows] = traffic(&world, 1);
        ask_udp(&world.client, at(family.host(), 9000), "hello");
        let after = traffic(&world, 1);
        assert!(after[0] >= packets + 2 && after[1] > bytes && after[2] > flows, "{after:?}");
    }
    assert_eq!(traffic(&world, 0)[2], 2);
}

#[test]
fn every_way_through_and_every_refusal_is_counted_under_its_reason() {
    let fast = [
        ["published_redirected", "published_reply_redirected"],
        ["masqueraded_redirected", "masquerade_reply_redirected"],
    ];
    check_reasons("fast", fast);
    let stack = [["published", "published_reply"], ["masqueraded", "masquerade_reply"]];
    check_reasons("stack", stack);
}

/// Sends everything through a data path; `published` and `masqueraded` are the reasons of that path.
fn check_reasons(path: &str, [published, masqueraded]: [[&str; 2]; 2]) {
    let world = World::new();
    world.network("front", 1, &format!("--datapath {path}"));
    world.network("back", 2, "");
    world.route_client_to_containers(1);
    let web = world.container("web", "front", "-p 8080:80");
    let app = world.container("app", "front", "");
    let db = world.container("db", "back", "");
    let _inside = servers::nginx(&web.namespace, &[80]);
    let _outside = servers::nginx(&world.client, &[80]);
    for family in Family::BOTH {
        let to = world.address("web", family);
        let check = |reasons: &[&str], traffic: &dyn Fn()| {
            let before: Vec<u64> = reasons.iter().map(|reason| world.packets(reason)).collect();
            traffic();
            for (reason, before) in reasons.iter().zip(before) {
                assert!(world.packets(reason) > before, "{family} {reason}");
            }
        };
        check(&published, &|| {
            fetch(&world.client, at(family.host(), 8080));
        });
        check(&masqueraded, &|| {
            fetch(&app.namespace, at(family.remote(), 80));
        });
        check(&["same_network_redirected"], &|| assert!(pings(&app.namespace, to)));
        check(&["host_to_container", "container_to_host"], &|| assert!(pings(&world.host, to)));
        check(&["direct_routing"], &|| {
            assert!(try_fetch(&world.client, at(to, 80)).is_err());
        });
        check(&["networks_apart"], &|| {
            assert!(try_fetch(&db.namespace, at(to, 80)).is_err());
        });
    }
    let stats = world.netd("stats --json").json();
    for row in stats.as_array().unwrap() {
        let verdict = row["verdict"].as_str().unwrap();
        assert!(["pass", "redirect", "drop"].contains(&verdict), "{row}");
        assert_eq!(row["packets"] == 0, row["bytes"] == 0, "{row}");
    }
    let text = world.netd("stats").ok();
    for word in ["web", "app", "db", "front", "back", "8080", "direct_routing"] {
        assert!(text.contains(word), "{word} is missing in {text}");
    }
}
