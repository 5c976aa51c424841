//! The command line's side of the socket.
//!
//! It blocks: a command asks one thing after the other and has nothing else to do meanwhile.

use std::{
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use thiserror::Error;

use crate::api::{Envelope, Item, PROTOCOL_VERSION, Reply, Request};

/// A connection to the daemon.
#[derive(Debug)]
pub struct Client {
    reader: BufReader<UnixStream>,
    path: PathBuf,
}

/// Why a request has no answer.
#[derive(Debug, Error)]
pub enum ClientError {
    #[error(
        "the daemon is not reachable at {path}: {source}; start it with `netd run`, or name its socket \
         with --socket"
    )]
    NotReachable { path: PathBuf, source: io::Error },
    #[error("the socket {path} is closed to you: become root or a member of the group netd")]
    NotPermitted { path: PathBuf },
    #[error(
        "the daemon at {path} does not answer; kill it and start it again, which no packet notices"
    )]
    NoAnswer { path: PathBuf },
    #[error("the daemon at {path} broke off: {source}; see its log")]
    BrokeOff { path: PathBuf, source: io::Error },
    #[error(
        "the daemon at {path} gave an answer that this netd does not understand: use the same version"
    )]
    Answer { path: PathBuf, source: serde_json::Error },
    #[error("{message}")]
    Refused { message: Box<str> },
}

impl ClientError {
    /// Whether there is no daemon to ask, as opposed to one that refuses.
    pub fn is_not_reachable(&self) -> bool {
        matches!(self, Self::NotReachable { .. } | Self::NotPermitted { .. })
    }
}

impl Client {
    /// Connects to the daemon.
    ///
    /// # Errors
    /// Where none answers.
    pub fn connect(path: &Path) -> Result<Self, ClientError> {
        let stream = UnixStream::connect(path).map_err(|source| {
            let path = path.to_owned();
            if source.kind() == io::ErrorKind::PermissionDenied {
                ClientError::NotPermitted { path }
            } else {
                ClientError::NotReachable { path, source }
            }
        })?;
        Ok(Self { reader: BufReader::new(stream), path: path.to_owned() })
    }

    /// Waits no longer than this for a piece of an answer.
    ///
    /// # Errors
    /// Where the system refuses.
    pub fn set_patience(&self, patience: Duration) -> Result<(), ClientError> {
        let set = self.reader.get_ref().set_read_timeout(Some(patience));
        set.map_err(|source| self.broke_off(source))
    }

    /// The number of the daemon's process; none where it cannot be seen from here, as from a container.
    pub fn daemon_pid(&self) -> Option<i32> {
        let peer = getsockopt(self.reader.get_ref(), PeerCredentials).ok()?;
        Some(peer.pid()).filter(|pid| *pid > 0)
    }

    /// Makes a request; the answer's items come one by one.
    ///
    /// # Errors
    /// Where the request cannot be delivered.
    pub fn request(&mut self, request: Request) -> Result<Answer<'_>, ClientError> {
        let envelope = Envelope { protocol: PROTOCOL_VERSION, request };
        let mut line = serde_json::to_vec(&envelope)
            .map_err(|source| ClientError::Answer { path: self.path.clone(), source })?;
        line.push(b'\n');
        self.reader.get_mut().write_all(&line).map_err(|source| self.broke_off(source))?;
        Ok(Answer { client: self, line: String::new(), is_over: false })
    }

    /// Waits until the daemon closes the connection, which it does when it ends.
    ///
    /// # Errors
    /// Where it sends something instead.
    pub fn wait_until_closed(mut self) -> Result<(), ClientError> {
        match self.reader.read(&mut [0]) {
            Ok(0) => Ok(()),
            Ok(_) => Err(self.broke_off(io::ErrorKind::InvalidData.into())),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(()),
            Err(source) => Err(self.broke_off(source)),
        }
    }

    fn broke_off(&self, source: io::Error) -> ClientError {
        let path = self.path.clone();
        if source.kind() == io::ErrorKind::WouldBlock {
            ClientError::NoAnswer { path }
        } else {
            ClientError::BrokeOff { path, source }
        }
    }
}

/// The answer to a request, read as it comes. Read it to its end before the next request.
#[derive(Debug)]
pub struct Answer<'a> {
    client: &'a mut Client,
    line: String,
    is_over: bool,
}

impl Answer<'_> {
    fn read(&mut self) -> Result<Option<Item>, ClientError> {
        self.line.clear();
        let len =
            self.client.reader.read_line(&mut self.line).map_err(|e| self.client.broke_off(e))?;
        if len == 0 {
            return Err(self.client.broke_off(io::ErrorKind::UnexpectedEof.into()));
        }
        let reply = serde_json::from_str(&self.line)
            .map_err(|source| ClientError::Answer { path: self.client.path.clone(), source })?;
        match reply {
            Reply::Item(item) => Ok(Some(item)),
            Reply::End => Ok(None),
            Reply::Error { message } => Err(ClientError::Refused { message: message.into() }),
        }
    }
}

impl Iterator for Answer<'_> {
    type Item = Result<Item, ClientError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_over {
            return None;
        }
        let item = self.read().transpose();
        self.is_over = !matches!(item, Some(Ok(_)));
        item
    }
}
