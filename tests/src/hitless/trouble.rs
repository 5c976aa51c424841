//! What becomes of the daemon under the flows.

use std::path::PathBuf;

use nix::sys::signal::Signal;

use crate::daemon::{Daemon, binary};

/// One end of the daemon; after each of them it is started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// It ends as a service manager asks it to.
    Restart,
    /// It ends in the middle of whatever it does.
    Kill,
    /// It ends as with a restart, and another build follows.
    Upgrade(PathBuf),
    /// That one ends, and the build under test follows.
    Downgrade,
}

/// How often what happens.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How many restarts there are.
    pub restarts: u32,
    /// How many kills.
    pub kills: u32,
    /// How many times another build takes over, and gives back.
    pub upgrades: u32,
    /// That build, if there is one.
    pub other: Option<PathBuf>,
}

impl Plan {
    /// The troubles in their order: each kind in turns.
    pub fn troubles(&self) -> Vec<Trouble> {
        let most = self.restarts.max(self.kills).max(self.upgrades);
        let of_turn = |turn| {
            let upgrade = self.other.clone().filter(|_| turn < self.upgrades);
            let kinds = [
                (turn < self.restarts).then_some(Trouble::Restart),
                (turn < self.kills).then_some(Trouble::Kill),
                upgrade.clone().map(Trouble::Upgrade),
                upgrade.map(|_| Trouble::Downgrade),
            ];
            kinds.into_iter().flatten()
        };
        (0..most).flat_map(of_turn).collect()
    }
}

impl Trouble {
    /// Ends the daemon, and says which build is to follow.
    ///
    /// # Panics
    /// Where it does not run, or does not end well where it should.
    #[track_caller]
    pub fn end(&self, daemon: &mut Daemon) {
        match self {
            Self::Restart => stop(daemon),
            Self::Kill => daemon.kill(),
            Self::Upgrade(other) => {
                stop(daemon);
                daemon.run_by(other.clone());
            }
            Self::Downgrade => {
                stop(daemon);
                daemon.run_by(binary());
            }
        }
    }
}

#[track_caller]
fn stop(daemon: &mut Daemon) {
    daemon.signal(Signal::SIGTERM);
    let status = daemon.wait();
    assert!(status.success(), "{status}: {}", daemon.log());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn troubles_take_turns() {
        let plan = Plan { restarts: 1, kills: 2, upgrades: 1, other: Some("netd".into()) };
        let (restart, kill, upgrade) =
            (Trouble::Restart, Trouble::Kill, Trouble::Upgrade("netd".into()));
        let expected = [restart, kill.clone(), upgrade, Trouble::Downgrade, kill];
        assert_eq!(plan.troubles(), expected);
        assert_eq!(Plan { other: None, ..plan }.troubles().len(), 3);
    }
}
