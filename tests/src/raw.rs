//! Frames as they are: what no socket of the network's would send.

use std::io;

use nix::{
    libc,
    net::if_::if_nametoindex,
    sys::socket::{
        AddressFamily, LinkAddr, MsgFlags, SockFlag, SockType, SockaddrLike as _, sendto, socket,
    },
};

use crate::netns::Namespace;

/// Sends frames out of a device of a namespace.
///
/// # Panics
/// Where one of them cannot be sent.
#[track_caller]
pub fn send_frames(from: &Namespace, ifname: &str, frames: &[Vec<u8>]) {
    let sent = from.inside(|| try_send(ifname, frames));
    sent.unwrap_or_else(|error| panic!("frames cannot be sent by {ifname}: {error}"));
}

fn try_send(ifname: &str, frames: &[Vec<u8>]) -> io::Result<()> {
    use std::os::fd::AsRawFd as _;

    let socket = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None)?;
    let device = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: 0,
        sll_ifindex: if_nametoindex(ifname)? as i32,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let len = size_of_val(&device) as libc::socklen_t;
    // SAFETY: the pointer is to a whole address of the length given.
    let device = unsafe { LinkAddr::from_raw((&raw const device).cast(), Some(len)) };
    let device = device.ok_or(io::ErrorKind::InvalidInput)?;
    for frame in frames {
        sendto(socket.as_raw_fd(), frame, &device, MsgFlags::empty())?;
    }
    Ok(())
}
