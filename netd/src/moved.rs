//! The host's UDP sockets that were led to a container which has another address now.
//!
//! A connected socket sends where its destination was rewritten to for as long as it lives, and no packet of its tells
//! anybody. So it is ended once its published port leads elsewhere: its program is told (receiving says ECONNABORTED,
//! sending EDESTADDRREQ), and may connect anew. A container that comes back with the same address keeps its clients.

use std::{io, net::SocketAddr};

use tokio::{sync::watch, task::JoinSet};
use tracing::{debug, info};

use crate::{datapath::AskedFor, model::Proto, netlink::sock_diag, programmed::Targets};

/// Ends them whenever published ports change, for as long as the tasks live.
pub(crate) fn follow(known: watch::Receiver<Targets>, asked: AskedFor) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    tasks.spawn(end_each_time(known, asked));
    tasks
}

async fn end_each_time(mut known: watch::Receiver<Targets>, asked: AskedFor) {
    loop {
        let targets = known.borrow_and_update().clone();
        if let Err(error) = end_moved(&targets, &asked).await {
            debug!(%error, "sockets of containers that have moved are not ended");
        }
        if known.changed().await.is_err() {
            return;
        }
    }
}

async fn end_moved(targets: &Targets, asked: &AskedFor) -> io::Result<()> {
    for socket in sock_diag::connected_udp().await? {
        let peer = socket.peer();
        let Some(asked) = asked.find(socket.cookie(), peer) else { continue };
        if !leads_elsewhere(targets, asked, peer) {
            continue;
        }
        match sock_diag::end(&socket).await {
            Ok(()) => {
                info!(%asked, %peer, "a UDP socket is ended: its container has another address now")
            }
            // It may be gone.
            Err(error) => debug!(%asked, %peer, %error, "a UDP socket is not ended"),
        }
    }
    Ok(())
}

/// Nowhere is not elsewhere: the container may come back.
fn leads_elsewhere(targets: &Targets, asked: SocketAddr, peer: SocketAddr) -> bool {
    targets.find(Proto::Udp, asked).is_some_and(|container| container != peer)
}
