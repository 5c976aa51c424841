//! The names of programs, as the object and `bpftool` show them. Maps are named after what they hold.

/// The XDP program on a device that leads out, before [`FROM_UPLINK`].
pub const FROM_WIRE: &str = "from_wire";
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
/// The classifier on a bridge, for what its ports send to the host.
pub const FROM_BRIDGE: &str = "from_bridge";
/// The classifier on a bridge, for what the host sends to its ports.
pub const TO_BRIDGE: &str = "to_bridge";
/// The programs of the hooks, in [`PROGRAMS`] by the hook's place and [`crate::engine::Part`], at
/// `hook * Part::COUNT + part`.
pub const PARTS: [&str; 32] = [
    FROM_UPLINK,
    "from_uplink_v6",
    "from_uplink_rare_v4",
    "from_uplink_rare_v6",
    TO_UPLINK,
    "to_uplink_v6",
    "to_uplink_rare_v4",
    "to_uplink_rare_v6",
    FROM_UPLINK_L3,
    "from_uplink_l3_v6",
    "from_uplink_l3_rare_v4",
    "from_uplink_l3_rare_v6",
    TO_UPLINK_L3,
    "to_uplink_l3_v6",
    "to_uplink_l3_rare_v4",
    "to_uplink_l3_rare_v6",
    FROM_ENDPOINT,
    "from_endpoint_v6",
    "from_endpoint_rare_v4",
    "from_endpoint_rare_v6",
    TO_ENDPOINT,
    "to_endpoint_v6",
    "to_endpoint_rare_v4",
    "to_endpoint_rare_v6",
    FROM_BRIDGE,
    "from_bridge_v6",
    "from_bridge_rare_v4",
    "from_bridge_rare_v6",
    TO_BRIDGE,
    "to_bridge_v6",
    "to_bridge_rare_v4",
    "to_bridge_rare_v6",
];
/// How many hooks have programs there.
pub const HOOKS: u32 = PARTS.len() as u32 / crate::engine::Part::COUNT;
/// The room for the description of the maps.
pub const LAYOUT_BYTES: usize = 8192;
/// The map of programs that packets are handed over to.
pub const PROGRAMS: &str = "PROGRAMS";
/// The map of the programs of the netd that comes after.
pub const SUCCESSORS: &str = "SUCCESSORS";
/// The map that describes the others to the netd that comes after.
pub const LAYOUT: &str = "LAYOUT";
/// The connection table's expiry, run by the daemon.
pub const EXPIRE_FLOWS: &str = "expire_flows";
/// The way of another netd's flows into the connection table, run by the daemon.
pub const INHERIT_FLOWS: &str = "inherit_flows";
/// The socket hooks of a family: for whom a socket connects to, whom it sends a datagram to, whom a received one is
/// shown to be from, whom it is shown to be connected with, and which
/// port it takes.
pub const SOCKET_HOOKS_V4: [&str; 5] =
    ["connect_v4", "sendmsg_v4", "recvmsg_v4", "getpeername_v4", "bind_v4"];
/// The same for IPv6.
pub const SOCKET_HOOKS_V6: [&str; 5] =
    ["connect_v6", "sendmsg_v6", "recvmsg_v6", "getpeername_v6", "bind_v6"];
/// What finds the host's socket for what comes in on the loopback device.
pub const TO_SOCKET: &str = "to_socket";
/// The map of the proxy's sockets, by [`crate::socket::ProxySocket`].
pub const PROXY_SOCKETS: &str = "PROXY_SOCKETS";

/// Where a program that judges packets hangs, as the packet log numbers it.
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
    /// What a bridge hands up to the host.
    FromBridge,
    /// What the host sends by a bridge.
    ToBridge,
    /// What comes in on an uplink, before it is a packet of the kernel's.
    FromWire,
}

impl Hook {
    /// Every hook, in the order of their numbers.
    pub const ALL: [Self; 7] = [
        Self::FromUplink,
        Self::ToUplink,
        Self::FromEndpoint,
        Self::ToEndpoint,
        Self::FromBridge,
        Self::ToBridge,
        Self::FromWire,
    ];

    /// The name of the program.
    pub const fn name(self) -> &'static str {
        match self {
            Self::FromUplink => FROM_UPLINK,
            Self::ToUplink => TO_UPLINK,
            Self::FromEndpoint => FROM_ENDPOINT,
            Self::ToEndpoint => TO_ENDPOINT,
            Self::FromBridge => FROM_BRIDGE,
            Self::ToBridge => TO_BRIDGE,
            Self::FromWire => FROM_WIRE,
        }
    }
}
