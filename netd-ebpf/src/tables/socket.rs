//! Sockets, of the host itself and of containers.

use core::ptr;

use aya_ebpf::{
    bindings::{__sk_buff, BPF_TCP_LISTEN, bpf_sock, bpf_sock_tuple},
    helpers::{bpf_sk_lookup_udp, bpf_sk_release, bpf_skc_lookup_tcp},
};
use netd_common::{
    address::Address,
    header::proto,
    tables::{Socket, SocketTuple},
};

/// The socket that a packet with these addresses and ports would come to in a namespace. The kernel takes
/// [`HOST_NETNS`](netd_common::tables::HOST_NETNS) for a negative number, which is its own way to say so.
#[inline(always)]
pub(super) fn look_up<A: Address>(
    skb: *mut __sk_buff,
    netns: u32,
    protocol: u8,
    tuple: &SocketTuple<A>,
) -> Option<Socket> {
    let skb = skb.cast();
    let tuple_ptr = ptr::from_ref(tuple).cast_mut().cast::<bpf_sock_tuple>();
    let len = size_of::<SocketTuple<A>>() as u32;
    let netns = u64::from(netns);
    if protocol == proto::TCP {
        // SAFETY: the tuple has the layout and length that the helper asks for.
        tcp_socket(unsafe { bpf_skc_lookup_tcp(skb, tuple_ptr, len, netns, 0) })
    } else {
        // SAFETY: as above.
        udp_socket(unsafe { bpf_sk_lookup_udp(skb, tuple_ptr, len, netns, 0) })
    }
}

/// What kind of socket a look-up has found; gives the reference back.
#[inline(always)]
fn tcp_socket(socket: *mut bpf_sock) -> Option<Socket> {
    if socket.is_null() {
        return None;
    }
    // SAFETY: the helper's reference is valid until it is given back.
    let state = unsafe {
        let state = (*socket).state;
        bpf_sk_release(socket.cast());
        state
    };
    Some(if state == BPF_TCP_LISTEN { Socket::Listening } else { Socket::Connected })
}

/// As `tcp_socket`, by another field: the verifier does not let one instruction read through the
/// pointers of both kinds, and the compiler would merge two that are alike.
#[inline(always)]
fn udp_socket(socket: *mut bpf_sock) -> Option<Socket> {
    if socket.is_null() {
        return None;
    }
    // SAFETY: the helper's reference is valid until it is given back.
    let peer_port = unsafe {
        let peer_port = (*socket).dst_port;
        bpf_sk_release(socket.cast());
        peer_port
    };
    Some(if peer_port == 0 { Socket::Listening } else { Socket::Connected })
}
