//! Targets for a fuzzer: every text and JSON that the daemon reads from somebody else. Whatever it is, there
//! is an answer, and what was understood is written as it is read again.

use std::{collections::BTreeMap, fmt::Debug, path::Path};

use netd::{
    api::{Envelope, PROTOCOL_VERSION},
    backup::Backup,
    config::Config,
    desired::HostView,
    driver_options::DriverOptions,
    ids::IdSource,
    ipam,
    model::{Endpoint, MacAddr, Network},
    port_spec::{PortRange, PortSpec},
    server,
};
use serde_json::from_slice;

/// The name of its corpus, and what it does with an input.
pub(crate) type Target = (&'static str, fn(&[u8]));

pub(crate) const TARGETS: [Target; 6] = [
    ("port_spec", port_spec),
    ("config", config),
    ("request", request),
    ("options", options),
    ("state", state),
    ("backup", backup),
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

/// A document for `netd state import`, on a host that has a little of everything.
fn backup(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let backup = match Backup::parse(text) {
        Ok(backup) => backup,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    let written = backup.to_text().expect("JSON");
    assert_eq!(Backup::parse(&written).ok().as_ref(), Some(&backup));
    let net = |text: &str| text.parse().expect("a prefix");
    let host = HostView {
        addresses: vec![net("192.0.2.1/24"), net("2001:db8:1::1/64")],
        routes: vec![net("0.0.0.0/0"), net("10.9.0.0/16")],
        link_names: ["lo", "eth0", "up0"].map(str::to_owned).into(),
        ..HostView::default()
    };
    match backup.check(&host, &mut Counter(0)) {
        Err(error) => assert!(!error.to_string().is_empty()),
        // What can exist can be written and brought about again.
        Ok((desired, ula_global_id)) => {
            let again = Backup::new(&desired, ipam::ula_prefix(ula_global_id));
            let (checked, id) = again.check(&host, &mut Counter(0)).expect("the same again");
            assert_eq!(
                (checked.networks, checked.endpoints),
                (desired.networks, desired.endpoints)
            );
            assert_eq!((checked.allowed, id), (desired.allowed, ula_global_id));
        }
    }
}

/// Bytes that differ from one call to the next, and are the same in each run.
struct Counter(u64);

impl IdSource for Counter {
    fn fill(&mut self, bytes: &mut [u8]) {
        self.0 += 1;
        bytes.iter_mut().zip(self.0.to_le_bytes().iter().cycle()).for_each(|(b, it)| *b = *it);
    }
}
