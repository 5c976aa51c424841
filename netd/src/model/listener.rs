//! Sockets of the host that wait for clients.

use std::net::IpAddr;

use super::Proto;

/// A socket that waits for clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    pub proto: Proto,
    pub address: IpAddr,
    pub port: u16,
    pub inode: u64,
}

impl Listener {
    /// Whether packets for the address would be for it.
    pub fn takes(&self, address: IpAddr) -> bool {
        // A socket at [::] takes IPv4 as well, unless it was told not to.
        let takes_any =
            self.address.is_unspecified() && (self.address.is_ipv6() || address.is_ipv4());
        self.address == address || takes_any
    }
}
