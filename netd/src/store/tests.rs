mod crash;

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    sync::atomic::{AtomicU32, Ordering},
};

use super::{Change, Store, StoreError};
use crate::{
    api::{Connect, NetworkCreate},
    desired::{Desired, HostView, SandboxView},
    ids::Counting,
    ipam::{Pools, ula_prefix},
    locks::LockError,
    model::{Endpoint, Network, SandboxRef},
    traces::Traces,
};

/// A directory that goes with the test.
struct StateDir(PathBuf);

impl StateDir {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("netd-store-{}-{number}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn open(&self) -> Result<Store, StoreError> {
        let mut traces = Traces::default();
        let opened = Store::open(&self.0.join("state"), &mut Counting::default(), &mut traces);
        traces.keep();
        opened
    }

    fn file(&self) -> PathBuf {
        self.0.join("state/netd.redb")
    }
}

impl Drop for StateDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn sample() -> (Network, Endpoint) {
    let (mut ids, host) =
        (Counting::default(), HostView { default_mtu: 1500, ..HostView::default() });
    let mut desired = Desired::default();
    let request =
        NetworkCreate { name: "front".to_owned(), ipv6: true, ..NetworkCreate::default() };
    let pools = Pools::new(&[], ula_prefix([1; 5]));
    let network = desired.plan_network(&request, &host, &pools, &mut ids).unwrap();
    desired.insert_network(network.clone());
    let sandbox = SandboxView {
        sandbox: SandboxRef { text: "web".to_owned(), dev: 4, ino: 7 },
        link_names: Default::default(),
    };
    let ports = vec!["[::1]:8080:80".parse().unwrap(), "%lo:53:53/udp".parse().unwrap()];
    let request = Connect {
        network: "front".to_owned(),
        sandbox: "web".to_owned(),
        ports,
        ..Connect::default()
    };
    let host = HostView { link_names: ["lo".to_owned()].into(), ..host };
    let endpoint = desired.plan_endpoint(&request, &sandbox, &host, &mut ids).unwrap();
    (network, endpoint)
}

#[test]
fn what_was_saved_is_loaded_again() {
    let dir = StateDir::new();
    let (network, endpoint) = sample();
    let mut store = dir.open().unwrap();
    let fresh = store.load().unwrap();
    assert_eq!(fresh.desired, Desired::default());
    store.save(&[Change::PutNetwork(&network), Change::PutEndpoint(&endpoint)]).unwrap();
    store.save(&[Change::Allow("back", "front"), Change::Allow("back", "other")]).unwrap();
    drop(store);

    let mut store = dir.open().unwrap();
    let stored = store.load().unwrap();
    assert_eq!(stored.desired.networks["front"], network);
    assert_eq!(stored.desired.endpoints["web"], endpoint);
    assert_eq!(stored.desired.allowed.len(), 2);
    assert_eq!(stored.ula_global_id, fresh.ula_global_id);
    assert_eq!(stored.datapath_secret, fresh.datapath_secret);
    assert_ne!(fresh.datapath_secret, [0, 0]);

    store.save(&[Change::RemoveEndpoint("web"), Change::RemoveNetwork("front")]).unwrap();
    store.save(&[Change::Disallow("back", "other")]).unwrap();
    assert_eq!(store.load().unwrap().desired, Desired::default());
}

#[test]
fn the_state_is_for_its_owner_only() {
    let dir = StateDir::new();
    let _store = dir.open().unwrap();
    let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(dir.0.join("state")), 0o700);
    assert_eq!(mode(dir.file()), 0o600);
}

#[test]
fn a_second_daemon_is_told_of_the_first() {
    let dir = StateDir::new();
    let _store = dir.open().unwrap();
    let error = dir.open().unwrap_err();
    assert!(matches!(error, StoreError::Lock(LockError::State { .. })), "{error}");
    assert!(error.to_string().starts_with("another netd uses the state directory"));
}

#[test]
fn a_newer_schema_is_refused_with_the_way_out_and_left_alone() {
    let dir = StateDir::new();
    let mut store = dir.open().unwrap();
    store
        .write(|transaction| {
            transaction.open_table(super::META)?.insert(super::SCHEMA_KEY, 2)?;
            Ok(())
        })
        .unwrap();
    // As a daemon leaves it that is killed, which would have to be repaired, and as one does that ends.
    let killed = fs::read(dir.file()).unwrap();
    drop(store);
    let ended = fs::read(dir.file()).unwrap();
    assert_ne!(killed, ended);
    for content in [killed, ended] {
        fs::write(dir.file(), &content).unwrap();
        for error in [dir.open().unwrap_err(), Store::read(&dir.0.join("state")).unwrap_err()] {
            assert!(matches!(error, StoreError::Schema { found: 2, .. }), "{error}");
            assert!(error.to_string().ends_with("use the netd that wrote it"), "{error}");
        }
        assert_eq!(fs::read(dir.file()).unwrap(), content);
    }
}

#[test]
fn what_a_daemon_left_is_read_without_a_change() {
    let dir = StateDir::new();
    let state = dir.0.join("state");
    assert!(matches!(Store::read(&state), Err(StoreError::Missing { .. })));
    assert!(!state.exists());
    let (network, endpoint) = sample();
    let mut store = dir.open().unwrap();
    store.save(&[Change::PutNetwork(&network), Change::PutEndpoint(&endpoint)]).unwrap();
    store.save(&[Change::SetUla([9; 5])]).unwrap();
    let expected = store.load().unwrap();
    assert_eq!(expected.ula_global_id, [9; 5]);
    let killed = fs::read(dir.file()).unwrap();
    drop(store);
    for content in [killed, fs::read(dir.file()).unwrap()] {
        fs::write(dir.file(), &content).unwrap();
        assert_eq!(Store::read(&state).unwrap(), expected);
        assert_eq!(fs::read(dir.file()).unwrap(), content);
    }
}

#[test]
fn half_of_a_new_store_is_made_anew() {
    let dir = StateDir::new();
    fs::create_dir(dir.0.join("state")).unwrap();
    let half = dir.0.join("state").join(super::NEW_FILE_NAME);
    fs::write(&half, vec![0; 8192]).unwrap();
    assert_eq!(dir.open().unwrap().load().unwrap().desired, Desired::default());
    assert!(!half.exists());
}

#[test]
fn an_endpoint_without_its_network_is_corruption() {
    let dir = StateDir::new();
    let mut store = dir.open().unwrap();
    store.save(&[Change::PutEndpoint(&sample().1)]).unwrap();
    let error = store.load().unwrap_err();
    assert!(
        error.to_string().contains("endpoint web is on network front, which is missing"),
        "{error}"
    );
}

#[test]
fn a_value_that_cannot_be_decoded_is_corruption() {
    let dir = StateDir::new();
    let mut store = dir.open().unwrap();
    store
        .write(|transaction| {
            transaction.open_table(super::NETWORKS)?.insert("front", b"{}".as_slice())?;
            Ok(())
        })
        .unwrap();
    let error = store.load().unwrap_err();
    assert!(error.to_string().contains("network front cannot be decoded"), "{error}");
}

#[test]
fn a_foreign_file_is_never_overwritten() {
    for content in [b"not a database".to_vec(), vec![0; 4096], vec![0xff; 100_000]] {
        let dir = StateDir::new();
        fs::create_dir(dir.0.join("state")).unwrap();
        fs::write(dir.file(), &content).unwrap();
        let error = dir.open().unwrap_err();
        assert!(matches!(error, StoreError::Corrupt { .. }), "{error}");
        assert_eq!(fs::read(dir.file()).unwrap(), content);
    }
}

#[test]
fn damage_is_an_error_and_never_a_panic() {
    let dir = StateDir::new();
    let (network, endpoint) = sample();
    let mut store = dir.open().unwrap();
    store.save(&[Change::PutNetwork(&network), Change::PutEndpoint(&endpoint)]).unwrap();
    drop(store);
    let sound = fs::read(dir.file()).unwrap();
    let expected = Desired::new(
        [("front".to_owned(), network)].into(),
        [("web".to_owned(), endpoint)].into(),
        Default::default(),
    );
    let mut damaged = 0;
    for offset in (0..sound.len()).step_by(1_021) {
        let mut content = sound.clone();
        content[offset] ^= 0x5a;
        fs::write(dir.file(), &content).unwrap();
        match dir.open().and_then(|mut store| store.load()) {
            Ok(stored) => assert!(
                stored.desired == expected || stored.desired == Desired::default(),
                "{offset}"
            ),
            Err(_) => damaged += 1,
        }
    }
    fs::write(dir.file(), &sound[..sound.len() / 2]).unwrap();
    assert!(dir.open().and_then(|mut store| store.load()).is_err());
    assert!(damaged > 0);
}
