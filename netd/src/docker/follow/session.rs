//! One connection to a dockerd, from its greeting to its end.

use std::{collections::HashMap, path::Path, time::Duration};

use bollard::{
    API_DEFAULT_VERSION, Docker,
    errors::Error as ApiError,
    models::{EventMessage, EventMessageTypeEnum, LocalNodeState},
    query_parameters::{
        EventsOptions, InspectContainerOptions, InspectNetworkOptions, ListContainersOptions,
        ListNetworksOptions,
    },
};
use futures_util::{StreamExt as _, stream::FuturesUnordered};
use thiserror::Error;
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{MissedTickBehavior, interval, timeout},
};
use tracing::{info, warn};

use super::{
    Publisher, State, Who, conflicts,
    mirror::{Event, Mirror, Object},
};
use crate::{
    clock,
    docker::{
        read::{self, Attached, Inspected, ReadError},
        settings::Settings,
        view::Network,
    },
    errors::in_one_line,
};

/// How long an answer is waited for. A container that starts answers when it has started. Units: seconds.
const PATIENCE_SECS: u64 = 120;

/// How long it may take to say which Docker it is.
const GREETING: Duration = Duration::from_secs(10);

/// How soon a question is put again whose answer was of no use.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(2);

/// How often a look is taken whether dockerd is about to end.
const LOOK_AFTER: Duration = Duration::from_millis(250);

/// The status of an answer about what is not there.
const NOT_FOUND: u16 = 404;

/// Why a session has ended.
#[derive(Debug, Error)]
pub(super) enum SessionError {
    #[error("Docker's API does not answer: {0}")]
    Api(#[from] ApiError),
    #[error("Docker's API says nothing for {} seconds", GREETING.as_secs())]
    Silent,
    #[error("Docker's events have ended")]
    EventsEnded,
    #[error("dockerd is about to end")]
    Ending,
}

/// Why an answer about one object is of no use.
#[derive(Debug, Error)]
enum AnswerError {
    #[error(transparent)]
    Api(#[from] ApiError),
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// What dockerd has answered about an object.
enum Answer {
    Network(String, Option<(Network, Attached)>),
    Container(String, Option<Box<Inspected>>),
    Useless(Object, AnswerError),
}

pub(super) struct Session<'a> {
    docker: Docker,
    version: String,
    settings: Option<Settings>,
    publisher: &'a Publisher,
    who: Who,
    mirror: Mirror,
}

impl<'a> Session<'a> {
    /// Follows until dockerd goes, or begins to do netd's work itself.
    pub(super) async fn run(
        socket: &Path,
        who: Who,
        settings: Option<Settings>,
        publisher: &'a Publisher,
    ) -> Result<(), SessionError> {
        let docker = Docker::connect_with_unix(
            &socket.to_string_lossy(),
            PATIENCE_SECS,
            API_DEFAULT_VERSION,
        )?;
        let greeting = async {
            let docker = docker.negotiate_version().await?;
            let (version, info) = (docker.version().await?, docker.info().await?);
            Ok::<_, ApiError>((docker, version, info))
        };
        let greeting = timeout(GREETING, greeting).await.map_err(|_| SessionError::Silent)?;
        let (docker, version, info) = greeting?;
        let version = version.version.unwrap_or_default();
        let swarm = info.swarm.and_then(|swarm| swarm.local_node_state);
        let has_swarm =
            swarm.is_some_and(|it| !matches!(it, LocalNodeState::EMPTY | LocalNodeState::INACTIVE));
        let conflicts = conflicts(settings, Some(&version), has_swarm).await;
        if !conflicts.is_empty() {
            let networks = docker.list_networks(Some(bridges())).await?;
            let bridges = networks.into_iter().filter_map(read::bridge_name).collect();
            publisher.state(State::LeftAlone { version, conflicts, bridges });
            return Ok(());
        }
        // Listening begins before anything is listed, so that nothing falls between.
        let (events, _pump) = listen(&docker);
        let mirror = Mirror::new(list(&docker).await?.into_iter());
        let mut session = Self { docker, version, settings, publisher, who, mirror };
        session.follow(events).await
    }

    async fn follow(
        &mut self,
        mut events: mpsc::UnboundedReceiver<Result<Event, ApiError>>,
    ) -> Result<(), SessionError> {
        let mut asked = FuturesUnordered::new();
        let mut again = interval(ASK_AGAIN_AFTER);
        again.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut look = interval(LOOK_AFTER);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let objects = self.mirror.ask();
            // A service manager would take a question for one to a Docker that it is to start.
            if !objects.is_empty() && !self.who.listens() {
                return Err(SessionError::Ending);
            }
            for object in objects {
                asked.push(ask(self.docker.clone(), object));
            }
            if self.mirror.knows_networks() {
                self.publisher.view(&self.version, self.settings, self.mirror.view().clone());
            }
            tokio::select! {
                event = events.recv() => {
                    let mut event = event;
                    while let Some(next) = event {
                        let next = next?;
                        if next == Event::Reloaded {
                            info!("dockerd has read its configuration again");
                            return Ok(());
                        }
                        self.mirror.happened(next);
                        event = events.try_recv().ok();
                    }
                    if events.is_closed() {
                        return Err(SessionError::EventsEnded);
                    }
                }
                Some(answer) = asked.next() => match answer {
                    Answer::Network(id, network) => self.mirror.network(&id, network),
                    Answer::Container(id, container) => {
                        self.mirror.container(&id, container.map(|it| *it));
                    }
                    Answer::Useless(object, error) => {
                        if self.mirror.failed(&object) {
                            let why = in_one_line(&error);
                            warn!(%object, why, "what dockerd says of it is of no use; it stays as it was");
                        }
                    }
                },
                _ = again.tick() => self.mirror.ask_again(),
                // It would wait for us.
                _ = look.tick() => if !self.who.listens() {
                    return Err(SessionError::Ending);
                },
            }
        }
    }
}

/// The networks and the containers, also those that may start.
async fn list(docker: &Docker) -> Result<Vec<Object>, ApiError> {
    let networks = docker.list_networks(Some(bridges())).await?;
    let networks = networks.into_iter().filter_map(|network| network.id).map(Object::Network);
    let all = ListContainersOptions { all: true, ..ListContainersOptions::default() };
    let containers = docker.list_containers(Some(all)).await?;
    let containers = containers.into_iter().filter_map(|it| it.id).map(Object::Container);
    Ok(networks.chain(containers).collect())
}

/// The networks that are asked for.
fn bridges() -> ListNetworksOptions {
    let driver = HashMap::from([("driver".to_owned(), vec![read::BRIDGE_DRIVER.to_owned()])]);
    ListNetworksOptions { filters: Some(driver) }
}

async fn ask(docker: Docker, object: Object) -> Answer {
    let answer = match &object {
        Object::Network(id) => {
            let network = ask_network(&docker, id).await;
            network.map(|network| Answer::Network(id.clone(), network))
        }
        Object::Container(id) => {
            let container = ask_container(&docker, id).await;
            container.map(|container| Answer::Container(id.clone(), container.map(Box::new)))
        }
    };
    answer.unwrap_or_else(|error| Answer::Useless(object, error))
}

async fn ask_network(
    docker: &Docker,
    id: &str,
) -> Result<Option<(Network, Attached)>, AnswerError> {
    match docker.inspect_network(id, None::<InspectNetworkOptions>).await {
        Ok(answer) => Ok(read::network(answer)?),
        Err(error) if is_not_found(&error) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

async fn ask_container(docker: &Docker, id: &str) -> Result<Option<Inspected>, AnswerError> {
    match docker.inspect_container(id, None::<InspectContainerOptions>).await {
        Ok(answer) => Ok(Some(read::container(answer)?)),
        Err(error) if is_not_found(&error) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn is_not_found(error: &ApiError) -> bool {
    matches!(error, ApiError::DockerResponseServerError { status_code: NOT_FOUND, .. })
}

/// The task that hears of events; it ends when this is dropped.
type Pump = JoinSet<()>;

/// Hears of events, those of the last moment too, in a task of its own: dockerd forgets all but the last few hundred.
fn listen(docker: &Docker) -> (mpsc::UnboundedReceiver<Result<Event, ApiError>>, Pump) {
    let kinds = ["container", "network", "daemon"].map(str::to_owned).to_vec();
    let begun = clock::unix_nanos();
    let options = EventsOptions {
        since: Some((clock::unix_secs() - 1).to_string()),
        until: None,
        filters: Some(HashMap::from([("type".to_owned(), kinds)])),
    };
    let (docker, (sender, receiver)) = (docker.clone(), mpsc::unbounded_channel());
    let mut pump = Pump::new();
    pump.spawn(async move {
        let mut events = Box::pin(docker.events(Some(options)));
        while let Some(event) = events.next().await {
            let is_over = event.is_err();
            let event = event.map(|message| read_event(message, begun)).transpose();
            if event.is_some_and(|event| sender.send(event).is_err()) || is_over {
                return;
            }
        }
    });
    (receiver, pump)
}

/// What an event means to a session that began then (units: nanoseconds since 1970); most mean nothing to packets.
fn read_event(message: EventMessage, begun: u128) -> Option<Event> {
    let nanos = message.time_nano.and_then(|nanos| u128::try_from(nanos).ok());
    let actor = message.actor?;
    let id = actor.id?;
    let action = message.action?;
    let container = actor.attributes.and_then(|mut it| it.remove("container"));
    match (message.typ?, action.as_str()) {
        (EventMessageTypeEnum::NETWORK, "create") => Some(Event::NetworkCreated { network: id }),
        (EventMessageTypeEnum::NETWORK, "destroy") => Some(Event::NetworkGone { network: id }),
        (EventMessageTypeEnum::NETWORK, "connect") => {
            Some(Event::Connected { network: id, container: container? })
        }
        (EventMessageTypeEnum::NETWORK, "disconnect") => {
            Some(Event::Disconnected { network: id, container: container? })
        }
        (EventMessageTypeEnum::CONTAINER, "create" | "start" | "restart" | "rename" | "update") => {
            Some(Event::ContainerChanged { container: id })
        }
        (EventMessageTypeEnum::CONTAINER, "die") => Some(Event::ContainerEnded { container: id }),
        (EventMessageTypeEnum::CONTAINER, "destroy") => {
            Some(Event::ContainerGone { container: id })
        }
        // One of before the session has led to it.
        (EventMessageTypeEnum::DAEMON, "reload") if nanos.is_none_or(|nanos| nanos > begun) => {
            Some(Event::Reloaded)
        }
        _ => None,
    }
}
