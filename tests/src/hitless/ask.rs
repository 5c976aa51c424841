//! The process that asks: it has all flows of a lane, and tells of each round in which every one of them has
//! been answered.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use tokio::{
    net::TcpStream,
    select,
    signal::unix::{SignalKind, signal},
    sync::watch,
    task::JoinSet,
    time::{Interval, MissedTickBehavior, interval_at, sleep},
};

use super::{
    end::End,
    message::{answer, question},
    report::Report,
};
use crate::condition::now;

/// How long a flow that is to end may still take for what is on its way: longer than TCP needs to send several
/// times again.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often it is looked whether a round is complete.
const LOOK_AFTER: Duration = Duration::from_millis(10);

/// How often a flow that has ended has been answered, for it holds up no round.
const NO_MORE: u32 = u32::MAX;

/// The flows of a lane.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// How many there are.
    pub flows: u32,
    /// How long each rests after a question.
    pub pace: Duration,
    /// Where they lead to, in turns.
    pub to: [SocketAddr; 2],
}

/// Connects every flow and asks until it is told to end (SIGTERM); `tell` hears of complete rounds.
///
/// # Errors
/// Where a flow cannot be connected.
pub async fn ask_all(plan: Plan, mut tell: impl FnMut(u32)) -> io::Result<Vec<Report>> {
    let mut told_to_end = signal(SignalKind::terminate())?;
    let (end, is_ending) = watch::channel(false);
    let answered: Arc<[AtomicU32]> = (0..plan.flows).map(|_| AtomicU32::new(0)).collect();
    let mut ends = Vec::new();
    for (_, to) in (0..plan.flows).zip(plan.to.into_iter().cycle()) {
        ends.push(End::new(TcpStream::connect(to).await?)?);
    }
    let mut flows = JoinSet::new();
    for (flow, end) in (0..plan.flows).zip(ends) {
        // Not all at the same moment.
        let pace = steady(plan.pace * flow / plan.flows, plan.pace);
        flows.spawn(report(flow, end, pace, Arc::clone(&answered), is_ending.clone()));
    }
    let (mut rounds, mut ticks) = (Rounds::new(answered), steady(LOOK_AFTER, LOOK_AFTER));
    loop {
        select! {
            _ = ticks.tick() => {
                if rounds.is_complete() {
                    tell(rounds.next());
                }
            }
            _ = told_to_end.recv() => break,
        }
    }
    end.send_replace(true);
    Ok(flows.join_all().await)
}

/// Ticks from some time on that keep their distance after one that came late.
fn steady(after: Duration, period: Duration) -> Interval {
    let mut ticks = interval_at((now() + after).into(), period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

async fn report(
    flow: u32,
    mut end: End,
    pace: Interval,
    answered: Arc<[AtomicU32]>,
    is_ending: watch::Receiver<bool>,
) -> Report {
    end.report.flow = flow;
    let answered = &answered[flow as usize];
    let patience = async |mut is_ending: watch::Receiver<bool>| {
        let _ = is_ending.wait_for(|is_ending| *is_ending).await;
        sleep(PATIENCE).await;
    };
    let ended = select! {
        ended = ask_flow(&mut end, pace, answered, &is_ending) => ended,
        () = patience(is_ending.clone()) => Err(io::ErrorKind::TimedOut.into()),
    };
    answered.store(NO_MORE, Ordering::Relaxed);
    end.report.ended(ended)
}

/// Asks one question after the other, each of which has to be answered, until it is time to end.
async fn ask_flow(
    end: &mut End,
    mut pace: Interval,
    answered: &AtomicU32,
    is_ending: &watch::Receiver<bool>,
) -> io::Result<()> {
    let flow = end.report.flow;
    for number in 0.. {
        pace.tick().await;
        if *is_ending.borrow() {
            break;
        }
        let asked = now();
        end.send(&question(flow, number)).await?;
        let message = end.receive().await?.ok_or(io::ErrorKind::UnexpectedEof)?;
        end.report.stall = end.report.stall.max(asked.elapsed());
        if message != answer(flow, number) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        answered.store(number + 1, Ordering::Relaxed);
    }
    end.close().await?;
    match end.receive().await? {
        None => Ok(()),
        Some(_) => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// Which flows have been answered since the last round was complete.
struct Rounds {
    answered: Arc<[AtomicU32]>,
    at_last: Vec<u32>,
    number: u32,
}

impl Rounds {
    fn new(answered: Arc<[AtomicU32]>) -> Self {
        let at_last = vec![0; answered.len()];
        Self { answered, at_last, number: 0 }
    }

    fn is_complete(&self) -> bool {
        let counts = self.answered.iter().map(|count| count.load(Ordering::Relaxed));
        counts.zip(&self.at_last).all(|(count, last)| count > *last || count == NO_MORE)
    }

    /// Begins the next round; the number of complete ones.
    fn next(&mut self) -> u32 {
        let counts = self.answered.iter().map(|count| count.load(Ordering::Relaxed));
        self.at_last = counts.collect();
        self.number += 1;
        self.number
    }
}
