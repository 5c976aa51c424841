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

/// The first release whose dockerd programs ip6tables unless it is told not to.
const IP6TABLES_SINCE: u32 = 27;

/// Those of a dockerd: by what it was told, or else by what it has done. The version is none where it is not known.
pub fn conflicts(
    settings: Option<Settings>,
    version: Option<&str>,
    has_swarm: bool,
    signs: Signs,
) -> Vec<Conflict> {
    let major = version.and_then(|version| version.split('.').next()?.parse::<u32>().ok());
    let ip6tables = major.is_some_and(|major| major >= IP6TABLES_SINCE);
    let has_rules =
        settings.map_or(signs.has_rules, |it| it.iptables || it.ip6tables.unwrap_or(ip6tables));
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

    const QUIET: Settings = Settings {
        iptables: false,
        ip6tables: Some(false),
        userland_proxy: false,
        ip_masq: true,
        allow_direct_routing: false,
        accept_mark: None,
    };

    #[test]
    fn what_dockerd_was_told_counts_before_what_it_has_left() {
        let signs = Signs { has_rules: true, has_proxies: true };
        assert_eq!(conflicts(Some(QUIET), None, false, signs), []);
        assert_eq!(
            conflicts(None, None, false, signs),
            [Conflict::Iptables, Conflict::UserlandProxy]
        );
        assert_eq!(conflicts(None, None, true, Signs::default()), [Conflict::Swarm]);
        let told = |ip6tables, version| {
            let settings = Settings { ip6tables, ..QUIET };
            conflicts(Some(settings), Some(version), false, Signs::default())
        };
        assert_eq!(told(Some(true), "20.10.24+dfsg1"), [Conflict::Iptables]);
        assert_eq!(told(None, "28.5.2+dfsg4"), [Conflict::Iptables]);
        assert_eq!(told(None, "26.1.5"), []);
        assert_eq!(told(Some(false), "29.7.2"), []);
    }
}
