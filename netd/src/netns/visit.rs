//! Doing something inside sandboxes, with a connection to the rtnetlink of each.
//!
//! Threads made for it go in and make the socket there, one sandbox after the other, and end: an open socket
//! would keep a namespace alive. Several work side by side, since half of the time goes into system calls that do
//! not wait for one another.

use std::{
    io,
    panic::resume_unwind,
    pin::pin,
    thread::{self, Scope, ScopedJoinHandle, available_parallelism},
};

use futures_util::future::{Either, select};
use nix::sched::{CloneFlags, setns};
use tokio::runtime::{Builder, Runtime};

use super::{EnterError, Sandbox, link::SandboxLinkError};
use crate::{netlink::Netlink, sysctl};

/// The most threads at once; more would wait for the kernel's lock on its devices.
const VISITORS: usize = 4;

/// Does the work for each item inside its sandbox; the answers are in the order of the items.
///
/// # Errors
/// Where no thread can be started. Some of the work may have been done then.
pub fn visit_each<T: Sync, R: Send>(
    items: &[T],
    sandbox: impl Fn(&T) -> &Sandbox + Sync,
    work: impl AsyncFn(&T, &Netlink) -> Result<R, SandboxLinkError> + Sync,
) -> Result<Vec<Result<R, SandboxLinkError>>, EnterError> {
    if items.is_empty() {
        return Ok(Vec::new());
    }
    let visitors = available_parallelism().map_or(1, usize::from).min(VISITORS);
    let visit_all = |share: &[T]| {
        let runtime = runtime().map_err(EnterError::Thread)?;
        let visit =
            |item| visit(&runtime, sandbox(item), async |netlink| work(item, netlink).await);
        Ok(share.iter().map(visit).collect::<Vec<_>>())
    };
    let visit_all = &visit_all;
    thread::scope(|scope| {
        let shares = items.chunks(items.len().div_ceil(visitors));
        let threads: Result<Vec<_>, _> =
            shares.map(|share| spawn(scope, move || visit_all(share))).collect();
        let mut answers = Vec::with_capacity(items.len());
        for thread in threads.map_err(EnterError::Thread)? {
            answers.extend(thread.join().unwrap_or_else(|panic| resume_unwind(panic))?);
        }
        Ok(answers)
    })
}

impl Sandbox {
    /// Does some work inside.
    ///
    /// # Errors
    /// Where the sandbox cannot be entered, or the work fails.
    pub fn visit<R: Send>(
        &self,
        work: impl AsyncFn(&Netlink) -> Result<R, SandboxLinkError> + Sync,
    ) -> Result<R, SandboxLinkError> {
        let work = async |_: &&Self, netlink: &Netlink| work(netlink).await;
        let mut answers = visit_each(&[self], |sandbox| *sandbox, work)?;
        answers.pop().unwrap_or_else(|| unreachable!("one item has one answer"))
    }
}

fn spawn<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    work: impl FnOnce() -> T + Send + 'scope,
) -> io::Result<ScopedJoinHandle<'scope, T>> {
    thread::Builder::new().name("sandbox".to_owned()).spawn_scoped(scope, work)
}

fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

/// Goes into a sandbox and does the work there. The thread stays inside.
fn visit<R>(
    runtime: &Runtime,
    sandbox: &Sandbox,
    work: impl AsyncFnOnce(&Netlink) -> Result<R, SandboxLinkError>,
) -> Result<R, SandboxLinkError> {
    setns(sandbox.fd(), CloneFlags::CLONE_NEWNET).map_err(EnterError::SetNs)?;
    sysctl::has_moved();
    runtime.block_on(async {
        let (netlink, connection) = Netlink::connect()?;
        let serve = async {
            connection.await;
            // A broken connection has answered each request with an error; `work` is about to end.
            std::future::pending::<()>().await;
        };
        match select(pin!(work(&netlink)), pin!(serve)).await {
            Either::Left((result, _)) => result,
            Either::Right(((), _)) => unreachable!("serving never ends"),
        }
    })
}
