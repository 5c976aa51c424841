//! Which rules are somebody's own.

use super::{Chain, Forwarding, Policy, Rule, Target};

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
    assert_eq!(drops.drops.unwrap(), "chain FORWARD of table ip filter");
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
