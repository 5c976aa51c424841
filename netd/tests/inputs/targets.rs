//! Targets for a fuzzer: every text and JSON that the daemon reads from somebody else. Whatever it is, there
//! is an answer, and what was understood is written as it is read again.

use std::{collections::BTreeMap, fmt::Debug, path::Path};

use netd::{
    api::{Envelope, PROTOCOL_VERSION},
    config::Config,
    driver_options::DriverOptions,
    model::{Endpoint, MacAddr, Network},
    port_spec::{PortRange, PortSpec},
    server,
};
use serde_json::from_slice;

/// The name of its corpus, and what it does with an input.
pub(crate) type Target = (&'static str, fn(&[u8]));

pub(crate) const TARGETS: [Target; 5] = [
    ("port_spec", port_spec),
    ("config", config),
    ("request", request),
    ("options", options),
    ("state", state),
];

/// `netd port add NAME SPEC`.
fn port_spec(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    match text.parse::<PortSpec>() {
        Ok(spec) => assert_eq!(spec.to_string().parse(), Ok(spec)),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    if let Ok(range) = text.parse::<PortRange>() {
        assert!(range.first() != 0 && range.first() <= range.last());
    }
    if let Ok(mac) = text.parse::<MacAddr>() {
        assert_eq!(mac.to_string().parse().ok(), Some(mac));
    }
}

/// `netd.toml`.
fn config(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    match Config::parse(text, Path::new("netd.toml")) {
        Ok(config) => assert_eq!(Config::parse(text, Path::new("netd.toml")).ok(), Some(config)),
        // One line, which names the file and a line of it.
        Err(error) => {
            let (error, lines) = (error.to_string(), text.lines().count().max(1));
            let line = error.strip_prefix("netd.toml, line ").and_then(|rest| rest.split_once(':'));
            let line: usize = line.and_then(|(line, _)| line.parse().ok()).expect("a line");
            assert!((1..=lines + 1).contains(&line), "{error}");
        }
    }
}

/// A line on the daemon's socket.
fn request(data: &[u8]) {
    if let Ok(request) = server::decode(data) {
        let envelope = Envelope { protocol: PROTOCOL_VERSION, request };
        let line = serde_json::to_vec(&envelope).expect("JSON");
        assert!(!line.contains(&b'\n'), "a request is a line");
        assert_eq!(server::decode(&line).as_ref(), Ok(&envelope.request));
    }
}

/// `netd network create -o KEY=VALUE`, one a line.
fn options(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let pair = |line: &str| {
        let (key, value) = line.split_once('=').unwrap_or((line, ""));
        (key.to_owned(), value.to_owned())
    };
    let options: BTreeMap<String, String> = text.lines().map(pair).collect();
    match DriverOptions::parse(&options) {
        Ok(parsed) => assert!(parsed.trusted_interfaces.iter().all(|name| !name.is_empty())),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// Values of the store, a network or an endpoint a line.
fn state(data: &[u8]) {
    for line in data.split(|byte| *byte == b'\n') {
        if let Ok(network) = from_slice::<Network>(line) {
            is_read_again(&network);
        }
        if let Ok(endpoint) = from_slice::<Endpoint>(line) {
            is_read_again(&endpoint);
        }
    }
}

fn is_read_again<T: serde::Serialize + serde::de::DeserializeOwned + PartialEq + Debug>(value: &T) {
    let text = serde_json::to_vec(value).expect("JSON");
    assert_eq!(from_slice::<T>(&text).ok().as_ref(), Some(value));
}
