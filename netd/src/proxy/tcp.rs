//! Connections: each is one more to the container, and bytes go both ways until both ends have said all.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
    time::{sleep, timeout},
};
use tracing::debug;

use super::Known;
use crate::model::Proto;

/// How many connections there are at most; more wait to be accepted. Each holds two files open.
const MOST_CONNECTIONS: usize = 256;

/// How long a container may take to answer the first packet.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// How long is waited where no connection can be accepted, for want of files.
const ACCEPT_AGAIN_AFTER: Duration = Duration::from_millis(100);

pub(super) async fn serve(listener: TcpListener, known: Known) {
    let room = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let Ok(permit) = room.clone().acquire_owned().await else { return };
        while connections.try_join_next().is_some() {}
        let Ok((stream, _)) = listener.accept().await else {
            sleep(ACCEPT_AGAIN_AFTER).await;
            continue;
        };
        let target = stream.local_addr().ok().and_then(|it| known.borrow().find(Proto::Tcp, it));
        connections.spawn(async move {
            carry(stream, target).await;
            drop(permit);
        });
    }
}

async fn carry(mut client: TcpStream, target: Option<SocketAddr>) {
    let connected = match target {
        Some(target) => timeout(CONNECT_WITHIN, TcpStream::connect(target)).await,
        // It has been unpublished meanwhile.
        None => return reset(client),
    };
    let mut container = match connected {
        Ok(Ok(container)) => container,
        Ok(Err(error)) => {
            debug!(?target, %error, "a container does not answer the proxy");
            return reset(client);
        }
        Err(_) => return reset(client),
    };
    // Each side decides itself how it gathers what it sends.
    let _ = (client.set_nodelay(true), container.set_nodelay(true));
    if copy_bidirectional(&mut client, &mut container).await.is_err() {
        reset(client);
        reset(container);
    }
}

/// Ends a connection as one is ended that nobody listens for.
fn reset(stream: TcpStream) {
    let _ = stream.set_zero_linger();
}
