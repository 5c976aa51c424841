//! The check of `docker.rs`.

use super::*;
use crate::{api::Conflict, doctor::facts::Docker};

#[test]
fn what_docker_does_itself_is_named() {
    check(|facts| facts.docker = Ok(Docker { is_here: true, ..Docker::default() }), &[]);
    check(
        |facts| {
            let (conflicts, faults) = (vec![Conflict::UserlandProxy], vec!["web: no".to_owned()]);
            facts.docker = Ok(Docker { is_here: true, conflicts, faults });
        },
        &[
            "finding docker: Docker's networks are left alone: dockerd runs a proxy for each published port | set \
             \"userland-proxy\": false in /etc/docker/daemon.json, and restart Docker",
            "finding docker: not all of Docker's is taken up: web: no | netd docker status   # and what it says",
        ],
    );
}
