//! Connections that go on through a whole soak: each asks and is answered all the time, and nothing may come
//! late, twice, otherwise or not at all.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};

use crate::netns::Namespace;

/// How many bytes go each way at a time.
const BLOCK_BYTES: usize = 2048;

/// How long a connection rests between two questions.
const PAUSE: Duration = Duration::from_millis(5);

/// Longer than TCP takes to send again what was lost, several times.
const PATIENCE: Duration = Duration::from_secs(20);

/// Connections that have not ended. They do when it is dropped.
#[derive(Debug, Default)]
pub struct Flows {
    state: Arc<State>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct State {
    is_over: AtomicBool,
    /// How many blocks have come back.
    answered: AtomicU64,
    /// What went wrong first.
    broken: Mutex<Option<String>>,
}

impl Flows {
    /// Begins a connection from one namespace to an address, at which a port of another is reached.
    ///
    /// # Errors
    /// Where it cannot be had.
    pub fn begin(
        &mut self,
        (from, to): (&Namespace, SocketAddr),
        (server, own): (&Namespace, SocketAddr),
    ) -> Result<()> {
        let listener = server.inside(|| TcpListener::bind(own))?;
        let client = from.inside(|| TcpStream::connect_timeout(&to, PATIENCE));
        let client = client.with_context(|| format!("to {to}"))?;
        let (server, _) = listener.accept()?;
        for stream in [&client, &server] {
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
        }
        let state = Arc::clone(&self.state);
        self.threads.push(thread::spawn(move || ask(client, to, &state)));
        self.threads.push(thread::spawn(move || echo(server)));
        Ok(())
    }

    /// How many blocks have come back so far.
    ///
    /// # Errors
    /// Where one has not.
    ///
    /// # Panics
    /// Where a thread of it has.
    pub fn check(&self) -> Result<u64> {
        let broken = self.state.broken.lock().unwrap_or_else(|error| panic!("{error}"));
        ensure!(broken.is_none(), "a connection that nobody touched: {broken:?}");
        Ok(self.state.answered.load(Ordering::Relaxed))
    }
}

impl Drop for Flows {
    fn drop(&mut self) {
        self.state.is_over.store(true, Ordering::Relaxed);
        self.threads.drain(..).for_each(|thread| drop(thread.join()));
    }
}

/// Asks until it is over.
fn ask(mut stream: TcpStream, to: SocketAddr, state: &State) {
    let mut number = 0_u64;
    while !state.is_over.load(Ordering::Relaxed) {
        if let Err(error) = exchange(&mut stream, number) {
            let mut broken = state.broken.lock().unwrap_or_else(|error| panic!("{error}"));
            broken.get_or_insert_with(|| format!("to {to}, after {number} blocks: {error:#}"));
            return;
        }
        number += 1;
        state.answered.fetch_add(1, Ordering::Relaxed);
        thread::park_timeout(PAUSE);
    }
}

/// Sends a block that no other is like, and checks that it comes back.
fn exchange(stream: &mut TcpStream, number: u64) -> Result<()> {
    let block = number.to_be_bytes().repeat(BLOCK_BYTES / size_of::<u64>());
    stream.write_all(&block)?;
    let mut answer = vec![0; BLOCK_BYTES];
    stream.read_exact(&mut answer)?;
    ensure!(answer == block, "another block came back");
    Ok(())
}

/// Sends everything back until the other end is gone.
fn echo(mut stream: TcpStream) {
    let mut block = vec![0; BLOCK_BYTES];
    while stream.read_exact(&mut block).and_then(|()| stream.write_all(&block)).is_ok() {}
}
