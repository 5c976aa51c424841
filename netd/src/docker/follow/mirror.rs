//! What dockerd has answered so far, and what it is still to be asked for. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use crate::docker::{
    adopt::short,
    read::{Attached, Inspected, Planned},
    view::{Container, Network, View},
};

/// Something that dockerd can be asked for, by id.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Object {
    Network(String),
    Container(String),
}

/// By as much of its id as Docker shows.
impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network(id) => write!(f, "network {}", short(id)),
            Self::Container(id) => write!(f, "container {}", short(id)),
        }
    }
}

/// What has happened, in the words of Docker's events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Event {
    NetworkCreated {
        network: String,
    },
    NetworkGone {
        network: String,
    },
    Connected {
        network: String,
        container: String,
    },
    Disconnected {
        network: String,
        container: String,
    },
    /// It was made, runs, has another name, or the like.
    ContainerChanged {
        container: String,
    },
    ContainerEnded {
        container: String,
    },
    /// It will not start again.
    ContainerGone {
        container: String,
    },
    /// dockerd's own configuration.
    Reloaded,
}

/// The account of a dockerd.
#[derive(Debug, Default)]
pub(super) struct Mirror {
    view: View,
    /// What containers will publish when they start, by id.
    planned: BTreeMap<String, Planned>,
    /// What is to be asked for.
    stale: BTreeSet<Object>,
    /// What has been asked for, and whether something has happened to it since.
    asked: BTreeMap<Object, bool>,
    /// What dockerd has given no answer of use about.
    useless: BTreeSet<Object>,
}

impl Mirror {
    /// The account of what was listed: everything is still to be asked for.
    pub(super) fn new(objects: impl Iterator<Item = Object>) -> Self {
        Self { stale: objects.collect(), ..Self::default() }
    }

    pub(super) fn view(&self) -> &View {
        &self.view
    }

    /// Whether every network is known, as far as dockerd says anything of use: before, what is missing may well be
    /// there.
    pub(super) fn knows_networks(&self) -> bool {
        let is_awaited = |object: &Object| {
            matches!(object, Object::Network(_)) && !self.useless.contains(object)
        };
        !self.stale.iter().chain(self.asked.keys()).any(is_awaited)
    }

    /// What to ask for now; each once at a time.
    pub(super) fn ask(&mut self) -> Vec<Object> {
        let free = |object: &Object| !self.asked.contains_key(object);
        let objects: Vec<Object> = self.stale.iter().filter(|it| free(it)).cloned().collect();
        for object in &objects {
            self.stale.remove(object);
            self.asked.insert(object.clone(), false);
        }
        objects
    }

    /// Takes up an event.
    pub(super) fn happened(&mut self, event: Event) {
        match event {
            Event::NetworkCreated { network } => self.is_stale(Object::Network(network)),
            Event::NetworkGone { network } => {
                self.is_over(&Object::Network(network.clone()));
                self.view.networks.remove(&network);
                self.view.unknown.remove(&network);
            }
            Event::Connected { network, container } => {
                // One that starts answers no question about itself until it has.
                if self.view.containers.get(&container).is_some_and(|it| it.is_started) {
                    self.is_stale(Object::Container(container));
                } else {
                    self.overtake(&Object::Container(container));
                }
                self.is_stale(Object::Network(network));
            }
            Event::Disconnected { network, container } => {
                self.overtake(&Object::Network(network.clone()));
                self.disconnect(&network, &container);
            }
            Event::ContainerChanged { container } => {
                // It may have another name, by which others are linked to it.
                let linked: Vec<Object> = self.linked().collect();
                linked.into_iter().for_each(|it| self.is_stale(it));
                self.is_stale(Object::Container(container));
            }
            Event::ContainerEnded { container } => self.end(&container),
            Event::ContainerGone { container } => {
                self.end(&container);
                self.planned.remove(&container);
            }
            // The session begins again.
            Event::Reloaded => {}
        }
    }

    fn disconnect(&mut self, network: &str, id: &str) {
        let Some(container) = self.view.containers.get_mut(id) else { return };
        container.attachments.remove(network);
        let (is_alone, was_started) = (container.attachments.is_empty(), container.is_started);
        if is_alone && !was_started {
            self.view.containers.remove(id);
        } else if was_started {
            // What it publishes may be another network's part now.
            self.is_stale(Object::Container(id.to_owned()));
        }
    }

    fn end(&mut self, id: &str) {
        self.is_over(&Object::Container(id.to_owned()));
        self.view.containers.remove(id);
        // An account of a network may have it still.
        for network in self.asked.iter_mut().filter(|(it, _)| matches!(it, Object::Network(_))) {
            *network.1 = true;
        }
    }

    /// Takes up what dockerd says of a network; none where there is none, or it is no bridge.
    pub(super) fn network(&mut self, id: &str, answer: Option<(Network, Attached)>) {
        if !self.is_answered(&Object::Network(id.to_owned())) {
            return;
        }
        let Some((network, attached)) = answer else {
            self.view.networks.remove(id);
            return;
        };
        self.view.networks.insert(id.to_owned(), network);
        for (container, starting) in attached {
            let planned = self.planned.get(&container).cloned();
            let known = self.view.containers.entry(container).or_insert_with(|| Container {
                attachments: BTreeMap::new(),
                ports: planned.as_ref().map(|planned| planned.ports.clone()),
                links: planned.map(|planned| planned.links).unwrap_or_default(),
                ..starting.clone()
            });
            for (network, attachment) in starting.attachments {
                let is_known = known
                    .attachments
                    .get(&network)
                    .is_some_and(|known| known.endpoint_id == attachment.endpoint_id);
                // A container's own account says more.
                if !is_known {
                    known.attachments.insert(network, attachment);
                }
            }
        }
    }

    /// Takes up what dockerd says of a container; none where there is none.
    pub(super) fn container(&mut self, id: &str, answer: Option<Inspected>) {
        let is_answered = self.is_answered(&Object::Container(id.to_owned()));
        let Some(Inspected { running, planned }) = answer else {
            if is_answered {
                self.planned.remove(id);
                self.view.containers.remove(id);
            }
            return;
        };
        // It was made with them, whatever has become of it since.
        self.planned.insert(id.to_owned(), planned);
        if !is_answered {
            let starting = self.view.containers.get_mut(id).filter(|it| !it.is_started);
            if let (Some(starting), Some(planned)) = (starting, self.planned.get(id)) {
                starting.ports = Some(planned.ports.clone());
                starting.links.clone_from(&planned.links);
            }
            return;
        }
        match running {
            Some(container) => self.view.containers.insert(id.to_owned(), container),
            None => self.view.containers.remove(id),
        };
    }

    /// An answer that was of no use: what was known before stays, and the question. Says whether that is news.
    pub(super) fn failed(&mut self, object: &Object) -> bool {
        self.asked.remove(object);
        if let Object::Network(id) = object
            && !self.view.networks.contains_key(id)
        {
            self.view.unknown.insert(id.clone());
        }
        self.useless.insert(object.clone())
    }

    /// Puts questions again whose answers were of no use, and those about links: `docker rm --link` is no event.
    pub(super) fn ask_again(&mut self) {
        let again = self.useless.iter().cloned().chain(self.linked());
        let again: Vec<Object> = again.filter(|it| !self.asked.contains_key(it)).collect();
        self.stale.extend(again);
    }

    /// The containers that are linked to others.
    fn linked(&self) -> impl Iterator<Item = Object> {
        let containers = self.view.containers.iter();
        let linked = containers.filter(|(_, it)| it.is_started && !it.links.is_empty());
        linked.map(|(id, _)| Object::Container(id.clone()))
    }

    fn is_stale(&mut self, object: Object) {
        self.overtake(&object);
        self.stale.insert(object);
    }

    /// An answer that is under way is of before: it is asked for again.
    fn overtake(&mut self, object: &Object) {
        if let Some(is_overtaken) = self.asked.get_mut(object) {
            *is_overtaken = true;
        }
    }

    fn is_over(&mut self, object: &Object) {
        self.useless.remove(object);
        self.stale.remove(object);
        self.overtake(object);
    }

    /// Whether an answer holds. What has happened since is asked for again, unless it is over.
    fn is_answered(&mut self, object: &Object) -> bool {
        self.useless.remove(object);
        if let Object::Network(id) = object {
            self.view.unknown.remove(id);
        }
        let is_overtaken = self.asked.remove(object).unwrap_or(false);
        if is_overtaken && matches!(object, Object::Network(_)) {
            self.stale.insert(object.clone());
        }
        !is_overtaken
    }
}

#[cfg(test)]
mod tests;
