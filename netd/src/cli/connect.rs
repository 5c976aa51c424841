//! Finding the daemon, also while one takes over from another.

use std::{path::Path, thread, time::Duration};

use crate::{
    client::{Client, ClientError},
    takeover::mark,
};

/// How long a daemon is waited for that is about to answer: it takes over within seconds.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(20);

/// Connects to the daemon; one that is taking over is waited for.
pub(super) fn connect(path: &Path) -> Result<Client, ClientError> {
    for _ in 0..PATIENCE.as_millis() / PAUSE.as_millis() {
        match Client::connect(path) {
            Err(ClientError::NotReachable { .. }) if mark::is_set(path) => thread::sleep(PAUSE),
            // The takeover may have come to its end between the two questions.
            Err(ClientError::NotReachable { .. }) => break,
            connected => return connected,
        }
    }
    Client::connect(path)
}
