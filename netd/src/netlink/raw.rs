//! Netlink messages of families that rtnetlink has no types for.

use std::io;

use netlink_packet_core::{NLMSG_DONE, NLMSG_ERROR, NetlinkBuffer, parse_i32};
use rtnetlink::sys::{AsyncSocketExt as _, TokioSocket};

/// Sends a request and reads the answer to its end; `found` gets the type and the payload of each message of it.
///
/// # Errors
/// The kernel's, or that of the socket.
pub(super) async fn exchange(
    socket: &TokioSocket,
    request: &[u8],
    mut found: impl FnMut(u16, &[u8]),
) -> io::Result<()> {
    socket.send(request).await?;
    loop {
        let (datagram, _) = socket.recv_from_full().await?;
        let mut rest = datagram.as_slice();
        while let Ok(message) = NetlinkBuffer::new_checked(rest) {
            match message.message_type() {
                NLMSG_ERROR | NLMSG_DONE => return end(message.payload()),
                kind => found(kind, message.payload()),
            }
            let aligned = (message.length() as usize).next_multiple_of(4);
            rest = rest.get(aligned..).unwrap_or_default();
        }
    }
}

/// Both ends of an answer begin with an error number below zero, or with zero.
fn end(payload: &[u8]) -> io::Result<()> {
    let code = payload.get(..4).and_then(|bytes| parse_i32(bytes).ok()).unwrap_or(0);
    if code < 0 { Err(io::Error::from_raw_os_error(code.saturating_neg())) } else { Ok(()) }
}
