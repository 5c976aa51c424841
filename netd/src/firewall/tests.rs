//! Which rules are somebody's own.

use super::{Chain, Forwarding, Policy, Rule, Target, firewalld};

const TABLE: &str = "table ip filter";

/// A chain whose rules are written as `jump NAME`, `return`, `if return` and `if drop`.
fn chain(name: &str, forward: Option<Policy>, rules: &[&str]) -> Chain {
    let rule = |text: &&str| {
        let (is_bare, text) = match text.strip_prefix("if ") {
            Some(rest) => (false, rest),
            None => (true, *text),
        };
        let target = match text.strip_prefix("jump ") {
            Some(to) => Target::Jump(to.to_owned()),
            None if text == "return" => Target::Return,
            None if text == "accept" => Target::Accept,
            None => Target::Other,
        };
        Rule { target, is_bare }
    };
    let rules = rules.iter().map(rule).collect();
    Chain { table: TABLE.to_owned(), name: name.to_owned(), forward, rules }
}

const FORWARD: Option<Policy> = Some(Policy::Accept);

#[track_caller]
fn check(chains: &[Chain], expected: Option<&str>) {
    let rules = Forwarding::of(chains).rules;
    let expected = expected.map(|name| format!("chain {name} of {TABLE}"));
    assert_eq!(rules, expected);
}

#[test]
fn an_empty_chain_and_a_policy_are_nobodys_rules() {
    check(&[], None);
    check(&[chain("FORWARD", FORWARD, &[])], None);
    let drops = Forwarding::of(&[chain("FORWARD", Some(Policy::Drop), &[])]);
    assert_eq!(drops.rules, None);
    assert_eq!(drops.stops.unwrap(), "the policy DROP of chain FORWARD of table ip filter");
}

#[test]
fn every_rule_where_forwarded_packets_enter_counts() {
    check(&[chain("FORWARD", FORWARD, &["if drop"])], Some("FORWARD"));
    check(&[chain("FORWARD", FORWARD, &["jump ufw-before-forward"])], Some("FORWARD"));
    check(&[chain("FORWARD", FORWARD, &["if return"])], Some("FORWARD"));
    check(&[chain("INPUT", None, &["if drop"])], None);
}

#[test]
fn dockers_own_rules_do_not_count() {
    let jumps = ["jump DOCKER-USER", "jump DOCKER-FORWARD", "if jump DOCKER"];
    let forward = || chain("FORWARD", FORWARD, &jumps);
    let dockers = || chain("DOCKER-FORWARD", None, &["if drop", "if jump DOCKER"]);
    check(&[forward(), dockers()], None);
    check(&[forward(), dockers(), chain("DOCKER-USER", None, &[])], None);
    check(&[forward(), dockers(), chain("DOCKER-USER", None, &["return"])], None);
    let user = chain("DOCKER-USER", None, &["if drop", "return"]);
    check(&[forward(), dockers(), user.clone()], Some("DOCKER-USER"));
    // A chain that no packet comes to judges none.
    check(&[chain("FORWARD", FORWARD, &[]), user.clone()], None);
    let elsewhere = Chain { table: "table ip6 filter".to_owned(), ..user };
    check(&[forward(), elsewhere], None);
    let own = chain("filter-FORWARD", FORWARD, &["if drop"]);
    check(&[Chain { table: "table ip docker-bridges".to_owned(), ..own }], None);
}

fn firewallds(name: &str, forward: Option<Policy>, rules: &[&str]) -> Chain {
    Chain { table: "table inet firewalld".to_owned(), ..chain(name, forward, rules) }
}

/// What firewalld has with these chains besides: which is somebody's own, and whether all packets are stopped.
#[track_caller]
fn check_firewalld(more: &[Chain], own: Option<&str>, is_closed: bool) {
    let jumps = ["if accept", "jump filter_FORWARD_dispatch", "if reject"];
    let mut chains = vec![
        firewallds("filter_FORWARD", FORWARD, &jumps),
        firewallds("filter_FWD_public", None, &["jump filter_FWD_public_deny"]),
        firewallds("filter_FWD_public_deny", None, &[]),
        // The zone's own devices.
        firewallds("filter_FWD_public_allow", None, &["if accept"]),
        firewallds("filter_FWD_public_to_public", None, &["jump filter_FWD_public", "if reject"]),
        firewallds("filter_IN_public_deny", None, &["if drop"]),
    ];
    chains.extend_from_slice(more);
    let forwarding = Forwarding::of(&chains);
    let own = own.map(|name| format!("chain {name} of table inet firewalld"));
    assert_eq!((forwarding.rules, forwarding.stops.as_deref()), (own, Some("firewalld")));
    assert_eq!(firewalld::is_closed(&chains), is_closed);
}

#[test]
fn what_firewalld_has_by_itself_is_nobodys() {
    check_firewalld(&[], None, true);
    check_firewalld(&[firewallds("filter_FWD_docker", None, &["accept"])], None, false);
    // Docker's and libvirt's: they accept.
    for name in ["filter_FWD_policy_docker-forwarding", "filter_FWD_policy_libvirt-routed-in"] {
        let policy = firewallds(name, None, &[&format!("jump {name}_pre"), "accept"]);
        check_firewalld(&[policy, firewallds(&format!("{name}_pre"), None, &[])], None, false);
    }
    // One that only adds to what zones accept.
    check_firewalld(&[firewallds("filter_FWD_policy_mine", None, &["jump x"])], None, true);
}

#[test]
fn what_somebody_has_set_up_in_firewalld_is_their_own() {
    // The second as firewalld 0.9 calls a zone's chain.
    for name in ["filter_FWD_policy_mine_post", "filter_FWDI_public_deny", "filter_FWD_x_pre"] {
        check_firewalld(&[firewallds(name, None, &["if drop"])], Some(name), true);
    }
    for target in ["if reject", "drop"] {
        let policy = "filter_FWD_policy_docker-forwarding";
        check_firewalld(&[firewallds(policy, None, &["jump x", target])], Some(policy), true);
    }
    let strict = "filter_FORWARD_dnat";
    check_firewalld(&[firewallds(strict, None, &["if accept"])], Some(strict), true);
}

#[test]
fn a_firewalld_that_loads_its_rules_keeps_what_was() {
    let chains = [Chain {
        table: "table inet firewalld_policy_drop".to_owned(),
        ..chain("filter_forward", Some(Policy::Drop), &["if accept"])
    }];
    assert!(firewalld::is_loading(&chains));
    // To who knows of nothing before, they are somebody's.
    assert!(Forwarding::of(&chains).rules.is_some());
}
