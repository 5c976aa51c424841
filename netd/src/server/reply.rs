//! The way of an answer from the controller to a connection.

use std::fmt;

use thiserror::Error;
use tokio::sync::mpsc;

use crate::api::Item;

/// How many parts of a stream wait for a client that reads slowly. At least two, so that a whole
/// answer, its items and its end, never waits.
const CAPACITY: usize = 4;

/// A piece of an answer on its way to the connection.
#[derive(Debug)]
pub(super) enum Part {
    Items(Vec<Item>),
    End,
    Error(String),
}

pub(super) type Parts = mpsc::Receiver<Part>;

/// Gives a request its answer. Dropped without one, it tells the client to see the log.
#[derive(Debug)]
pub struct ReplySender {
    parts: mpsc::Sender<Part>,
}

/// The client closed the connection: nobody wants the rest of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the client is gone")]
pub struct ClientGone;

pub(super) fn channel() -> (ReplySender, Parts) {
    let (parts, receiver) = mpsc::channel(CAPACITY);
    (ReplySender { parts }, receiver)
}

impl ReplySender {
    /// Answers with these items and no more. Never waits, unless part of the answer was streamed.
    pub fn finish(self, items: impl IntoIterator<Item = Item>) {
        let items: Vec<Item> = items.into_iter().collect();
        if !items.is_empty() {
            self.put(Part::Items(items));
        }
        self.put(Part::End);
    }

    /// Refuses the request, or ends a stream that cannot go on. Never waits.
    pub fn refuse(self, error: &dyn fmt::Display) {
        self.put(Part::Error(error.to_string()));
    }

    /// Answers as the result says.
    pub fn finish_with<E: fmt::Display>(self, result: Result<Vec<Item>, E>) {
        match result {
            Ok(items) => self.finish(items),
            Err(error) => self.refuse(&error),
        }
    }

    /// Streams a batch of items; waits while the client is slow, so it is not for the controller's
    /// own task.
    ///
    /// # Errors
    /// Where the client is gone.
    pub async fn stream(&self, items: Vec<Item>) -> Result<(), ClientGone> {
        self.parts.send(Part::Items(items)).await.map_err(|_| ClientGone)
    }

    /// As [`ReplySender::stream`], for a thread outside the runtime.
    ///
    /// # Errors
    /// Where the client is gone.
    ///
    /// # Panics
    /// Within the runtime, as tokio says.
    pub fn blocking_stream(&self, items: Vec<Item>) -> Result<(), ClientGone> {
        self.parts.blocking_send(Part::Items(items)).map_err(|_| ClientGone)
    }

    /// Ends a stream; waits while the client is slow.
    ///
    /// # Errors
    /// Where the client is gone.
    pub async fn end_stream(self) -> Result<(), ClientGone> {
        self.parts.send(Part::End).await.map_err(|_| ClientGone)
    }

    /// As [`ReplySender::end_stream`], for a thread outside the runtime.
    ///
    /// # Errors
    /// Where the client is gone.
    ///
    /// # Panics
    /// Within the runtime, as tokio says.
    pub fn blocking_end_stream(self) -> Result<(), ClientGone> {
        self.parts.blocking_send(Part::End).map_err(|_| ClientGone)
    }

    /// A client that is gone needs no answer, and a full channel means a stream whose client will
    /// learn from the missing end that it broke off.
    fn put(&self, part: Part) {
        let _ = self.parts.try_send(part);
    }
}
