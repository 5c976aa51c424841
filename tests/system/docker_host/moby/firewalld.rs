//! A Docker host with firewalld, which knows nothing of bridges that no iptables of Docker's has put into a zone: of
//! `integration/network/bridge/bridge_linux_test.go`, and what follows from it for who comes from Docker's iptables.

use netd_tests::{
    condition::eventually,
    data_path::DataPath,
    docker::{DockerHost, FOR_NETD, Release},
    family::Family,
    servers,
    topology::{at, subnet},
};

use super::{closed, reached};
use crate::docker_host::create_network;

/// What `netd doctor` says of a check, and how that is mended.
#[track_caller]
fn doctor(host: &DockerHost, check: &str) -> (String, String) {
    let path = DataPath::under_test();
    let places = host.world.daemon.places();
    let all = host.world.netd(&format!("doctor {places} --datapath {path} --json")).json();
    let is_it = |it: &&serde_json::Value| it["check"] == check;
    let found = all.as_array().into_iter().flatten().find(is_it);
    let found = found.unwrap_or_else(|| panic!("no {check}: {all}"));
    let text = |key: &str| found[key].as_str().unwrap_or_default().to_owned();
    (text("message"), text("fix"))
}

/// Makes what the data path under test needs to get past firewalld's rules.
#[track_caller]
fn open(host: &DockerHost) {
    let (message, fix) = doctor(host, "forward_policy");
    match DataPath::under_test() {
        DataPath::Fast => assert_eq!(fix, "", "{message}"),
        DataPath::Stack => {
            assert!(message.starts_with("firewalld stops packets"), "{message}");
            for family in Family::BOTH {
                closed(&host.world.client, at(family.host(), 8000));
            }
            host.run_line(&fix).ok();
            assert_eq!(doctor(host, "forward_policy").1, "");
        }
    }
}

#[track_caller]
fn eventually_takes(host: &DockerHost, path: &str, reason: &str) {
    eventually(&format!("{path}, since {reason}"), || {
        let network = host.world.netd("network inspect front --json").json();
        let shown = &network[0]["datapath"];
        shown["path"] == path && shown["reason"].as_str().is_some_and(|it| it.contains(reason))
    });
}

#[test]
fn firewalld_alone_is_passed_by_and_a_policy_of_somebodys_is_obeyed() {
    let mut host = DockerHost::without_daemons(Release::New);
    let _firewalld = host.start_firewalld();
    host.configure_netd("[datapath]\nmode = \"auto\"\nmax_flows = 8192");
    host.world.daemon.start();
    host.start_docker(FOR_NETD);
    create_network(&host, "front", 1, "");
    let web = host.container("web", "--network front -p 8000:80");
    let _nginx = servers::nginx(&web.namespace, &[80]);
    let _outside = servers::nginx(&host.world.client, &[80]);
    host.published("web");
    eventually_takes(&host, "fast", "firewalld would have stopped packets");
    for family in Family::BOTH {
        reached(&host.world.client, at(family.host(), 8000));
        reached(&web.namespace, at(family.remote(), 80));
    }
    host.run_line(&all_but_http()).ok();
    eventually_takes(&host, "stack", "filter_FWD_policy_mine");
    let changes = |host: &DockerHost| host.world.daemon.log().matches("data path network=").count();
    let before = changes(&host);
    // While it is loaded again, the policy is not there, but meant.
    host.firewall_cmd("--reload");
    for family in Family::BOTH {
        closed(&host.world.client, at(family.host(), 8000));
        reached(&web.namespace, at(family.remote(), 80));
    }
    assert_eq!(changes(&host), before, "{}", host.world.daemon.log());
    host.run_line("firewall-cmd --permanent --delete-policy mine && firewall-cmd --reload").ok();
    eventually_takes(&host, "fast", "firewalld would have stopped packets");
    for family in Family::BOTH {
        reached(&host.world.client, at(family.host(), 8000));
    }
}

/// What somebody may want of forwarded packets: all but those to a container's own port 80.
const ALL_BUT_HTTP: &str = r#"
set -e
mine="firewall-cmd --permanent --policy mine"
firewall-cmd --permanent --new-policy mine
$mine --add-ingress-zone ANY
$mine --add-egress-zone ANY
$mine --set-target ACCEPT
$mine --add-rich-rule 'rule family="ipv4" destination address="SUBNET4" service name="http" reject'
$mine --add-rich-rule 'rule family="ipv6" destination address="SUBNET6" service name="http" reject'
firewall-cmd --reload
"#;

fn all_but_http() -> String {
    let [v4, v6] = Family::BOTH.map(|family| subnet(family, 1));
    ALL_BUT_HTTP.replace("SUBNET4", &v4).replace("SUBNET6", &v6)
}

#[test]
fn test_firewalld_reload_no_zombies() {
    let mut host = DockerHost::without_daemons(Release::New);
    let _firewalld = host.start_firewalld();
    host.world.daemon.start();
    host.start_docker(FOR_NETD);
    create_network(&host, "front", 1, "--opt com.docker.network.bridge.name=br-fwdreload");
    create_network(&host, "stays", 2, "");
    let web = host.container("web", "--network front -p 8000:80");
    let other = host.container("other", "--network stays -p 8001:80");
    let _nginx = [&web, &other].map(|it| servers::nginx(&it.namespace, &[80]));
    for name in ["web", "other"] {
        host.published(name);
    }
    open(&host);
    for family in Family::BOTH {
        reached(&host.world.client, at(family.host(), 8000));
    }
    // Until firewalld is told otherwise, the bridge is in none of its rules.
    let rules = |host: &DockerHost| host.world.host.run("nft list ruleset").ok();
    assert!(!rules(&host).contains("br-fwdreload"));
    host.firewall_cmd("--zone=trusted --add-interface=br-fwdreload");
    assert!(rules(&host).contains("br-fwdreload"));
    host.docker("rm -f web").ok();
    host.forgotten("web");
    host.docker("network rm front").ok();
    host.firewall_cmd("--reload");
    // Docker puts no bridge back, nor does netd.
    eventually("the bridge is in no rule", || !rules(&host).contains("br-fwdreload"));
    let networks = host.world.netd("network ls").ok();
    assert!(!networks.contains("br-fwdreload"), "{networks}");
    for family in Family::BOTH {
        closed(&host.world.client, at(family.host(), 8000));
        reached(&host.world.client, at(family.host(), 8001));
    }
}
