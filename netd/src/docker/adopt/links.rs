//! Links between containers: what one exposes, the other may ask for although the network has no ICC (row I3).
//!
//! They are docker0's alone; on other networks they are names, which are Docker's own business.

use super::Adopting;
use crate::{
    docker::view::{Attachment, Container},
    model::Link,
};

impl<'a> Adopting<'a> {
    pub(super) fn links(&mut self) {
        let networks = self.view.networks.values().filter(|network| network.is_default);
        let names: Vec<&String> = networks.map(|network| &network.id).collect();
        for id in names {
            let closed = self.names.get(id.as_str()).and_then(|it| self.adopted.networks.get(it));
            if closed.is_some_and(|network| !network.icc) {
                self.links_of(id);
            }
        }
    }

    fn links_of(&mut self, network: &str) {
        for container in self.view.containers.values().filter(|it| !it.links.is_empty()) {
            let Some(own) = self.endpoint_on(container, network) else { continue };
            let linked =
                self.view.containers.values().filter(|it| container.links.contains(&it.name));
            let links = linked.filter_map(|other| {
                let endpoint = self.endpoint_on(other, network)?;
                let exposed =
                    other.ports.as_ref().map(|ports| &ports.exposed).into_iter().flatten();
                let link = |&(proto, port)| Link { endpoint: endpoint.clone(), proto, port };
                Some(exposed.map(link).collect::<Vec<_>>())
            });
            let (own, links) = (own.clone(), links.flatten().collect());
            if let Some(endpoint) = self.adopted.endpoints.get_mut(&own) {
                endpoint.links = links;
            }
        }
    }

    fn endpoint_on(&self, container: &'a Container, network: &str) -> Option<&String> {
        let attachment: &Attachment = container.attachments.get(network)?;
        self.endpoints.get(attachment.endpoint_id.as_str())
    }
}
