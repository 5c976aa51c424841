//! What has become of the flows, from what both ends of each have seen. Pure.

use std::{collections::BTreeMap, io, time::Duration};

use super::{lane::Ends, report::Report};

/// How a flow is lost that is reset.
const RESET: io::ErrorKind = io::ErrorKind::ConnectionReset;

/// What has become of the flows of a run.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    /// How many there were.
    pub flows: u32,
    /// How many were lost, by lane and by what was seen of it.
    pub lost: BTreeMap<String, u32>,
    /// How many of those lost were reset.
    pub reset: u32,
    /// How many bytes were sent, by either end.
    pub sent: u64,
    /// How many of them have not come, or too often. Units: bytes.
    pub missing: u64,
    /// The longest that each flow has waited for an answer, the shortest first.
    stalls: Vec<Duration>,
}

impl Verdict {
    /// Puts both ends of each flow together.
    pub fn of(lanes: &[Ends]) -> Self {
        let mut verdict = Self::default();
        for lane in lanes {
            let answering = by_flow(&lane.answering);
            let asking = by_flow(&lane.asking);
            for flow in 0..lane.flows {
                let end = |ends: &BTreeMap<u32, &Report>| {
                    ends.get(&flow).copied().cloned().unwrap_or_else(|| untold(flow))
                };
                verdict.add(lane.name, &end(&asking), &end(&answering));
            }
        }
        verdict.stalls.sort_unstable();
        verdict
    }

    fn add(&mut self, lane: &str, asking: &Report, answering: &Report) {
        self.flows += 1;
        self.sent += asking.sent + answering.sent;
        self.missing += asking.sent.abs_diff(answering.received);
        self.missing += answering.sent.abs_diff(asking.received);
        self.stalls.push(asking.stall);
        if let Some(loss) = asking.loss.as_ref().or(answering.loss.as_ref()) {
            self.reset += u32::from(*loss == RESET.to_string());
            *self.lost.entry(format!("{lane}, {loss}")).or_default() += 1;
        }
    }

    /// Whether every flow has ended well, and every byte has come, once.
    pub fn is_whole(&self) -> bool {
        self.lost.is_empty() && self.missing == 0
    }

    /// How long the flow has waited that `percent` of all flows have waited no longer than.
    pub fn stall(&self, percent: usize) -> Duration {
        let last = self.stalls.len().saturating_sub(1);
        self.stalls.get(last * percent / 100).copied().unwrap_or_default()
    }
}

fn by_flow(reports: &[Report]) -> BTreeMap<u32, &Report> {
    reports.iter().map(|report| (report.flow, report)).collect()
}

/// What stands for an end that nobody has told of.
fn untold(flow: u32) -> Report {
    Report { flow, loss: Some("not told of".to_owned()), ..Report::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end(flow: u32, sent: u64, received: u64, stall_ms: u64) -> Report {
        let stall = Duration::from_millis(stall_ms);
        Report { flow, sent, received, stall, loss: None }
    }

    fn lane(asking: Vec<Report>, answering: Vec<Report>) -> Verdict {
        Verdict::of(&[Ends { name: "published", flows: 2, asking, answering }])
    }

    #[test]
    fn flows_are_whole_where_both_ends_agree() {
        let verdict = lane(
            vec![end(0, 640, 640, 3), end(1, 64, 64, 1)],
            vec![end(1, 64, 64, 0), end(0, 640, 640, 0)],
        );
        assert!(verdict.is_whole(), "{verdict:?}");
        assert_eq!((verdict.flows, verdict.sent), (2, 1408));
        let stalls = [0, 50, 100].map(|percent| verdict.stall(percent).as_millis());
        assert_eq!(stalls, [1, 1, 3]);
    }

    #[test]
    fn bytes_that_have_not_come_are_missing_either_way() {
        let verdict = lane(
            vec![end(0, 640, 576, 0), end(1, 128, 64, 0)],
            vec![end(0, 640, 640, 0), end(1, 64, 64, 0)],
        );
        assert!(!verdict.is_whole());
        assert_eq!((verdict.missing, verdict.lost.len()), (128, 0));
    }

    #[test]
    fn a_flow_is_lost_whichever_end_says_so_or_says_nothing() {
        let reset = end(0, 64, 64, 0).ended(Err(RESET.into()));
        let verdict = lane(vec![reset, end(1, 64, 64, 0)], vec![end(0, 64, 64, 0)]);
        assert_eq!(verdict.reset, 1);
        let lost: Vec<(&str, u32)> =
            verdict.lost.iter().map(|(what, count)| (what.as_str(), *count)).collect();
        assert_eq!(lost, [("published, connection reset", 1), ("published, not told of", 1)]);
    }
}
