//! The attack at work: one thread sends, one watches, and the caller makes trouble meanwhile.

use std::{
    collections::BTreeSet,
    io,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread,
};

use super::{
    attack::Attack,
    controls::controls,
    observers::{Observers, Seen},
    stage::{GUESTS, Stage},
    tally::SentTally,
    wire::Wire,
};
use crate::condition::{eventually, within};

/// The device of every station.
const IFNAME: &str = "eth0";

/// A battle that goes on.
pub struct Battle<'a> {
    /// What is attacked.
    pub attack: &'a Attack,
    sniffers: &'a [Wire],
    senders: &'a [Wire],
    observers: Mutex<Observers<'a>>,
    sent: AtomicU32,
    phase: AtomicU32,
    is_over: AtomicBool,
    is_attacking: AtomicBool,
}

/// How many controls a phase may have.
const CONTROLS: u32 = 1000;

impl<'a> Battle<'a> {
    /// Nothing is sent yet.
    pub fn new(attack: &'a Attack, sniffers: &'a [Wire], senders: &'a [Wire]) -> Self {
        Self {
            attack,
            sniffers,
            senders,
            observers: Mutex::new(Observers::new(attack, sniffers)),
            sent: AtomicU32::new(0),
            phase: AtomicU32::new(0),
            is_over: AtomicBool::new(false),
            is_attacking: AtomicBool::new(false),
        }
    }

    /// Watches from beginning to end, and attacks between `prepare` and the end of `meanwhile`. What has
    /// been sent, and what has been seen, is told in the end.
    ///
    /// # Errors
    /// Where a sniffer breaks.
    ///
    /// # Panics
    /// As the closures do.
    pub fn fight(
        self,
        before: impl FnOnce(&Self),
        meanwhile: impl FnOnce(&Self),
        after: impl FnOnce(&Self),
    ) -> io::Result<(SentTally, Seen)> {
        let (tally, watched) = thread::scope(|scope| {
            let end = End(&self);
            let watcher = scope.spawn(|| self.watch());
            before(&self);
            self.is_attacking.store(true, Ordering::Relaxed);
            let attacker = scope.spawn(|| self.send());
            meanwhile(&self);
            self.is_attacking.store(false, Ordering::Relaxed);
            let tally = attacker.join();
            after(&self);
            drop(end);
            (tally, watcher.join())
        });
        watched.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        let tally = tally.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let observers = self.observers.into_inner().unwrap_or_else(PoisonError::into_inner);
        Ok((tally, observers.seen))
    }

    fn watch(&self) -> io::Result<()> {
        loop {
            let was_over = self.is_over.load(Ordering::Relaxed);
            let is_busy = self.observers().look()?;
            if was_over && !is_busy {
                return Ok(());
            }
            if !is_busy {
                Wire::wait_for_any(self.sniffers)?;
            }
        }
    }

    fn send(&self) -> SentTally {
        let mut tally = SentTally::default();
        let mut ifindexes = vec![None; self.senders.len()];
        while self.is_attacking.load(Ordering::Relaxed) {
            let sent = self.attack.packet(self.sent.fetch_add(1, Ordering::Relaxed));
            let (wire, ifindex) = (&self.senders[sent.attacker], &mut ifindexes[sent.attacker]);
            tally.count(&sent);
            for frame in &sent.frames {
                // A device that is made anew has another number.
                *ifindex = ifindex.or_else(|| wire.ifindex(IFNAME).ok());
                if ifindex.is_none_or(|ifindex| wire.send(ifindex, frame).is_err()) {
                    tally.refused += 1;
                    *ifindex = None;
                }
            }
        }
        tally
    }

    fn observers(&self) -> MutexGuard<'_, Observers<'a>> {
        self.observers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until some more packets have been sent.
    #[track_caller]
    pub fn wait_for_packets(&self, packets: u32) {
        let until = self.sent.load(Ordering::Relaxed) + packets;
        eventually("the attack goes on", || self.sent.load(Ordering::Relaxed) >= until);
    }

    /// How many packets have been sent.
    pub fn sent(&self) -> u32 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Sends every control until its observer has seen it.
    ///
    /// # Panics
    /// Where one is not seen.
    #[track_caller]
    pub fn check_controls(&self, stage: &Stage, guest: Option<&str>) {
        let connected: BTreeSet<&str> = stage
            .scene
            .stations
            .iter()
            .map(|station| station.name)
            .filter(|name| !GUESTS.contains(name) || guest == Some(name))
            .collect();
        let made = controls(stage, &connected);
        let controls = made.unwrap_or_else(|error| panic!("no sockets: {error}"));
        let phase = self.phase.fetch_add(1, Ordering::Relaxed);
        for (index, control) in controls.iter().enumerate() {
            let number = phase * CONTROLS + index as u32;
            eventually(&control.name, || {
                control.send(self.attack.marks, number);
                within(crate::hostile::PROMPTLY, || {
                    self.observers().seen.controls.contains(&(number, control.at)).then_some(())
                })
                .is_some()
            });
        }
    }

    /// Watches a station's device that has been made anew.
    ///
    /// # Errors
    /// Where there is none.
    pub fn watch_again(&self, station: usize) -> io::Result<()> {
        self.sniffers[station].make_promiscuous(IFNAME)
    }
}

/// Ends sender and watcher however the battle ends.
struct End<'a, 'b>(&'a Battle<'b>);

impl Drop for End<'_, '_> {
    fn drop(&mut self) {
        self.0.is_attacking.store(false, Ordering::Relaxed);
        self.0.is_over.store(true, Ordering::Relaxed);
    }
}
