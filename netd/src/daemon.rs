//! `netd run`: puts the parts together and turns the event loop.

use std::{future, io, path::Path, time::Duration};

use anyhow::{Context as _, Result, bail};
use nix::{
    errno::Errno,
    libc,
    sys::socket::{AddressFamily, SockFlag, SockType, socket},
};
use tokio::{
    net::UnixListener,
    runtime::{Builder, Runtime},
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};
use tracing::{info, warn};

use crate::{
    config::RunOptions,
    controller::{Controller, Next, Parts},
    datapath::{conntrack::Conntrack, expiry::Expiry},
    docker::follow::Follower,
    fail_point,
    ids::Urandom,
    locks, mounts,
    netlink::{Netlink, monitor::Monitor},
    privileges,
    proxy::Sockets,
    server::{self, BindError, Command},
    store::Store,
    takeover,
    traces::Traces,
    watchdog::Watchdog,
};

/// How many commands may wait for the controller.
const COMMANDS: usize = 64;

/// How long the host's events are gathered before they are acted on: one change makes several.
const EVENT_PAUSE: Duration = Duration::from_millis(20);

/// How often things are looked at that announce no change: sysctls, and the tables of iptables-legacy.
const SILENT_PERIOD: Duration = Duration::from_secs(5);

/// Runs the daemon until it is told to stop, in the place of the one that runs where that is wished. The data
/// path stays.
///
/// # Errors
/// Where it cannot start; nothing of an earlier daemon's data path is lost then.
pub fn run(options: RunOptions, takeover: bool) -> Result<()> {
    runtime()?.block_on(serve(&options, takeover))
}

/// One thread: the controller is the only one with work to do.
pub(crate) fn runtime() -> Result<Runtime> {
    Builder::new_current_thread().enable_all().build().context("the event loop cannot be made")
}

async fn serve(options: &RunOptions, takeover: bool) -> Result<()> {
    let config = options.resolve()?;
    // A signal may come at any time from here on, and must not end the process half-way.
    let signals = Signals::new().context("signals cannot be handled")?;
    let mark = if takeover { takeover::end_other(&config.daemon)? } else { None };
    let _host = locks::host()?;
    // First among what is dropped last: nothing of this start holds what is to go.
    let mut traces = Traces::default();
    mounts::ensure_bpffs(&config.daemon.bpffs, &mut traces)?;
    let _pins = locks::pins(&config.daemon.bpffs)?;
    warn_of_private_pins(&config.daemon.bpffs);
    let mut ids = Urandom::open().context("random numbers cannot be had")?;
    let mut store = Store::open(&config.daemon.state_dir, &mut ids, &mut traces)?;
    let stored = store.load()?;
    let listener = bind(&config.daemon.socket, &mut traces)?;
    // From here on clients reach this one, and wait for it there.
    drop(mark);
    let cgroup = mounts::cgroup2_root(&config.daemon.state_dir.join("cgroup"), &mut traces)?;
    let netlink = Netlink::open()?;
    // Listening begins before the host is read, so that no change falls between.
    let monitor = Monitor::open()?;
    let netns_cookie = netns_cookie()?;
    let socket = config.daemon.socket.clone();
    // Before anything is made that would stay if there were no thread.
    let expiry = Expiry::new().context("no thread for the expiry of flows")?;
    let parts = Parts { store, stored, ids, config, netns_cookie, netlink, monitor };
    let sockets = Sockets::open();
    let mut controller = Controller::start(parts, &cgroup).await?;
    let _proxy = controller.serve_proxy(sockets)?;
    let _moved = controller.follow_moved()?;
    traces.keep();

    privileges::drop_unneeded().context("capabilities cannot be dropped")?;
    expiry.begin(Conntrack::open(controller.pins())?);
    let (sender, commands) = mpsc::channel(COMMANDS);
    // The loop ends with the receiver of commands; the server then lets the last answers out.
    let (result, ()) = tokio::join!(
        turn(&mut controller, options, signals, commands),
        server::serve(listener, sender)
    );
    expiry.end();
    remove_socket(&socket);
    result
}

/// Makes the socket, of which nothing is left where the start is refused.
fn bind(socket: &Path, traces: &mut Traces) -> Result<UnixListener, BindError> {
    if let Some(parent) = socket.parent() {
        traces.directory(parent);
    }
    let listener = server::bind(socket)?;
    traces.file(socket.to_owned());
    Ok(listener)
}

/// Says that pins end with the daemon, where its bpffs is nobody else's: `ip netns exec` mounts a /sys of its own.
/// What cannot be told here, `netd doctor` says.
fn warn_of_private_pins(bpffs: &Path) {
    if let Ok(false) = mounts::is_shared_with_init(bpffs) {
        warn!(
            bpffs = %bpffs.display(),
            "this mount namespace is private: the data path ends with the daemon; `netd doctor` names a way"
        );
    }
}

/// The event loop.
async fn turn(
    controller: &mut Controller,
    options: &RunOptions,
    mut signals: Signals,
    mut commands: mpsc::Receiver<Command>,
) -> Result<()> {
    let mut docker = Follower::new(&controller.config().docker);
    let mut watchdog = Watchdog::from_environment();
    let mut silent = interval(SILENT_PERIOD);
    silent.set_missed_tick_behavior(MissedTickBehavior::Delay);
    fail_point::started();
    info!("ready");
    // Without systemd there is nobody to tell.
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    // When the host's changes are followed that have been heard of.
    let mut due = None;
    // When something of Docker's is looked for again.
    let mut docker_due = None;
    loop {
        match controller.adoption_pause() {
            Some(pause) => {
                docker_due.get_or_insert_with(|| Instant::now() + pause);
            }
            None => docker_due = None,
        }
        if controller.is_behind() {
            due.get_or_insert_with(|| Instant::now() + EVENT_PAUSE);
        }
        tokio::select! {
            Some(command) = commands.recv() => {
                if controller.handle(command).await == Next::Stop {
                    break;
                }
            }
            seen = docker.changed() => controller.follow_docker(seen).await,
            events = controller.host_changes() => controller.note(events).await,
            () = until(due) => {
                due = None;
                controller.follow().await;
            }
            () = until(docker_due) => {
                docker_due = None;
                controller.adopt_pending().await;
            }
            _ = silent.tick() => {
                controller.keep_sysctls();
                controller.follow_silent_changes();
                controller.adopt_pending().await;
            }
            () = watchdog.due() => {
                if let Err(error) = watchdog.ping() {
                    warn!(%error, "systemd's watchdog does not hear of the event loop");
                }
            }
            _ = signals.hangup.recv() => {
                reload(controller, options).await;
                docker.configure(&controller.config().docker);
            }
            _ = signals.terminate.recv() => break,
            _ = signals.interrupt.recv() => break,
        }
    }
    info!("stopped");
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
    Ok(())
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => future::pending().await,
    }
}

async fn reload(controller: &mut Controller, options: &RunOptions) {
    let result = match options.resolve() {
        Ok(config) => controller.reload(config).await.map_err(anyhow::Error::from),
        Err(error) => Err(error.into()),
    };
    if let Err(error) = result {
        warn!(error = format!("{error:#}"), "the configuration stays as it was");
    }
}

struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }
}

/// The cookie of the current network namespace, by which the socket hooks know the host's sockets.
/// Source: `SO_NETNS_COOKIE`, Linux 5.14.
pub(crate) fn netns_cookie() -> Result<u64> {
    use std::os::fd::AsRawFd as _;

    const SO_NETNS_COOKIE: libc::c_int = 71;
    let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    let mut cookie = 0_u64;
    let mut len = size_of::<u64>() as libc::socklen_t;
    // SAFETY: the option's value is a u64, and both pointers are to locals of the lengths given.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut len,
        )
    };
    match Errno::result(result) {
        Ok(_) => Ok(cookie),
        // The first thing that is missing in older kernels.
        Err(Errno::ENOPROTOOPT) => bail!("this kernel is too old: netd needs Linux 6.1 or later"),
        Err(error) => Err(error).context("the host's network namespace has no cookie"),
    }
}

fn remove_socket(path: &Path) {
    // The next daemon replaces it anyway.
    let _ = std::fs::remove_file(path);
}
