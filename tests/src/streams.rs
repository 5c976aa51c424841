//! Data that moves all the time: whatever is lost of it is noticed.

use std::{
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use crate::{
    clients::{Transport, ask_by, udp_socket},
    condition::{deadline, eventually},
    netns::Namespace,
};

/// What one turn of a TCP connection carries each way.
const BLOCK_LEN: usize = 4096;

/// How many turns show that data moves.
const TURNS: u64 = 20;

/// A client in the background that talks to an echo: as soon as something is back, the next thing is sent.
#[derive(Debug)]
pub struct Stream {
    name: String,
    is_over: Arc<AtomicBool>,
    turns: Arc<AtomicU64>,
    client: JoinHandle<io::Result<()>>,
}

impl Stream {
    /// Begins to talk to [`crate::servers::tcp_echo`] or [`crate::servers::udp_echo`].
    ///
    /// # Panics
    /// Where it does not answer.
    #[track_caller]
    pub fn begin(from: &Namespace, transport: Transport, to: SocketAddr) -> Self {
        Self::begin_paced(from, transport, to, Duration::ZERO)
    }

    /// The same with a rest after each turn, for who has many of them.
    ///
    /// # Panics
    /// Where it does not answer.
    #[track_caller]
    pub fn begin_paced(
        from: &Namespace,
        transport: Transport,
        to: SocketAddr,
        rest: Duration,
    ) -> Self {
        let name = format!("{transport} from {} to {to}", from.name());
        let (is_over, turns) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let mut turn = match transport {
            Transport::Tcp => connected(from, to),
            Transport::Udp => greeted(from, to),
        };
        let (ends, counted) = (Arc::clone(&is_over), Arc::clone(&turns));
        let client = thread::spawn(move || {
            while !ends.load(Ordering::Relaxed) {
                turn(counted.load(Ordering::Relaxed))?;
                counted.fetch_add(1, Ordering::Relaxed);
                if !rest.is_zero() {
                    thread::sleep(rest);
                }
            }
            Ok(())
        });
        let this = Self { name, is_over, turns, client };
        this.goes_on();
        this
    }

    /// Waits until more data has moved.
    ///
    /// # Panics
    /// Where none does.
    #[track_caller]
    pub fn goes_on(&self) {
        let before = self.turns.load(Ordering::Relaxed);
        eventually(&format!("{} goes on", self.name), || {
            self.client.is_finished() || self.turns.load(Ordering::Relaxed) >= before + TURNS
        });
    }

    /// Waits until more data has moved, and ends it.
    ///
    /// # Panics
    /// Where anything was lost since it began.
    #[track_caller]
    pub fn finish(self) {
        self.goes_on();
        self.is_over.store(true, Ordering::Relaxed);
        let Ok(result) = self.client.join() else { panic!("{} panicked", self.name) };
        let turns = self.turns.load(Ordering::Relaxed);
        if let Err(error) = result {
            panic!("{} broke after {turns} turns: {error}", self.name);
        }
    }
}

/// How long an answer is waited for: far longer than one takes that is not lost.
fn patience() -> Duration {
    deadline() / 3
}

type Turn = Box<dyn FnMut(u64) -> io::Result<()> + Send>;

#[track_caller]
fn connected(from: &Namespace, to: SocketAddr) -> Turn {
    let connect = || {
        let stream = TcpStream::connect_timeout(&to, patience())?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(patience()))?;
        stream.set_write_timeout(Some(patience()))?;
        Ok::<_, io::Error>(stream)
    };
    let mut stream = from.inside(connect).unwrap_or_else(|error| panic!("{to}: {error}"));
    Box::new(move |turn| {
        let (sent, mut received) = ([turn as u8; BLOCK_LEN], [0; BLOCK_LEN]);
        stream.write_all(&sent)?;
        stream.read_exact(&mut received)?;
        if sent == received { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
    })
}

#[track_caller]
fn greeted(from: &Namespace, to: SocketAddr) -> Turn {
    let socket = udp_socket(from, to).unwrap_or_else(|error| panic!("{to}: {error}"));
    // The first one may be lost while a neighbour is looked for.
    ask_by(&socket, "hello");
    Box::new(move |turn| talk(&socket, turn))
}

fn talk(socket: &UdpSocket, turn: u64) -> io::Result<()> {
    socket.set_read_timeout(Some(patience()))?;
    socket.send(turn.to_string().as_bytes())?;
    let mut answer = [0; 128];
    loop {
        let len = match socket.recv(&mut answer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            received => received?,
        };
        // An answer to the greeting may have come late.
        if String::from_utf8_lossy(&answer[..len]).ends_with(&format!(" {turn}")) {
            return Ok(());
        }
    }
}
