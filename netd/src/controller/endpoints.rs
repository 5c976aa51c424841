//! Requests about endpoints: a sandbox joins a network and leaves it.

use std::{net::IpAddr, slice};

use tracing::{info, warn};

use super::{Controller, RequestError, in_one_line, join::Joining, ports};
use crate::{
    api::{Connect, EndpointInfo, Item},
    desired::{ConnectError, SandboxView},
    model::{Endpoint, SandboxRef},
    netns::{Sandbox, SandboxError, link::SandboxLinkError},
    store::{Change, StoreError},
};

impl Controller {
    pub(super) async fn connect(&mut self, request: &Connect) -> Result<Vec<Item>, RequestError> {
        let network = self.desired.network(&request.network)?.name.clone();
        self.check_own_network(&network, "connect")?;
        let sandbox = Sandbox::open(&request.sandbox)?;
        let view = SandboxView {
            sandbox: sandbox_ref(&request.sandbox, &sandbox),
            link_names: sandbox.link_names()?.into_iter().collect(),
        };
        self.catch_up().await?;
        let host = self.host.view();
        let endpoint = self.desired.plan_endpoint(request, &view, &host, &mut self.ids);
        let endpoint = endpoint.map_err(|error| {
            if let ConnectError::Publish(error) = error {
                return ports::with_owner(error).into();
            }
            RequestError::from(error)
        })?;
        self.save(&[Change::PutEndpoint(&endpoint)])?;
        let joining = Joining { endpoint: &endpoint, sandbox: &sandbox };
        if let Err(error) = self.join_all(&[joining]).await {
            self.forget_endpoints(slice::from_ref(&endpoint)).await;
            return Err(error);
        }
        info!(endpoint = endpoint.name, network, "endpoint connected");
        Ok(vec![Item::Endpoint(self.endpoint_info(&endpoint)?)])
    }

    /// Undoes `join_all`, however far it came. The store comes last: what exists is always stored.
    pub(super) async fn forget_endpoints(&mut self, endpoints: &[Endpoint]) {
        let undone = match self.take_away(endpoints).await {
            Ok(()) => self.save_removed(endpoints).map_err(Into::into),
            Err(error) => Err(error),
        };
        if let Err(error) = undone {
            let names: Vec<&str> =
                endpoints.iter().map(|endpoint| endpoint.name.as_str()).collect();
            let endpoints = names.join(", ");
            warn!(endpoints, error = in_one_line(&error), "endpoints stay behind");
        }
    }

    fn save_removed(&mut self, endpoints: &[Endpoint]) -> Result<(), StoreError> {
        let removed = endpoints.iter().map(|endpoint| Change::RemoveEndpoint(&endpoint.name));
        self.save(&removed.collect::<Vec<_>>())
    }

    pub(super) async fn disconnect(
        &mut self,
        network: &str,
        text: &str,
        force: bool,
    ) -> Result<Vec<Item>, RequestError> {
        self.check_own_network(network, "disconnect")?;
        let sandbox = match Sandbox::open(text) {
            Ok(sandbox) => Some(sandbox),
            // A sandbox that is gone can still be disconnected, by the text it was connected with.
            Err(SandboxError::UnknownName { .. } | SandboxError::UnknownProcess { .. }) => None,
            Err(_) if force => None,
            Err(error) => return Err(error.into()),
        };
        let meant = sandbox.as_ref().map(|sandbox| sandbox_ref(text, sandbox));
        let endpoint = self.desired.find_attachment(network, text, meant.as_ref())?.clone();
        self.remove_endpoints(slice::from_ref(&endpoint)).await?;
        Ok(vec![Item::Name(endpoint.name)])
    }

    /// Removes endpoints from host and store.
    pub(super) async fn remove_endpoints(
        &mut self,
        endpoints: &[Endpoint],
    ) -> Result<(), RequestError> {
        if let Err(error) = self.take_away(endpoints).await {
            endpoints.iter().for_each(|endpoint| self.desired.insert_endpoint(endpoint.clone()));
            self.program()?;
            return Err(error);
        }
        self.save_removed(endpoints)?;
        for endpoint in endpoints {
            info!(endpoint = endpoint.name, network = endpoint.network, "endpoint disconnected");
        }
        Ok(())
    }

    pub(super) fn endpoints(&self) -> Result<Vec<Item>, RequestError> {
        let endpoints = self.desired.endpoints.values();
        endpoints.map(|endpoint| Ok(Item::Endpoint(self.endpoint_info(endpoint)?))).collect()
    }

    pub(super) fn inspect_endpoints(&self, names: &[String]) -> Result<Vec<Item>, RequestError> {
        let inspect = |name: &String| {
            let endpoint = self.desired.endpoint(name)?;
            Ok(Item::Endpoint(self.endpoint_info(endpoint)?))
        };
        names.iter().map(inspect).collect()
    }

    fn endpoint_info(&self, endpoint: &Endpoint) -> Result<EndpointInfo, RequestError> {
        let network = self.desired.network(&endpoint.network)?;
        Ok(EndpointInfo::new(endpoint, network, self.port_infos(endpoint)?))
    }
}

/// The sandbox that the endpoint was connected to, if it is still the same one.
pub(super) fn open_again(endpoint: &Endpoint) -> Option<Sandbox> {
    let sandbox = Sandbox::open(&endpoint.sandbox.text).ok()?;
    sandbox_ref(&endpoint.sandbox.text, &sandbox).is_same(&endpoint.sandbox).then_some(sandbox)
}

/// Names the sandbox that something failed in.
pub(super) fn in_sandbox(endpoint: &Endpoint) -> impl Fn(SandboxLinkError) -> RequestError {
    let sandbox = endpoint.sandbox.text.clone();
    move |source| RequestError::InSandbox { sandbox: sandbox.clone(), source }
}

/// How a sandbox is remembered.
pub(super) fn sandbox_ref(text: &str, sandbox: &Sandbox) -> SandboxRef {
    let id = sandbox.id();
    SandboxRef { text: text.to_owned(), dev: id.dev, ino: id.ino }
}

/// The gateways of an endpoint, IPv4 first.
pub(super) fn gateways(endpoint: &Endpoint) -> impl Iterator<Item = IpAddr> {
    endpoint.gateway.map(IpAddr::V4).into_iter().chain(endpoint.gateway6.map(IpAddr::V6))
}
