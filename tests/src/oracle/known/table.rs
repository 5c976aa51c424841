//! The differences that are known, with the cases that show them and where.

use super::{Known, Place, Status};
use crate::oracle::golden::Mode;

/// From the same bridge to the published port.
const SAME_BRIDGE: &[&str] = &[
    "a container to its own published port",
    "a container to its own published port at the gateway",
    "a neighbour to a published port",
    "a neighbour to a published port at the gateway",
    "a neighbour in the middle of a published connection",
];

/// All of them.
pub const KNOWN: &[Known] = &[
    Known {
        id: "routed-host-port",
        status: Status::Chosen,
        why: "A routed network has no ports on the host. Neither has Docker's: moby's driver gives its \
              rules no host port then, only the test that the rule sets come from does.",
        shows: &[
            (
                &[
                    "published tcp",
                    "published tcp at another address of the host",
                    "published tcp at the gateway",
                    "published tcp from a low port",
                    "published tcp from beyond the client",
                    "published tcp with ip options",
                    "published tcp with a record route",
                    "published tcp at its last hop",
                    "published tcp one hop before its last",
                    "published tcp with 255 hops",
                    "traceroute in an established connection",
                    "a published connection that is closed",
                    "a published connection that is reset",
                    "a published connection that begins anew",
                    "a client refuses a published reply",
                    "a client refuses a published reply in short",
                    "a router is too narrow for a published reply",
                    "a router sees a published reply die",
                    "a container refuses a published port",
                    "a container refuses a published port in short",
                    "a container is too narrow for a published port",
                    "a connection outlives an error",
                    "a published port in the middle of a connection",
                    "fragments of a published connection",
                    "fragments of a published connection, backwards",
                    "an atomic fragment",
                ],
                |place| place.is_routed() && place.is_published(),
            ),
            (&["published tcp from a link-local address"], |place| {
                place.is_routed() && place.is_published() && !place.is_v6()
            }),
            (SAME_BRIDGE, |place| {
                place.is_routed() && place.is_published() && place.options.hairpin
            }),
        ],
    },
    Known {
        id: "proxy",
        status: Status::Chosen,
        why: "The reference is Docker without its userland proxy. With it, a process on the host takes \
              these connections, which the rules alone do not show.",
        shows: &[(SAME_BRIDGE, |place| place.is_translated() && !place.options.hairpin)],
    },
    Known {
        id: "same-bridge-publish",
        status: Status::Chosen,
        why: "A published port is open to neighbours also where neighbours are kept apart: publishing \
              says so.",
        shows: &[(SAME_BRIDGE, |place| {
            place.is_translated() && place.options.hairpin && !place.options.icc
        })],
    },
    Known {
        id: "same-bridge-ttl",
        status: Status::Chosen,
        why: "Neighbours on the way of a published port: br_netfilter translates in the bridge, which \
              takes no hop; netd is a router there as anywhere else, so the TTL is one less.",
        shows: &[(SAME_BRIDGE, |place| {
            place.is_translated() && place.options.hairpin && place.options.icc
        })],
    },
    Known {
        id: "host-snat",
        status: Status::Chosen,
        why: "What the host itself sends to a container comes from the host's address on the bridge. Docker's \
              rules give it the address that was chosen for the network's packets to the world.",
        shows: &[(
            &[
                "host to itself, tcp",
                "host to itself, udp",
                "host to the gateway, udp",
                "host to the gateway, tcp",
                "host to the container, tcp",
                "host to the container, udp",
            ],
            |place| place.options.snat,
        )],
    },
    Known {
        id: "internal-host-address",
        status: Status::Chosen,
        why: "A container of an internal network reaches the host at its gateway's address only. \
              Docker's has no route to any other, but is not stopped when it makes one.",
        shows: &[(
            &[
                "a container to a closed port of the host",
                "a container's echo to the host",
                "a container to its own published port",
                "a neighbour to a published port",
                "a neighbour in the middle of a published connection",
            ],
            Place::is_internal,
        )],
    },
    Known {
        id: "internal-silence",
        status: Status::Chosen,
        why: "What does not get in or out of an internal network is dropped before the host looks at \
              its TTL.",
        shows: &[(
            &["direct tcp at its last hop", "udp to the world at its last hop"],
            Place::is_internal,
        )],
    },
    Known {
        id: "internal-detour",
        status: Status::Chosen,
        why: "On an internal network, a container sends to its neighbours and not through the gateway, \
              nor through a neighbour to the world. For IPv4 the rules stop that, for IPv6 they do not \
              see it.",
        shows: &[
            (&["a neighbour by way of the host"], |place| place.is_internal() && place.options.icc),
            (&["the world by way of a neighbour"], |place| {
                place.is_internal() && place.options.icc && place.is_v6()
            }),
        ],
    },
    Known {
        id: "loopback",
        status: Status::Chosen,
        why: "Loopback addresses never cross a device, from outside or inside. Docker makes 127/8 \
              routable on its bridges and guards only ports that are published there.",
        shows: &[
            (&["a container to a loopback address"], |place| {
                let by_port =
                    place.is_open() && place.options.icc && (place.is_v6() || place.is_published());
                place.options.hairpin && (by_port || place.is_internal() && !place.is_v6())
            }),
            (&["to a loopback address from outside"], |place| {
                place.is_published() && !place.is_v6()
            }),
        ],
    },
    Known {
        id: "spoofed-from-outside",
        status: Status::Chosen,
        why: "Whoever claims a container's address outside is dropped, and who claims one of the host's \
              and wants to reach a container. Linux does so by itself with the host's of IPv4.",
        shows: &[
            (&["a container's address from outside to a published port"], |place| {
                place.options.has_network
            }),
            (&["a container's address from outside to a container"], |place| {
                place.is_internal() || place.is_open() && place.options.mode != Mode::Nat
            }),
            (
                &[
                    "the gateway's address from outside to a published port",
                    "the host's address from outside to a published port",
                ],
                |place| place.is_published() && place.is_v6(),
            ),
        ],
    },
    Known {
        id: "spoofed-from-inside",
        status: Status::Chosen,
        why: "A container that sends with an address outside its network's subnets, or with its gateway's, \
              is not heard. Linux does so by itself with the host's own of IPv4.",
        shows: &[
            (&["a foreign address to the world"], Place::is_open),
            (&["the host's address to the world", "the gateway's address to the world"], |place| {
                place.is_open() && place.is_v6()
            }),
        ],
    },
    Known {
        id: "begins-nothing",
        status: Status::Chosen,
        why: "What cannot begin a connection and belongs to none does not leave, nor does it reach a \
              container at its own address. iptables takes it for invalid, does not translate it, and \
              sends it on with the container's own address.",
        shows: &[
            (
                &[
                    "a reset to the world",
                    "an answer to the world",
                    "no flags to the world",
                    "a container's error about nothing",
                ],
                Place::is_open,
            ),
            (&["an answer to a container"], |place| {
                place.is_open() && place.options.mode != Mode::Nat
            }),
        ],
    },
    Known {
        id: "routed-icmp",
        status: Status::Chosen,
        why: "To routed containers, an ICMP error passes that belongs to a flow, and the echo; Docker \
              lets every ICMP message pass. Neighbours that are kept apart may not ping each other on \
              a routed network either.",
        shows: &[
            (&["an error to a container"], Place::is_routed),
            // Of IPv6, a query for a node's information (RFC 4620).
            (&["direct timestamp"], |place| place.is_routed() && place.is_v6()),
            (&["a neighbour's echo", "a neighbour's timestamp"], |place| {
                place.is_routed() && !place.options.icc
            }),
        ],
    },
    Known {
        id: "unmasqueraded-replies",
        status: Status::Chosen,
        why: "A container of a network that does not masquerade gets answers to what it asked, and errors. \
              Docker's guard against direct access drops them with everything else from outside.",
        shows: &[(
            &[
                "tcp to the world",
                "tcp to the next machine",
                "tcp to the world from a low port",
                "udp to the world",
                "udp to the world without checksum",
                "echo to the world",
                "udp to the world one hop before its last",
                "to the world in the middle of a connection",
                "udp to the world, again and again",
                "a container refuses what the world answers",
                "the world refuses",
                "the world refuses in short",
                "the world refuses sctp",
                "the world refuses sctp in part",
                "sctp to the world",
                "gre to the world",
                "esp to the world",
                "a router is too narrow for the world",
                "a router sees a packet to the world die",
                "a router finds a fault in a packet to the world",
                "a router refuses an echo",
                "udp to the world with ip options",
                "an atomic fragment to the world",
                "fragments to the world",
            ],
            Place::is_deaf,
        )],
    },
    Known {
        id: "sctp-quote",
        status: Status::Chosen,
        why: "The checksum of a quoted SCTP packet stays what it was. Linux computes it anew over what is \
              quoted, which is wrong where that is not all of the packet.",
        shows: &[(&["the world refuses sctp in part"], |place| {
            place.is_open() && place.options.masquerade && !place.is_routed()
        })],
    },
    Known {
        id: "lone-fragment",
        status: Status::Chosen,
        why: "A first fragment goes on at once, and the others by what it said. Linux puts a packet together \
              before it looks at it, so nothing of one that never gets whole goes on.",
        shows: &[(&["a lone first fragment to the world"], Place::is_open)],
    },
];
