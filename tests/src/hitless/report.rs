//! What one end of a flow has seen, as a line of text: so it gets from the process that has the end to the
//! test.

use std::{fmt, io, str::FromStr, time::Duration};

use anyhow::{Context as _, ensure};

/// What an end that has lost nothing says.
const WHOLE: &str = "whole";

/// One end of a flow after its last message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The number of the flow in its lane.
    pub flow: u32,
    /// How many bytes the end has sent. Units: bytes, as of `received`.
    pub sent: u64,
    /// How many it has received.
    pub received: u64,
    /// The longest that a message has waited for its answer.
    pub stall: Duration,
    /// How the flow was lost, if it was.
    pub loss: Option<String>,
}

impl Report {
    /// Notes how the flow has ended.
    #[must_use]
    pub fn ended(mut self, how: io::Result<()>) -> Self {
        self.loss = how.err().map(|error| error.kind().to_string());
        self
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { flow, sent, received, stall, loss } = self;
        let loss = loss.as_deref().unwrap_or(WHOLE);
        write!(f, "flow {flow} {sent} {received} {} {loss}", stall.as_micros())
    }
}

impl FromStr for Report {
    type Err = anyhow::Error;

    fn from_str(line: &str) -> Result<Self, Self::Err> {
        let mut words = line.splitn(6, ' ');
        let mut word = || words.next().with_context(|| format!("too short: {line}"));
        ensure!(word()? == "flow", "not of a flow: {line}");
        let flow = word()?.parse()?;
        let (sent, received) = (word()?.parse()?, word()?.parse()?);
        let stall = Duration::from_micros(word()?.parse()?);
        let loss = Some(word()?).filter(|loss| *loss != WHOLE).map(str::to_owned);
        Ok(Self { flow, sent, received, stall, loss })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_read_back_as_it_was() {
        let whole = Report { flow: 7, sent: 640, received: 576, ..Report::default() };
        let stall = Duration::from_millis(3);
        let lost = Report { stall, ..whole.clone() }.ended(Err(io::ErrorKind::TimedOut.into()));
        assert_eq!(lost.loss.as_deref(), Some("timed out"));
        for report in [whole.ended(Ok(())), lost] {
            assert_eq!(report.to_string().parse::<Report>().unwrap(), report);
        }
        assert!("round 7".parse::<Report>().is_err());
    }
}
