//! Why Docker's networks are left alone: what dockerd does with their packets itself. Pure.

use super::settings::Settings;
use crate::api::Conflict;

/// What is known of a dockerd from outside, where nobody can say what it was told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Signs {
    /// There are rules of Docker's.
    pub has_rules: bool,
    /// Its proxy runs.
    pub has_proxies: bool,
}

/// Those of a dockerd: by what it was told, or else by what it has done.
pub fn conflicts(settings: Option<Settings>, has_swarm: bool, signs: Signs) -> Vec<Conflict> {
    let has_rules = settings.map_or(signs.has_rules, |it| it.iptables || it.ip6tables);
    let has_proxies = settings.map_or(signs.has_proxies, |it| it.userland_proxy);
    let all = [
        (Conflict::Iptables, has_rules),
        (Conflict::UserlandProxy, has_proxies),
        (Conflict::Swarm, has_swarm),
    ];
    all.into_iter().filter(|(_, holds)| *holds).map(|(conflict, _)| conflict).collect()
}

#[cfg(test)]
mod tests {
    use super::{Conflict, Settings, Signs, conflicts};

    const QUIET: Settings =
        Settings { iptables: false, ip6tables: false, userland_proxy: false, ip_masq: true };

    #[test]
    fn what_dockerd_was_told_counts_before_what_it_has_left() {
        let signs = Signs { has_rules: true, has_proxies: true };
        assert_eq!(conflicts(Some(QUIET), false, signs), []);
        assert_eq!(conflicts(None, false, signs), [Conflict::Iptables, Conflict::UserlandProxy]);
        assert_eq!(conflicts(None, true, Signs::default()), [Conflict::Swarm]);
        let told = Settings { ip6tables: true, ..QUIET };
        assert_eq!(conflicts(Some(told), false, Signs::default()), [Conflict::Iptables]);
    }
}
