//! The checks of `firewall.rs`.

use super::*;

#[test]
fn rules_that_others_left_are_named_with_the_program_that_removes_them() {
    for (table, name, whose, fix) in [
        (
            "table ip nat",
            "DOCKER",
            "Docker",
            "iptables-nft-save | grep -v DOCKER | iptables-nft-restore",
        ),
        (
            "table filter of ip6tables-legacy",
            "DOCKER-ISOLATION-STAGE-1",
            "Docker",
            "ip6tables-legacy-save | grep -v DOCKER | ip6tables-legacy-restore",
        ),
        ("table ip6 docker-bridges", "nat", "Docker", "nft delete table ip6 docker-bridges"),
        ("table inet netavark", "INPUT", "netavark", "nft delete table inet netavark"),
        (
            "table ip nat",
            "CNI-HOSTPORT-DNAT",
            "CNI",
            "iptables-nft-save | grep -v CNI- | iptables-nft-restore",
        ),
        (
            "table ip6 filter",
            "KUBE-FORWARD",
            "Kubernetes",
            "ip6tables-nft-save | grep -v KUBE- | ip6tables-nft-restore",
        ),
        (
            "table inet own",
            "DOCKER-X",
            "Docker",
            "nft flush chain inet own DOCKER-X && nft delete chain inet own DOCKER-X",
        ),
    ] {
        let line = format!("finding leftovers: {whose} has left chains in {table}: {name} | {fix}");
        check(|facts| facts.chains = Ok(vec![chain(table, name, None)]), &[&line]);
    }
    check(|facts| facts.chains = Ok(vec![chain("table inet mine", "input", None)]), &[]);
}

#[test]
fn dockers_rules_are_no_leftovers_while_its_bridge_is_there() {
    check(
        |facts| {
            host(facts).links.push(link(9, "docker0", 1500));
            let tables = ["table ip filter", "table ip nat"];
            let mut chains = tables.map(|table| chain(table, "DOCKER", None)).to_vec();
            chains.push(chain("table ip filter", "DOCKER-USER", None));
            facts.chains = Ok(chains);
        },
        &[
            "finding leftovers: Docker has chains in table ip filter, table ip nat: DOCKER, DOCKER-USER; DOCKER-USER \
           may have rules of yours | iptables-nft-save | grep -v DOCKER | iptables-nft-restore   # after \
           \"iptables\": false in /etc/docker/daemon.json and a restart",
        ],
    );
}

#[test]
fn dockers_rules_are_leftovers_where_netd_does_their_work() {
    check(
        |facts| {
            host(facts).links.push(link(9, "docker0", 1500));
            facts.chains = Ok(vec![chain("table ip nat", "DOCKER", None)]);
            facts.docker = Ok(Docker { is_here: true, ..Docker::default() });
        },
        &[
            "finding leftovers: Docker has left chains in table ip nat: DOCKER | iptables-nft-save | grep -v DOCKER | \
           iptables-nft-restore",
        ],
    );
}

#[test]
fn policies_that_stop_forwarded_packets_are_named_each_with_its_own_fix() {
    for (table, name, fix) in [
        ("table ip filter", "FORWARD", "iptables-nft -P FORWARD ACCEPT"),
        ("table filter of ip6tables-legacy", "FORWARD", "ip6tables-legacy -P FORWARD ACCEPT"),
        ("table ip filter", "forward", "nft add chain ip filter forward '{ policy accept ; }'"),
        ("table inet mine", "f", "nft add chain inet mine f '{ policy accept ; }'"),
    ] {
        let line = format!(
            "finding forward_policy: the policy DROP of chain {name} of {table} stops packets that take the stack's \
             way and no rule accepts | {fix}"
        );
        check(|facts| facts.chains = Ok(vec![chain(table, name, Some(Policy::Drop))]), &[&line]);
    }
    check(|facts| facts.chains = Ok(vec![chain("table inet m", "f", Some(Policy::Accept))]), &[]);
}

#[test]
fn firewalld_matters_where_packets_take_the_stacks_way() {
    let forward = chain("table inet firewalld", "filter_FORWARD", Some(Policy::Accept));
    check(|facts| facts.chains = Ok(vec![forward.clone()]), &[]);
    check(
        |facts| {
            facts.config.datapath.mode = DatapathMode::Stack;
            facts.chains = Ok(vec![forward.clone()]);
        },
        &[&format!(
            "finding forward_policy: firewalld stops packets that take the stack's way: no zone and no policy accepts \
             any | {}",
            super::super::firewall::ACCEPT_IN_FIREWALLD
        )],
    );
}

#[test]
fn br_netfilter_matters_where_there_are_rules_to_meet() {
    let on = |facts: &mut Facts| {
        facts.sysctls.bridge_filters = vec!["bridge-nf-call-iptables"];
    };
    check(on, &[]);
    check(
        |facts| {
            on(facts);
            let mut forward = chain("table ip filter", "FORWARD", Some(Policy::Accept));
            forward.rules = vec![Rule { target: Target::Other, is_bare: false }];
            facts.chains = Ok(vec![forward]);
        },
        &[
            "finding br_netfilter: bridge-nf-call-iptables = 1: rules in chain FORWARD of table ip filter judge frames \
           that a bridge switches within a network | sysctl -w net.bridge.bridge-nf-call-iptables=0",
        ],
    );
}

#[test]
fn a_way_past_rules_is_doubtful_only_if_it_was_asked_for() {
    let mut forward = chain("table ip filter", "FORWARD", Some(Policy::Accept));
    forward.rules = vec![Rule { target: Target::Other, is_bare: false }];
    check(|facts| facts.chains = Ok(vec![forward.clone()]), &[]);
    check(
        |facts| {
            facts.config.datapath.mode = DatapathMode::Fast;
            facts.chains = Ok(vec![forward.clone()]);
        },
        &[
            "finding data_path: fast: asked for by the daemon's configuration, although rules in chain FORWARD of \
           table ip filter judge forwarded packets | netd run --datapath auto",
        ],
    );
}
