//! The kernel's own connection table, emptied between rule sets.

use std::{io, os::fd::AsRawFd as _};

use nix::{
    libc,
    sys::socket::{
        AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto,
        socket,
    },
};

use crate::netns::Namespace;

/// `IPCTNL_MSG_CT_DELETE` of `NFNL_SUBSYS_CTNETLINK` (linux/netfilter/nfnetlink_conntrack.h).
const DELETE: u16 = 1 << 8 | 2;

/// Forgets every connection of a namespace.
///
/// # Panics
/// Where the kernel refuses.
#[track_caller]
pub fn flush(namespace: &Namespace) {
    let flushed = namespace.inside(try_flush);
    flushed.unwrap_or_else(|error| panic!("connections cannot be forgotten: {error}"));
}

fn try_flush() -> io::Result<()> {
    let protocol = SockProtocol::NetlinkNetFilter;
    let socket = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
    let flags = (libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16;
    // nlmsghdr and nfgenmsg; no family is every family.
    let mut message = bytemuck::bytes_of(&20_u32).to_vec();
    message.extend(bytemuck::bytes_of(&DELETE));
    message.extend(bytemuck::bytes_of(&flags));
    message.extend([0; 12]);
    sendto(socket.as_raw_fd(), &message, &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
    let mut answer = [0; 64];
    let len = recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    let code = answer[..len].get(16..20).map(bytemuck::pod_read_unaligned::<i32>);
    match code {
        Some(0) => Ok(()),
        Some(code) => Err(io::Error::from_raw_os_error(-code)),
        None => Err(io::ErrorKind::InvalidData.into()),
    }
}
