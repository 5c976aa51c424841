//! The whole desired state, written as a document and brought about from one.

use std::collections::BTreeSet;

use thiserror::Error;
use tracing::{info, warn};

use super::{
    Controller, RequestError,
    endpoints::{in_sandbox, sandbox_ref},
    in_one_line,
    join::Joining,
    networks,
};
use crate::{
    api::{ImportInfo, Item, LeftOut, StateText},
    backup::{Backup, CheckError},
    desired::Desired,
    ipam,
    model::{Endpoint, Network},
    netns::{Sandbox, SandboxError},
    store::Change,
};

/// Why a document is not brought about.
#[derive(Debug, Error)]
pub(crate) enum ImportError {
    #[error(
        "netd has networks already: {}; a state is imported where there are none: see `netd network prune`",
        .names.join(", ")
    )]
    NotEmpty { names: Vec<String> },
    #[error(transparent)]
    Check(#[from] CheckError),
    #[error(
        "endpoint {endpoint}: sandbox {sandbox} already has a device {ifname}: remove it, or give the endpoint \
         another ifname"
    )]
    IfnameTaken { endpoint: String, sandbox: String, ifname: String },
    #[error(
        "endpoints {first} and {second} attach the same sandbox to network {network}: take one of them out"
    )]
    SameSandbox { first: String, second: String, network: String },
}

/// An endpoint's sandbox cannot be used.
#[derive(Debug, Error)]
enum Absent {
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    /// The kernel gives the numbers of processes out again.
    #[error("{text} is in another network namespace than it was")]
    OtherProcess { text: String },
}

/// What a document brings about on this host.
struct Import {
    networks: Vec<Network>,
    endpoints: Vec<(Endpoint, Sandbox)>,
    allowed: BTreeSet<(String, String)>,
    ula_global_id: [u8; 5],
    left_out: Vec<LeftOut>,
}

impl Controller {
    pub(super) fn export_state(&self) -> Result<Vec<Item>, RequestError> {
        let text = Backup::new(&self.desired, self.ula).to_text()?;
        Ok(vec![Item::State(StateText { text })])
    }

    /// Brings a document about, all of it or nothing; endpoints whose sandboxes are not there are left out.
    pub(super) async fn import_state(&mut self, text: &str) -> Result<Vec<Item>, RequestError> {
        if !self.desired.networks.is_empty() {
            let names = self.desired.networks.keys().cloned().collect();
            return Err(ImportError::NotEmpty { names }.into());
        }
        let backup = Backup::parse(text)?;
        self.read_firewall().await;
        self.catch_up().await?;
        let (desired, ula_global_id) =
            backup.check(&self.host.view(), &mut self.ids).map_err(ImportError::from)?;
        let import = find_sandboxes(desired, ula_global_id)?;
        self.save(&import.changes())?;
        let ula = std::mem::replace(&mut self.ula, ipam::ula_prefix(ula_global_id));
        if let Err(error) = self.enter_import(&import).await {
            self.ula = ula;
            self.forget_import(&import).await;
            return Err(error);
        }
        let info = import.info();
        let (networks, endpoints) = (info.networks.len(), info.endpoints.len());
        info!(networks, endpoints, left_out = info.left_out.len(), "state imported");
        Ok(vec![Item::Imported(info)])
    }

    /// Makes what is stored.
    async fn enter_import(&mut self, import: &Import) -> Result<(), RequestError> {
        for network in &import.networks {
            self.netlink.create_bridge(&networks::bridge_spec(network)).await?;
            self.desired.insert_network(network.clone());
        }
        self.desired.allowed.clone_from(&import.allowed);
        self.keep_sysctls();
        self.refresh().await?;
        let endpoints = import.endpoints.iter();
        let joining = endpoints.map(|(endpoint, sandbox)| Joining { endpoint, sandbox });
        self.join_all(&joining.collect::<Vec<_>>()).await
    }

    /// Undoes `enter_import`, however far it came.
    async fn forget_import(&mut self, import: &Import) {
        let endpoints = import.endpoints.iter().map(|(endpoint, _)| endpoint.clone());
        self.forget_endpoints(&endpoints.collect::<Vec<_>>()).await;
        for network in &import.networks {
            self.forget_network(network).await;
        }
        let id = ipam::ula_global_id(self.ula).unwrap_or_default();
        let saved = self.save(&[Change::SetUla(id)]).map_err(RequestError::from);
        if let Err(error) = saved.and(self.refresh().await) {
            warn!(error = in_one_line(&error), "an import could not be undone");
        }
    }
}

impl Import {
    fn changes(&self) -> Vec<Change<'_>> {
        let networks = self.networks.iter().map(Change::PutNetwork);
        let endpoints = self.endpoints.iter().map(|(endpoint, _)| Change::PutEndpoint(endpoint));
        let allowed = self.allowed.iter().map(|(a, b)| Change::Allow(a, b));
        let ula = [Change::SetUla(self.ula_global_id)];
        networks.chain(endpoints).chain(allowed).chain(ula).collect()
    }

    fn info(self) -> ImportInfo {
        ImportInfo {
            networks: self.networks.into_iter().map(|network| network.name).collect(),
            endpoints: self.endpoints.into_iter().map(|(endpoint, _)| endpoint.name).collect(),
            left_out: self.left_out,
        }
    }
}

/// Looks for the sandboxes that a document names, as they are on this host.
fn find_sandboxes(desired: Desired, ula_global_id: [u8; 5]) -> Result<Import, RequestError> {
    let mut import = Import {
        networks: desired.networks.into_values().collect(),
        endpoints: Vec::new(),
        allowed: desired.allowed,
        ula_global_id,
        left_out: Vec::new(),
    };
    for endpoint in desired.endpoints.into_values() {
        match find_sandbox(&endpoint) {
            Ok(sandbox) => {
                let found = sandbox_ref(&endpoint.sandbox.text, &sandbox);
                let endpoint = Endpoint { sandbox: found, ..endpoint };
                check_sandbox(&endpoint, &sandbox, &import.endpoints)?;
                import.endpoints.push((endpoint, sandbox));
            }
            Err(absent) => {
                let reason = in_one_line(&absent);
                import.left_out.push(LeftOut { endpoint: endpoint.name, reason });
            }
        }
    }
    Ok(import)
}

/// The sandbox that has the name. Another one than before is meant just as well, after a reboot or on another
/// host; but a process that has the number is not.
fn find_sandbox(endpoint: &Endpoint) -> Result<Sandbox, Absent> {
    let text = &endpoint.sandbox.text;
    let sandbox = Sandbox::open(text)?;
    let is_process = text.starts_with("pid:") || text.starts_with("/proc/");
    if is_process && !sandbox_ref(text, &sandbox).is_same(&endpoint.sandbox) {
        return Err(Absent::OtherProcess { text: text.clone() });
    }
    Ok(sandbox)
}

/// Checks that an endpoint fits into a sandbox, beside what is there and will be there.
fn check_sandbox(
    endpoint: &Endpoint,
    sandbox: &Sandbox,
    others: &[(Endpoint, Sandbox)],
) -> Result<(), RequestError> {
    let links = sandbox.link_names().map_err(in_sandbox(endpoint))?;
    let mut beside =
        others.iter().map(|(other, _)| other).filter(|o| o.sandbox.is_same(&endpoint.sandbox));
    if let Some(other) = beside.clone().find(|other| other.network == endpoint.network) {
        let (first, second) = (other.name.clone(), endpoint.name.clone());
        let network = endpoint.network.clone();
        return Err(ImportError::SameSandbox { first, second, network }.into());
    }
    if links.contains(&endpoint.ifname) || beside.any(|other| other.ifname == endpoint.ifname) {
        let (ifname, sandbox) = (endpoint.ifname.clone(), endpoint.sandbox.text.clone());
        return Err(
            ImportError::IfnameTaken { endpoint: endpoint.name.clone(), sandbox, ifname }.into()
        );
    }
    Ok(())
}
