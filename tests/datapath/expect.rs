//! What is expected of a packet, and of everything that a program could have done besides: after each one
//! the verdict, the frame, every counter and the connection tables are looked at.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, ensure};
use netd_common::reason::{Reason, Verdict};
use netd_tests::{packet::Packet, prog::flows::Half};

use crate::host::{At, Host};

impl Host {
    /// Runs a program on any frame, and holds it to one reason counted once, its verdict, and no change
    /// that the reason does not tell of: the reason, and the frame that comes out.
    pub(crate) fn meets(&mut self, at: At, frame: &[u8]) -> Result<(Reason, Vec<u8>)> {
        let (verdict, after) = self.datapath.run(at.program, at.place, frame)?;
        let reason = self.count(frame.len())?;
        ensure!(verdict == reason.verdict(), "{verdict:?} for {reason:?}");
        ensure!(after == frame || translates(reason), "{reason:?} has changed the frame");
        ensure!(after.len() == frame.len(), "{reason:?} has changed the length");
        Ok((reason, after))
    }

    /// Runs a program on a frame, and holds it to this reason and no change of the connection tables but `begun` and `ended`: the frame that comes out.
    pub(crate) fn run(
        &mut self,
        at: At,
        frame: &[u8],
        reason: Reason,
        begun: &[Half],
        ended: &[Half],
    ) -> Result<Vec<u8>> {
        let (met, after) = self.meets(at, frame)?;
        ensure!(met == reason, "met {met:?} instead of {reason:?}: {frame:02x?} at {at:?}");
        let halves = self.datapath.halves()?;
        let expected: BTreeSet<Half> =
            self.halves.iter().filter(|half| !ended.contains(half)).chain(begun).copied().collect();
        ensure!(halves == expected, "after {reason:?}: {halves:#?}\ninstead of {expected:#?}");
        self.halves = halves;
        Ok(after)
    }

    /// Sees to it that one counter has grown by one packet of this length and no other has: its reason.
    pub(crate) fn count(&mut self, len: usize) -> Result<Reason> {
        let counters = self.datapath.counters()?;
        let grown: Vec<_> = counters
            .iter()
            .filter(|(reason, count)| self.counters.get(reason) != Some(count))
            .collect();
        let &[(&reason, &(packets, bytes))] = &grown[..] else {
            anyhow::bail!("not one counter has grown but {grown:?}");
        };
        let (packets_before, bytes_before) =
            self.counters.get(&reason).copied().unwrap_or_default();
        ensure!(packets == packets_before + 1, "{reason:?} counted {packets} packets");
        ensure!(bytes == bytes_before + len as u64, "{reason:?} counted {bytes} bytes");
        self.counters = counters;
        Ok(reason)
    }

    /// A packet that is translated and begins no flow.
    pub(crate) fn becomes(
        &mut self,
        at: At,
        packet: &Packet,
        reason: Reason,
        expected: &Packet,
    ) -> Result<()> {
        self.begins(at, packet, reason, expected, &[])
    }

    /// A packet that is translated and begins a flow.
    pub(crate) fn begins(
        &mut self,
        at: At,
        packet: &Packet,
        reason: Reason,
        expected: &Packet,
        begun: &[Half],
    ) -> Result<()> {
        let after = self.run(at, &packet.frame(), reason, begun, &[])?;
        ensure!(after == expected.frame(), "came out: {after:02x?}\nexpected: {expected:?}");
        Ok(())
    }

    /// A packet that stays as it is.
    pub(crate) fn stays(&mut self, at: At, packet: &Packet, reason: Reason) -> Result<()> {
        self.becomes(at, packet, reason, packet)
    }

    /// Frames that are not translated, each with the reason why; none begins a flow.
    pub(crate) fn judges(&mut self, rows: &[(&str, At, Vec<u8>, Reason)]) -> Result<()> {
        for (row, at, frame, reason) in rows {
            let after =
                self.run(*at, frame, *reason, &[], &[]).with_context(|| (*row).to_owned())?;
            ensure!(after == *frame, "{row}: the frame has changed");
        }
        Ok(())
    }

    /// What is in the connection tables.
    pub(crate) fn halves(&self) -> Vec<Half> {
        self.halves.iter().copied().collect()
    }

    /// Packets counted so far by each reason.
    pub(crate) fn packets(&self) -> Result<BTreeMap<Reason, u64>> {
        let counters = self.datapath.counters()?;
        Ok(counters.into_iter().map(|(reason, (packets, _))| (reason, packets)).collect())
    }

    /// Takes the connection tables as they are: after a test has changed them.
    pub(crate) fn look_again(&mut self) -> Result<()> {
        self.halves = self.datapath.halves()?;
        Ok(())
    }
}

/// Whether a packet with this reason may leave changed.
pub(crate) fn translates(reason: Reason) -> bool {
    let stays = [Reason::SameNetworkRedirected];
    reason.verdict() == Verdict::Redirect && !stays.contains(&reason)
        || matches!(
            reason,
            Reason::Published
                | Reason::PublishedReply
                | Reason::Masqueraded
                | Reason::MasqueradeReply
                | Reason::Mapped
                | Reason::PrefixTranslated
                | Reason::MappedReply
                | Reason::Untranslated
                | Reason::NotDeliverable
                | Reason::IcmpErrorOfFlow
        )
}

/// Both halves of a flow whose first packet is seen on one side as `seen` and on the other as `becomes`.
pub(crate) fn flow(is_begun_outside: bool, seen: &Packet, becomes: &Packet) -> [Half; 2] {
    [
        Half {
            is_mapping: false,
            is_on_uplink: is_begun_outside,
            proto: seen.proto(),
            src: seen.src,
            dst: seen.dst,
            new_src: becomes.src,
            new_dst: becomes.dst,
            redirected_to: 0,
        },
        Half {
            is_mapping: false,
            is_on_uplink: !is_begun_outside,
            proto: seen.proto(),
            src: becomes.dst,
            dst: becomes.src,
            new_src: seen.dst,
            new_dst: seen.src,
            redirected_to: 0,
        },
    ]
}
