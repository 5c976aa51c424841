//! Whether what a document holds can exist, together and on this host.
//!
//! Networks and endpoints are planned once more, in the order of the document, by the code that plans requests:
//! what a request may not ask for, no document may hold. What planning picks is taken from the document (ids,
//! numbers, slots, devices of the host) and checked here.

use std::collections::BTreeSet;

use ipnet::Ipv6Net;
use serde::Serialize;
use thiserror::Error;

use super::{Backup, request};
use crate::{
    desired::{
        AllowError, ConnectError, Desired, HostView, MAX_NETWORK_NUMBER, MAX_SLOT, NetworkError,
        SandboxView,
    },
    ids::IdSource,
    ipam::{self, Pools},
    model::{Endpoint, Network, is_ifname},
    port_spec::PortSpecError,
};

/// Why what a document holds cannot exist.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CheckError {
    #[error("ula_prefix {prefix} is no prefix of a host's own: it begins with fd and is a /48")]
    UlaPrefix { prefix: Ipv6Net },
    #[error(transparent)]
    Network(#[from] NetworkError),
    #[error("endpoint {endpoint}: {source}")]
    Endpoint { endpoint: String, source: ConnectError },
    #[error("endpoint {endpoint}: {source}")]
    Port { endpoint: String, source: PortSpecError },
    #[error(
        "endpoint {endpoint} is on network {network}, which the document does not have: add it, or take the \
         endpoint out"
    )]
    NoNetwork { endpoint: String, network: String },
    #[error("networks {a} and {b} cannot be allowed: {source}")]
    Allow { a: String, b: String, source: AllowError },
    #[error("{object}: {field} contradicts what else is said of it: make one of them fit")]
    Contradiction { object: String, field: String },
    #[error("{object}: the id {id:?} is not 64 hexadecimal digits")]
    Id { object: String, id: String },
    #[error("{object}: {field} {number} is not one from 1 to {max}")]
    Range { object: String, field: &'static str, number: u32, max: u32 },
    #[error("{object}: {field} {value} is given twice: each has its own")]
    Twice { object: String, field: &'static str, value: String },
    #[error("{object}: {ifname:?} cannot name a device: use at most 15 letters and digits")]
    DeviceName { object: String, ifname: String },
    #[error(
        "{object}: this host has a device {ifname} already: give the document another name, or remove the device \
         if nobody needs it"
    )]
    DeviceExists { object: String, ifname: String },
}

impl Backup {
    /// Checks the whole document against itself and a host on which nothing of netd's exists; the answer is what
    /// is to exist.
    ///
    /// # Errors
    /// Where a part of it cannot exist.
    pub fn check(
        &self,
        host: &HostView,
        ids: &mut dyn IdSource,
    ) -> Result<(Desired, [u8; 5]), CheckError> {
        let prefix = self.ula_prefix;
        let id = ipam::ula_global_id(prefix).ok_or(CheckError::UlaPrefix { prefix })?;
        let pools = Pools::new(&[], prefix);
        let mut checked = Checked {
            host,
            made: host.clone(),
            pools,
            ids,
            desired: Desired::default(),
            taken: Taken::default(),
        };
        self.networks.iter().try_for_each(|network| checked.network(network))?;
        self.endpoints.iter().try_for_each(|endpoint| checked.endpoint(endpoint))?;
        self.allowed.iter().try_for_each(|(a, b)| checked.allowance(a, b))?;
        Ok((checked.desired, id))
    }
}

/// What has been checked of a document.
struct Checked<'a> {
    host: &'a HostView,
    /// The host with the bridges of the document, where ports may be published.
    made: HostView,
    pools: Pools,
    ids: &'a mut dyn IdSource,
    desired: Desired,
    taken: Taken,
}

/// What only one may have.
#[derive(Default)]
struct Taken {
    ids: BTreeSet<String>,
    numbers: BTreeSet<u32>,
    slots: BTreeSet<u32>,
    devices: BTreeSet<String>,
}

impl Checked<'_> {
    fn network(&mut self, network: &Network) -> Result<(), CheckError> {
        let object = format!("network {}", network.name);
        self.device(&object, &network.bridge)?;
        self.taken.id(&object, &network.id)?;
        let number = u32::from(network.number);
        take(&mut self.taken.numbers, &object, "number", number, MAX_NETWORK_NUMBER.into())?;
        let request = request::create(network);
        let mut planned = self.desired.plan_network(&request, self.host, &self.pools, self.ids)?;
        planned.id.clone_from(&network.id);
        (planned.number, planned.created) = (network.number, network.created);
        for (subnet, given) in planned.subnets.iter_mut().zip(&network.subnets) {
            subnet.user_configured = given.user_configured;
        }
        agree(object, &planned, network)?;
        self.made.add_bridge(&planned);
        self.desired.insert_network(planned);
        Ok(())
    }

    fn endpoint(&mut self, endpoint: &Endpoint) -> Result<(), CheckError> {
        let name = || endpoint.name.clone();
        let object = format!("endpoint {}", endpoint.name);
        if !self.desired.networks.contains_key(&endpoint.network) {
            let network = endpoint.network.clone();
            return Err(CheckError::NoNetwork { endpoint: name(), network });
        }
        self.device(&object, &endpoint.host_ifname)?;
        self.taken.id(&object, &endpoint.id)?;
        let slots = endpoint.ports.iter().map(|port| port.slot);
        for slot in [endpoint.slot].into_iter().chain(slots) {
            take(&mut self.taken.slots, &object, "slot", slot, MAX_SLOT)?;
        }
        let request = request::connect(endpoint)
            .map_err(|source| CheckError::Port { endpoint: name(), source })?;
        let sandbox = self.sandbox_of(endpoint);
        let planned = self.desired.plan_endpoint(&request, &sandbox, &self.made, self.ids);
        let mut planned =
            planned.map_err(|source| CheckError::Endpoint { endpoint: name(), source })?;
        planned.id.clone_from(&endpoint.id);
        planned.host_ifname.clone_from(&endpoint.host_ifname);
        planned.slot = endpoint.slot;
        for (port, given) in planned.ports.iter_mut().zip(&endpoint.ports) {
            port.slot = given.slot;
        }
        agree(object, &planned, endpoint)?;
        self.desired.insert_endpoint(planned);
        Ok(())
    }

    /// The sandbox as the document shows it: with the devices that its other endpoints have there.
    fn sandbox_of(&self, endpoint: &Endpoint) -> SandboxView {
        let others = self.desired.endpoints.values();
        let others = others.filter(|other| other.sandbox.is_same(&endpoint.sandbox));
        SandboxView {
            sandbox: endpoint.sandbox.clone(),
            link_names: others.map(|other| other.ifname.clone()).collect(),
        }
    }

    fn allowance(&mut self, a: &str, b: &str) -> Result<(), CheckError> {
        let error = |source| CheckError::Allow { a: a.to_owned(), b: b.to_owned(), source };
        let pair = self.desired.plan_allow(a, b).map_err(error)?;
        self.desired.allowed.insert(pair);
        Ok(())
    }

    /// Checks a device that is to be made on the host.
    fn device(&mut self, object: &str, ifname: &str) -> Result<(), CheckError> {
        let (object, name) = (object.to_owned(), ifname.to_owned());
        if !is_ifname(ifname) {
            Err(CheckError::DeviceName { object, ifname: name })
        } else if self.host.link_names.contains(ifname) {
            Err(CheckError::DeviceExists { object, ifname: name })
        } else if !self.taken.devices.insert(name.clone()) {
            Err(CheckError::Twice { object, field: "the device", value: name })
        } else {
            Ok(())
        }
    }
}

impl Taken {
    fn id(&mut self, object: &str, id: &str) -> Result<(), CheckError> {
        let (object, value) = (object.to_owned(), id.to_owned());
        let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if id.len() != 64 || !id.bytes().all(is_digit) {
            Err(CheckError::Id { object, id: value })
        } else if !self.ids.insert(value.clone()) {
            Err(CheckError::Twice { object, field: "id", value })
        } else {
            Ok(())
        }
    }
}

/// Takes a number that only one may have, from 1 to `max`.
fn take(
    taken: &mut BTreeSet<u32>,
    object: &str,
    field: &'static str,
    number: u32,
    max: u32,
) -> Result<(), CheckError> {
    let object = object.to_owned();
    if !(1..=max).contains(&number) {
        Err(CheckError::Range { object, field, number, max })
    } else if !taken.insert(number) {
        Err(CheckError::Twice { object, field, value: number.to_string() })
    } else {
        Ok(())
    }
}

/// Checks that what was planned is what the document says, and names the first field that is not.
fn agree<T: PartialEq + Serialize>(
    object: String,
    planned: &T,
    given: &T,
) -> Result<(), CheckError> {
    if planned == given {
        return Ok(());
    }
    let fields = |value: &T| match serde_json::to_value(value) {
        Ok(serde_json::Value::Object(fields)) => fields,
        Ok(_) | Err(_) => serde_json::Map::new(),
    };
    let planned = fields(planned);
    let differing = fields(given).into_iter().find(|(key, value)| planned.get(key) != Some(value));
    let field = differing.map(|(key, _)| key).unwrap_or_default();
    Err(CheckError::Contradiction { object, field })
}
