//! Small sources, and what the rules say about them.

use super::*;

#[test]
fn a_confined_crate_is_allowed_only_at_home() {
    assert_eq!(check("datapath/maps.rs", "use aya::maps::HashMap;"), [""; 0]);
    assert_eq!(
        check("controller.rs", "fn f(b: &mut aya::Ebpf) {}"),
        ["netd/src/controller.rs names aya, which only datapath may"]
    );
    assert_eq!(
        check("controller/mod.rs", "use rtnetlink::Handle;"),
        ["netd/src/controller/mod.rs names rtnetlink, which only netlink may"]
    );
}

#[test]
fn comments_tests_and_longer_names_do_not_count() {
    assert_eq!(check("a.rs", "// aya::Ebpf\nuse maya::X;\nuse crate::aya::Y;"), [""; 0]);
    assert_eq!(check("a.rs", "fn f() {}\n#[cfg(test)]\nmod tests { use aya::Ebpf; }"), [""; 0]);
}

#[test]
fn a_pure_module_may_use_durations_but_no_clock() {
    assert_eq!(check("reconcile.rs", "use std::time::Duration;"), [""; 0]);
    assert_eq!(
        check("reconcile.rs", "use std::{fs, time::{Duration, Instant}};\nstd::fs::read(x)"),
        [
            "netd/src/reconcile.rs is pure but names std::fs",
            "netd/src/reconcile.rs is pure but names Instant"
        ]
    );
}

#[test]
fn an_edge_that_is_not_in_the_table_is_named() {
    assert_eq!(check("api.rs", "use crate::{port_spec::PortSpec, model};"), [""; 0]);
    let text = "use crate::{model::{A, B}, server::Server};\ncrate::cli::run()";
    let found = check("api/mod.rs", text);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].starts_with("netd/src/api/mod.rs may not name crate::server"), "{found:?}");
    assert!(found[1].starts_with("netd/src/api/mod.rs may not name crate::cli"), "{found:?}");
}

#[test]
fn modules_are_found_in_single_paths_and_groups() {
    let code = "use crate::a;\nuse crate::{\n    b::{X, Y},\n    c,\n};\ncrate::a::f();";
    assert_eq!(crate_modules(code), ["a", "b", "c"]);
}
