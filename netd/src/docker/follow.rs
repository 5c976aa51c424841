//! Follows a dockerd through its API: everything once, then what its events name.
//!
//! What the API has answered stands in a mirror, of which the controller gets a [`View`] whenever it has changed. A
//! dockerd that is away changes nothing: the last view holds until it answers again.

mod mirror;
mod server;
mod session;

use std::{collections::BTreeSet, io, iter, path::Path, sync::Arc, time::Duration};

use tokio::{net::UnixStream, sync::watch, task::JoinSet, time::sleep};
use tracing::{debug, info};

use super::{
    conflict::{self, Signs},
    settings::Settings,
    view::View,
};
use crate::{
    api::Conflict,
    config::{DockerConfig, DockerMode},
    errors::in_one_line,
    netlink::netfilter,
};
use server::Server;
use session::Session;

/// How soon a dockerd is looked for again, which is a look at every process.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(500);

/// The same where there is no socket, which is a look at one file. Until one that starts is followed, what is sent to
/// the ports of new containers goes to its own listeners, and nobody answers.
const LOOK_FOR_SOCKET_AFTER: Duration = Duration::from_millis(100);

/// How soon one that was left alone is asked again; somebody has to restart it first.
const DECIDED_AFTER: Duration = Duration::from_secs(2);

/// What is known of Docker.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) state: State,
    /// The last one; none where Docker's networks are not netd's work.
    pub(crate) view: Option<Arc<View>>,
    pub(crate) settings: Option<Settings>,
}

/// How things stand with a dockerd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Nobody asks for it.
    Off,
    /// It does not answer; what was adopted stays so.
    Away { why: String },
    /// It is of another host: its bridges are not here.
    Elsewhere,
    /// It does netd's work itself.
    LeftAlone { version: String, conflicts: Vec<Conflict>, bridges: BTreeSet<String> },
    /// Its networks are netd's work.
    Followed { version: String },
}

impl Default for State {
    fn default() -> Self {
        Self::Away { why: "it has not answered yet".to_owned() }
    }
}

/// Follows as long as it lives.
#[derive(Debug)]
pub(crate) struct Follower {
    config: DockerConfig,
    seen: watch::Receiver<Seen>,
    /// Ends when this is dropped.
    _task: JoinSet<()>,
}

impl Follower {
    /// Begins to follow, unless that is not wished.
    pub(crate) fn new(config: &DockerConfig) -> Self {
        let (sender, seen) = watch::channel(Seen::default());
        let mut task = JoinSet::new();
        if config.enabled == DockerMode::Off {
            // What was adopted is to be given up.
            sender.send_modify(|seen| seen.state = State::Off);
        } else {
            task.spawn(follow(config.clone(), Publisher(sender)));
        }
        Self { config: config.clone(), seen, _task: task }
    }

    /// Goes on by another configuration.
    pub(crate) fn configure(&mut self, config: &DockerConfig) {
        if self.config != *config {
            *self = Self::new(config);
        }
    }

    /// Waits until something has changed. Nothing is lost where the wait is given up.
    pub(crate) async fn changed(&mut self) -> Seen {
        match self.seen.changed().await {
            Ok(()) => self.seen.borrow_and_update().clone(),
            // Nobody follows: there is nothing to come.
            Err(_) => std::future::pending().await,
        }
    }
}

/// Where what has been seen is told.
#[derive(Debug)]
struct Publisher(watch::Sender<Seen>);

impl Publisher {
    fn state(&self, state: State) {
        self.0.send_if_modified(|seen| {
            let is_given_up =
                matches!(state, State::LeftAlone { .. } | State::Elsewhere | State::Off);
            let loses_view = is_given_up && seen.view.take().is_some();
            let is_new = seen.state != state;
            seen.state = state;
            is_new || loses_view
        });
    }

    fn view(&self, version: &str, settings: Option<Settings>, view: View) {
        self.0.send_if_modified(|seen| {
            let state = State::Followed { version: version.to_owned() };
            let is_new = seen.view.as_deref() != Some(&view)
                || seen.state != state
                || seen.settings != settings;
            *seen = Seen { state, view: Some(Arc::new(view)), settings };
            is_new
        });
    }
}

async fn follow(config: DockerConfig, publisher: Publisher) {
    // What the last dockerd was told, while its file says something newer.
    let mut told = None;
    loop {
        match find(&config.host).await {
            Ok(Found::Elsewhere) => publisher.state(State::Elsewhere),
            Ok(Found::Here(server)) => {
                let pid = server.pid();
                let settings = pid.and_then(|pid| Settings::of(pid).ok()).flatten();
                let before = told.filter(|(before, _)| Some(*before) == pid);
                let settings = settings.or(before.map(|(_, settings)| settings));
                told = pid.zip(settings);
                if let Err(error) = Session::run(&config.host, server, settings, &publisher).await {
                    let why = in_one_line(&error);
                    if matches!(publisher.0.borrow().state, State::Followed { .. }) {
                        info!(why, "dockerd is away; what it has made stays as it is");
                    }
                    debug!(why, "dockerd is not followed");
                    publisher.state(State::Away { why });
                }
            }
            Err(error) => {
                let why = format!("{}: {error}", config.host.display());
                publisher.state(State::Away { why });
            }
        }
        let is_left = matches!(publisher.0.borrow().state, State::LeftAlone { .. });
        let pause = match config.host.exists() {
            _ if is_left => DECIDED_AFTER,
            true => LOOK_AGAIN_AFTER,
            false => LOOK_FOR_SOCKET_AFTER,
        };
        sleep(pause).await;
    }
}

enum Found {
    /// It serves this host, as far as can be told.
    Here(Who),
    Elsewhere,
}

/// The process that answers, as far as it can be seen.
#[derive(Debug)]
enum Who {
    Server(Server),
    Process(Option<i32>),
}

impl Who {
    fn pid(&self) -> Option<i32> {
        match self {
            Self::Server(server) => Some(server.pid()),
            Self::Process(pid) => *pid,
        }
    }

    /// Whether it is there to be asked.
    fn listens(&self) -> bool {
        match self {
            Self::Server(server) => server.listens(),
            Self::Process(_) => true,
        }
    }
}

/// Who listens there, and for which network namespace.
async fn find(socket: &Path) -> io::Result<Found> {
    // Most hosts without Docker have none.
    std::fs::metadata(socket)?;
    if let Some(server) = Server::find(socket, processes(DOCKERD)?)? {
        return Ok(Found::Here(Who::Server(server)));
    }
    if Server::find(socket, iter::once(SERVICE_MANAGER))?.is_some() {
        return Err(io::Error::other("no dockerd runs, and a question would start one"));
    }
    let stream = UnixStream::connect(socket).await?;
    let Some(pid) = stream.peer_cred()?.pid().filter(|pid| *pid > 0) else {
        return Ok(Found::Here(Who::Process(None)));
    };
    let netns = |who: &str| std::fs::read_link(format!("/proc/{who}/ns/net"));
    let (own, other) = (netns("self")?, netns(&pid.to_string())?);
    if own != other {
        return Ok(Found::Elsewhere);
    }
    Ok(Found::Here(Who::Process(find_process()?)))
}

/// Who may hold the socket on a dockerd's behalf (systemd.socket(5)).
const SERVICE_MANAGER: i32 = 1;

const DOCKERD: &str = "dockerd";
const PROXY: &str = "docker-proxy";

/// The dockerd of this network namespace.
fn find_process() -> io::Result<Option<i32>> {
    Ok(processes(DOCKERD)?.next())
}

/// The processes of that name in this network namespace.
fn processes(name: &str) -> io::Result<impl Iterator<Item = i32>> {
    let own = std::fs::read_link("/proc/self/ns/net")?;
    let pids = std::fs::read_dir("/proc")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    let is_named = move |pid: &i32| {
        std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|it| it.trim_end() == name)
    };
    let is_here = move |pid: &i32| {
        std::fs::read_link(format!("/proc/{pid}/ns/net")).is_ok_and(|netns| netns == own)
    };
    let pids: Vec<i32> = pids.filter(is_named).filter(is_here).collect();
    Ok(pids.into_iter())
}

/// What dockerd does that netd would do again.
async fn conflicts(
    settings: Option<Settings>,
    version: Option<&str>,
    has_swarm: bool,
) -> Vec<Conflict> {
    let signs = if settings.is_some() { Signs::default() } else { signs().await };
    conflict::conflicts(settings, version, has_swarm, signs)
}

async fn signs() -> Signs {
    let has_proxies = processes(PROXY).is_ok_and(|mut it| it.next().is_some());
    Signs { has_rules: has_rules().await, has_proxies }
}

/// What the dockerd of this network namespace does that netd would do again, as far as its process tells; none where
/// there is no dockerd.
///
/// # Errors
/// Where processes cannot be looked at.
pub(crate) async fn conflicts_here() -> io::Result<Option<Vec<Conflict>>> {
    let Some(pid) = find_process()? else { return Ok(None) };
    Ok(Some(conflicts(Settings::of(pid).ok().flatten(), None, false).await))
}

/// Whether there are rules of Docker's.
async fn has_rules() -> bool {
    let chains = netfilter::chains().await.unwrap_or_default();
    chains.iter().any(|chain| chain.name == "DOCKER" || chain.table.ends_with(" docker-bridges"))
}
