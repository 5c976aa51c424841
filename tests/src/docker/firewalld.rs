//! firewalld on a Docker host, with the bus that it is asked by.

use super::DockerHost;
use crate::{condition::eventually, process::Running};

/// Runs until it is dropped.
#[derive(Debug)]
pub struct Firewalld {
    _firewalld: Running,
    _bus: Running,
}

impl DockerHost {
    /// Starts firewalld with what it does by default, and waits until it has done it.
    ///
    /// # Panics
    /// Where it ends instead.
    #[track_caller]
    pub fn start_firewalld(&self) -> Firewalld {
        self.system.run(&["mkdir", "-p", "/run/dbus"], "").ok();
        let mut bus = self.system.start("bus", &["dbus-daemon", "--system", "--nofork"]);
        eventually("there is a bus", || {
            assert_eq!(bus.status(), None, "{}", bus.log());
            self.system.run(&["test", "-S", "/run/dbus/system_bus_socket"], "").is_ok()
        });
        let line = ["firewalld", "--nofork", "--nopid", "--log-target=console"];
        let mut firewalld = self.system.start("firewalld", &line);
        eventually("firewalld answers", || {
            assert_eq!(firewalld.status(), None, "{}", firewalld.log());
            self.system.run(&["firewall-cmd", "--state"], "").is_ok()
        });
        Firewalld { _firewalld: firewalld, _bus: bus }
    }

    /// Runs `firewall-cmd LINE`.
    ///
    /// # Panics
    /// Where it fails.
    #[track_caller]
    pub fn firewall_cmd(&self, line: &str) -> String {
        let line: Vec<&str> = ["firewall-cmd"].into_iter().chain(line.split_whitespace()).collect();
        self.system.run(&line, "").ok()
    }
}
