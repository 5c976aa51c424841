//! The names of programs, as the object and `bpftool` show them. Maps are named after what they hold.

/// The classifier on a device that leads out, for what comes in.
pub const FROM_UPLINK: &str = "from_uplink";
/// The classifier on a device that leads out, for what goes out.
pub const TO_UPLINK: &str = "to_uplink";
/// [`FROM_UPLINK`] for a device without link-layer header.
pub const FROM_UPLINK_L3: &str = "from_uplink_l3";
/// [`TO_UPLINK`] for a device without link-layer header.
pub const TO_UPLINK_L3: &str = "to_uplink_l3";
/// The classifier on a bridge port, for what its container sends.
pub const FROM_ENDPOINT: &str = "from_endpoint";
/// The classifier on a bridge port, for what its container receives.
pub const TO_ENDPOINT: &str = "to_endpoint";
/// The connection table's expiry, run by the daemon.
pub const EXPIRE_FLOWS: &str = "expire_flows";
/// The socket hook of IPv4 connects.
pub const CONNECT_V4: &str = "connect_v4";
/// The socket hook of IPv6 connects.
pub const CONNECT_V6: &str = "connect_v6";

/// Where a classifier hangs, as the packet log numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Hook {
    /// What comes in on an uplink.
    FromUplink,
    /// What goes out on an uplink.
    ToUplink,
    /// What a container sends.
    FromEndpoint,
    /// What a container receives.
    ToEndpoint,
}

impl Hook {
    /// Every hook, in the order of their numbers.
    pub const ALL: [Self; 4] =
        [Self::FromUplink, Self::ToUplink, Self::FromEndpoint, Self::ToEndpoint];

    /// The name of the program.
    pub const fn name(self) -> &'static str {
        match self {
            Self::FromUplink => FROM_UPLINK,
            Self::ToUplink => TO_UPLINK,
            Self::FromEndpoint => FROM_ENDPOINT,
            Self::ToEndpoint => TO_ENDPOINT,
        }
    }
}
