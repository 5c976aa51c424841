//! One end of a flow: a connection, and what it has carried.

use std::io;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::{
    message::{LEN_BYTES, Message},
    report::Report,
};

/// One end of a flow.
#[derive(Debug)]
pub struct End {
    stream: TcpStream,
    /// What it has carried so far.
    pub report: Report,
}

impl End {
    /// Nothing is sent or received yet.
    ///
    /// # Errors
    /// Where the connection is broken.
    pub fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self { stream, report: Report::default() })
    }

    /// Sends a message.
    ///
    /// # Errors
    /// Where the connection is broken.
    pub async fn send(&mut self, message: &Message) -> io::Result<()> {
        self.stream.write_all(message).await?;
        self.report.sent += LEN_BYTES as u64;
        Ok(())
    }

    /// Waits for the next message; there is none once the other end has closed.
    ///
    /// # Errors
    /// Where the connection is broken, or ends within a message.
    pub async fn receive(&mut self) -> io::Result<Option<Message>> {
        let mut message = [0; LEN_BYTES];
        let mut len = 0;
        while len < LEN_BYTES {
            match self.stream.read(&mut message[len..]).await? {
                0 if len == 0 => return Ok(None),
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                more => {
                    len += more;
                    self.report.received += more as u64;
                }
            }
        }
        Ok(Some(message))
    }

    /// Says that nothing more comes from this end.
    ///
    /// # Errors
    /// Where the connection is broken.
    pub async fn close(&mut self) -> io::Result<()> {
        self.stream.shutdown().await
    }
}
