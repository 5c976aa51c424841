use std::collections::BTreeMap;

use super::{Attached, Event, Inspected, Mirror, Object, Planned};
use crate::{
    docker::view::{Attachment, Container, Network, Ports},
    model::Proto,
};

fn network() -> Network {
    Network {
        id: "n".to_owned(),
        name: "front".to_owned(),
        created: 0,
        is_default: false,
        internal: false,
        pools: Vec::new(),
        options: BTreeMap::new(),
        labels: BTreeMap::new(),
    }
}

fn container(name: &str, endpoint: &str, is_started: bool) -> Container {
    let attachment = Attachment {
        endpoint_id: endpoint.to_owned(),
        mac: "02:00:00:00:00:01".parse().unwrap(),
        ipv4: None,
        ipv6: None,
        gateway: None,
        gateway6: None,
        gw_priority: 0,
        aliases: Vec::new(),
    };
    Container {
        name: name.to_owned(),
        is_started,
        sandbox: None,
        attachments: BTreeMap::from([("n".to_owned(), attachment)]),
        ports: is_started.then(Ports::default),
        links: Vec::new(),
    }
}

/// What a container says that publishes TCP 80 at each start.
fn inspected(running: Option<Container>) -> Inspected {
    let opened = vec![(Proto::Tcp, 80)];
    let ports = Ports { opened, ..Ports::default() };
    Inspected { running, planned: Planned { ports, links: Vec::new() } }
}

fn running() -> Inspected {
    inspected(Some(container("web", "e", true)))
}

fn attached(endpoint: &str) -> Attached {
    Attached::from([("c".to_owned(), container("web", endpoint, false))])
}

fn connected() -> Event {
    Event::Connected { network: "n".to_owned(), container: "c".to_owned() }
}

fn network_object() -> Object {
    Object::Network("n".to_owned())
}

fn container_object() -> Object {
    Object::Container("c".to_owned())
}

/// A mirror that knows the network, and a container on it.
fn mirror(is_started: bool) -> Mirror {
    let mut mirror = Mirror::new([network_object()].into_iter());
    assert_eq!(mirror.ask(), [network_object()]);
    assert!(!mirror.knows_networks());
    mirror.network("n", Some((network(), attached("e"))));
    assert!(mirror.knows_networks());
    if is_started {
        mirror.happened(Event::ContainerChanged { container: "c".to_owned() });
        assert_eq!(mirror.ask(), [container_object()]);
        mirror.container("c", Some(running()));
    }
    mirror
}

#[test]
fn a_container_that_starts_is_known_by_its_network_and_then_by_itself() {
    let mut mirror = mirror(false);
    assert!(mirror.view().containers["c"].ports.is_none());
    mirror.happened(connected());
    // It would not answer before it has started.
    assert_eq!(mirror.ask(), [network_object()]);
    mirror.happened(Event::ContainerChanged { container: "c".to_owned() });
    assert_eq!(mirror.ask(), [container_object()]);
    mirror.container("c", Some(running()));
    // What its network says is no news then.
    mirror.network("n", Some((network(), attached("e"))));
    assert!(mirror.view().containers["c"].ports.is_some());
}

#[test]
fn what_a_container_was_made_with_is_published_before_it_says_so() {
    let mut mirror = Mirror::new([network_object()].into_iter());
    assert_eq!(mirror.ask(), [network_object()]);
    mirror.network("n", Some((network(), Attached::new())));
    mirror.happened(Event::ContainerChanged { container: "c".to_owned() });
    assert_eq!(mirror.ask(), [container_object()]);
    // It starts before it has answered.
    mirror.happened(connected());
    mirror.container("c", Some(inspected(None)));
    assert_eq!(mirror.ask(), [network_object()]);
    mirror.network("n", Some((network(), attached("e"))));
    let web = &mirror.view().containers["c"];
    assert_eq!((web.is_started, &web.ports), (false, &Some(inspected(None).planned.ports)));
    // As at each start, until it is gone.
    for event in [
        Event::ContainerEnded { container: "c".to_owned() },
        Event::ContainerGone { container: "c".to_owned() },
    ] {
        let is_known = matches!(event, Event::ContainerEnded { .. });
        mirror.happened(event);
        assert!(mirror.view().containers.is_empty());
        mirror.happened(connected());
        assert_eq!(mirror.ask(), [network_object()]);
        mirror.network("n", Some((network(), attached("e"))));
        assert_eq!(mirror.view().containers["c"].ports.is_some(), is_known);
    }
}

#[test]
fn what_has_been_overtaken_is_asked_for_again() {
    let mut mirror = mirror(true);
    mirror.happened(connected());
    assert_eq!(mirror.ask().len(), 2);
    mirror.happened(Event::Disconnected { network: "n".to_owned(), container: "c".to_owned() });
    mirror.network("n", Some((network(), attached("e"))));
    mirror.container("c", Some(running()));
    assert!(mirror.view().containers["c"].attachments.is_empty());
    assert_eq!(mirror.ask().len(), 2);
}

#[test]
fn a_container_that_has_ended_is_not_brought_back() {
    let mut mirror = mirror(true);
    mirror.happened(Event::ContainerChanged { container: "c".to_owned() });
    mirror.happened(connected());
    assert_eq!(mirror.ask().len(), 2);
    mirror.happened(Event::ContainerEnded { container: "c".to_owned() });
    mirror.container("c", Some(running()));
    mirror.network("n", Some((network(), attached("e"))));
    assert!(mirror.view().containers.is_empty());
    assert_eq!(mirror.ask(), [network_object()]);
}

#[test]
fn an_answer_of_no_use_changes_nothing() {
    let mut mirror = mirror(true);
    mirror.happened(Event::ContainerChanged { container: "c".to_owned() });
    let before = mirror.view().clone();
    assert_eq!(mirror.ask(), [container_object()]);
    assert!(mirror.failed(&container_object()));
    assert_eq!(mirror.view(), &before);
    assert_eq!(mirror.ask(), []);
    mirror.ask_again();
    assert_eq!(mirror.ask(), [container_object()]);
    assert!(!mirror.failed(&container_object()));
}

#[test]
fn a_network_of_which_nothing_is_known_keeps_nobody_waiting() {
    let mut mirror = Mirror::new([network_object()].into_iter());
    assert_eq!(mirror.ask(), [network_object()]);
    assert!(!mirror.knows_networks());
    mirror.failed(&network_object());
    assert!(mirror.knows_networks() && mirror.view().unknown.contains("n"));
    mirror.ask_again();
    assert_eq!(mirror.ask(), [network_object()]);
    mirror.network("n", Some((network(), attached("e"))));
    assert!(mirror.view().unknown.is_empty());
}

#[test]
fn what_is_gone_is_gone() {
    let mut mirror = mirror(false);
    mirror.happened(Event::Disconnected { network: "n".to_owned(), container: "c".to_owned() });
    assert!(mirror.view().containers.is_empty());
    mirror.happened(Event::NetworkGone { network: "n".to_owned() });
    assert!(mirror.view().networks.is_empty());
}
