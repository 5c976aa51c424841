//! The processes of `netd_tests::hitless`: one end of all flows of a lane, on one thread.

#![expect(clippy::print_stdout, reason = "the test that has started it reads its stdout")]

use std::{env, time::Duration};

use anyhow::{Context as _, Result, bail};
use netd_tests::hitless::{
    answer::answer_all,
    ask::{Plan, ask_all},
};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let (_, most_files) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most_files, most_files)?;
    let words: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let reports = match words[..] {
        ["answer", port] => answer_all(port.parse()?).await?,
        ["ask", flows, pace_ms, one, other] => {
            let pace = Duration::from_millis(pace_ms.parse()?);
            let plan = Plan { flows: flows.parse()?, pace, to: [one.parse()?, other.parse()?] };
            let asked = ask_all(plan, |round| println!("round {round}")).await;
            asked.context("a flow cannot be connected")?
        }
        _ => bail!("answer PORT, or ask FLOWS PACE_MS ADDRESS ADDRESS"),
    };
    for report in reports {
        println!("{report}");
    }
    Ok(())
}
