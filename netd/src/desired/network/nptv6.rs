//! Whether a network's prefix can be translated to another (RFC 6296).

use ipnet::{IpNet, Ipv6Net};
use netd_common::nptv6::MAX_PREFIX_BITS;

use super::{NetworkError, OverlapOwner, subnets::NetworkPlan};
use crate::{
    ipam,
    model::{Family, GatewayMode, Subnet},
};

impl NetworkPlan<'_> {
    /// Checks what `--nptv6` asks for.
    ///
    /// # Errors
    /// Where it contradicts the network, or another has the prefix.
    pub(super) fn check_nptv6(&self, subnets: &[Subnet]) -> Result<(), NetworkError> {
        let Some(prefix) = self.request.nptv6 else {
            return Ok(());
        };
        let name = || self.request.name.clone();
        let refuse = |reason| Err(NetworkError::Nptv6 { name: name(), prefix, reason });
        let Some(subnet) = subnets.iter().find(|subnet| subnet.family() == Family::Ipv6) else {
            return refuse("the network has no IPv6 subnet");
        };
        if self.request.internal {
            return refuse("nothing leaves an internal network");
        }
        if subnet.gateway_mode != GatewayMode::Nat {
            return refuse("the gateway mode of IPv6 is not nat");
        }
        if self.request.snat_addresses.iter().any(|address| address.is_ipv6()) {
            return refuse("there is an IPv6 --snat-address as well");
        }
        if prefix != prefix.trunc() {
            return refuse("it has host bits");
        }
        if !ipam::is_unicast(&IpNet::V6(prefix)) {
            return refuse("it is not for hosts");
        }
        if subnet.subnet.prefix_len() > MAX_PREFIX_BITS {
            return refuse("the IPv6 subnet's prefix is longer than /64");
        }
        if prefix.prefix_len() != subnet.subnet.prefix_len() {
            return Err(NetworkError::Nptv6Length { name: name(), prefix, subnet: subnet.subnet });
        }
        if ipam::overlap(&IpNet::V6(prefix), &subnet.subnet) {
            return refuse("it overlaps the subnet itself");
        }
        match self.owner_of_outside(prefix) {
            Some(owner) => Err(NetworkError::Nptv6Overlap { name: name(), prefix, owner }),
            None => Ok(()),
        }
    }

    /// Who has addresses of an outside prefix, the host's own routes aside: one of them may lead there.
    fn owner_of_outside(&self, prefix: Ipv6Net) -> Option<OverlapOwner> {
        let prefix = IpNet::V6(prefix);
        let overlaps = |net: &&IpNet| ipam::overlap(net, &prefix);
        self.owner_among_networks(&prefix).or_else(|| {
            let address = self.host.addresses.iter().find(overlaps);
            address.map(|&address| OverlapOwner::HostAddress { address })
        })
    }
}
