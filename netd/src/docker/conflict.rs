//! Why Docker's networks are left alone: what dockerd does with their packets itself. Pure.

use serde::{Deserialize, Serialize};

use super::settings::Settings;

/// Something that dockerd does and netd would do again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Conflict {
    Iptables,
    UserlandProxy,
    Swarm,
}

/// What is known of a dockerd from outside, where nobody can say what it was told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Signs {
    /// There are rules of Docker's.
    pub has_rules: bool,
    /// Its proxy runs.
    pub has_proxies: bool,
}

impl Conflict {
    /// Those of a dockerd: by what it was told, or else by what it has done.
    pub fn of(settings: Option<Settings>, has_swarm: bool, signs: Signs) -> Vec<Self> {
        let has_rules = settings.map_or(signs.has_rules, |it| it.iptables || it.ip6tables);
        let has_proxies = settings.map_or(signs.has_proxies, |it| it.userland_proxy);
        let all = [
            (Self::Iptables, has_rules),
            (Self::UserlandProxy, has_proxies),
            (Self::Swarm, has_swarm),
        ];
        all.into_iter().filter(|(_, holds)| *holds).map(|(conflict, _)| conflict).collect()
    }

    /// What dockerd does.
    pub fn message(self) -> &'static str {
        match self {
            Self::Iptables => "dockerd programs iptables for its networks",
            Self::UserlandProxy => "dockerd runs a proxy for each published port",
            Self::Swarm => "Swarm is active, which works by Docker's own rules",
        }
    }

    /// What to do for netd to take over.
    pub fn fix(self) -> &'static str {
        match self {
            Self::Iptables => {
                "set \"iptables\": false and \"ip6tables\": false in /etc/docker/daemon.json, restart Docker, and \
                 remove its old rules or reboot"
            }
            Self::UserlandProxy => {
                "set \"userland-proxy\": false in /etc/docker/daemon.json, and restart Docker"
            }
            Self::Swarm => "docker swarm leave",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Conflict, Settings, Signs};

    const QUIET: Settings =
        Settings { iptables: false, ip6tables: false, userland_proxy: false, ip_masq: true };

    #[test]
    fn what_dockerd_was_told_counts_before_what_it_has_left() {
        let signs = Signs { has_rules: true, has_proxies: true };
        assert_eq!(Conflict::of(Some(QUIET), false, signs), []);
        assert_eq!(Conflict::of(None, false, signs), [Conflict::Iptables, Conflict::UserlandProxy]);
        assert_eq!(Conflict::of(None, true, Signs::default()), [Conflict::Swarm]);
        let told = Settings { ip6tables: true, ..QUIET };
        assert_eq!(Conflict::of(Some(told), false, Signs::default()), [Conflict::Iptables]);
    }
}
