//! The daemon's side of the socket: it decodes requests and hands them over; it decides nothing.
//!
//! One task a connection. A request becomes a [`Command`] for the controller, whose [`ReplySender`]
//! turns what comes back into lines. The controller never waits for a client that does not read: a
//! whole answer fits the channel, and a stream belongs to whoever makes it.

mod reply;
mod socket;

use std::{io, time::Duration};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, BufWriter},
    net::{
        UnixListener, UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::mpsc,
    task::JoinSet,
};
use tracing::{debug, warn};

pub use reply::{ClientGone, ReplySender};
pub use socket::{BindError, bind};

use crate::api::{Envelope, Hello, MAX_STATE_BYTES, PROTOCOL_VERSION, Reply, Request};
use reply::Part;

/// The longest request that is read. The longest that makes sense holds a document, in which every quote and
/// line break is escaped.
const MAX_REQUEST_BYTES: u64 = 2 * MAX_STATE_BYTES as u64 + (1 << 20);

/// How long to wait when the kernel refuses another connection, for want of file descriptors mostly.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A request and the way back to the one who asked.
#[derive(Debug)]
pub struct Command {
    pub request: Request,
    pub reply: ReplySender,
}

/// How long the clients of a daemon that ends have to read the answers they are owed.
const DRAIN_TIME: Duration = Duration::from_secs(1);

/// Answers on the socket until nobody takes commands any more, and then until the answers that are
/// under way have been read.
pub async fn serve(listener: UnixListener, commands: mpsc::Sender<Command>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let commands = commands.clone();
                    connections.spawn(async move {
                        if let Err(error) = converse(stream, &commands).await {
                            debug!(%error, "a client's connection ended early");
                        }
                    });
                }
                Err(error) => {
                    warn!(%error, "a client could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = connections.join_next() => {}
            () = commands.closed() => break,
        }
    }
    let drained = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN_TIME, drained).await.is_err() {
        debug!("a client did not read its answer in time");
    }
}

async fn converse(stream: UnixStream, commands: &mpsc::Sender<Command>) -> io::Result<()> {
    let (reader, writer) = stream.into_split();
    let (mut reader, mut writer) = (BufReader::new(reader), BufWriter::new(writer));
    loop {
        let line = tokio::select! {
            line = read_line(&mut reader) => line?,
            () = commands.closed() => None,
        };
        let Some(line) = line else { return Ok(()) };
        match decode(&line) {
            Ok(request) => {
                let is_stop = matches!(request, Request::Stop { .. });
                let is_granted = answer(request, commands, &mut writer).await?;
                writer.flush().await?;
                if is_stop && is_granted {
                    // The kernel closes this connection when the process is gone: that is what the
                    // client waits for.
                    std::mem::forget(writer);
                    return Ok(());
                }
            }
            Err(message) => {
                write(&mut writer, &Reply::Error { message }).await?;
                writer.flush().await?;
            }
        }
    }
}

/// Reads a request; `None` when the client has no more.
async fn read_line(reader: &mut BufReader<OwnedReadHalf>) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    reader.take(MAX_REQUEST_BYTES).read_until(b'\n', &mut line).await?;
    match line.last() {
        None => Ok(None),
        Some(b'\n') => Ok(Some(line)),
        Some(_) => Err(io::Error::new(io::ErrorKind::InvalidData, "a request without an end")),
    }
}

/// Reads a line as a request.
///
/// # Errors
/// What the client is told.
pub fn decode(line: &[u8]) -> Result<Request, String> {
    let malformed = |error| format!("the request is malformed: {error}");
    let hello: Hello = serde_json::from_slice(line).map_err(malformed)?;
    if hello.protocol != PROTOCOL_VERSION {
        return Err(format!(
            "the daemon speaks protocol {PROTOCOL_VERSION}, this client {}: use the netd that the daemon \
             is of",
            hello.protocol
        ));
    }
    let envelope: Envelope = serde_json::from_slice(line).map_err(malformed)?;
    Ok(envelope.request)
}

/// Has a request answered; whether it was granted.
async fn answer(
    request: Request,
    commands: &mpsc::Sender<Command>,
    writer: &mut BufWriter<OwnedWriteHalf>,
) -> io::Result<bool> {
    let (reply, mut parts) = reply::channel();
    // Where the controller is gone, so is the sender, and the loop below says so.
    let _ = commands.send(Command { request, reply }).await;
    let message = loop {
        match parts.recv().await {
            Some(Part::Items(items)) => {
                for item in items {
                    write(writer, &Reply::Item(item)).await?;
                }
            }
            Some(Part::End) => {
                write(writer, &Reply::End).await?;
                return Ok(true);
            }
            Some(Part::Error(message)) => break message,
            None => break "the daemon gave no answer: see its log".to_owned(),
        }
    };
    write(writer, &Reply::Error { message }).await?;
    Ok(false)
}

async fn write(writer: &mut BufWriter<OwnedWriteHalf>, reply: &Reply) -> io::Result<()> {
    let mut line = serde_json::to_vec(reply)?;
    line.push(b'\n');
    writer.write_all(&line).await
}

#[cfg(test)]
mod tests;
