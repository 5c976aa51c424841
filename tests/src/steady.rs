//! Datagrams at a steady pace, whatever comes back: what is not answered is counted, and who was seen as the sender.

use std::{
    io,
    net::{IpAddr, SocketAddr, UdpSocket},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use crate::{
    clients::{ask_by, udp_socket},
    condition::{eventually, now},
    netns::Namespace,
};

/// How often a datagram is sent: far more often than anything lasts that could lose one.
const PACE: Duration = Duration::from_millis(5);

/// How many answers show that the flow goes on.
const ANSWERS: usize = 10;

/// A client in the background that asks [`crate::servers::udp_echo`], always from the same port.
#[derive(Debug)]
pub struct Steady {
    name: String,
    is_over: Arc<AtomicBool>,
    seen: Arc<Mutex<Seen>>,
    client: JoinHandle<()>,
}

/// What has come of a flow.
#[derive(Debug, Default)]
struct Seen {
    /// Of each datagram, whether it has been answered.
    answered: Vec<bool>,
    /// Answers that no such server gives, and errors.
    strange: Vec<String>,
}

impl Steady {
    /// Begins to ask; the server is to see the datagrams come from `client`.
    ///
    /// # Panics
    /// Where it does not answer.
    #[track_caller]
    pub fn begin(from: &Namespace, to: SocketAddr, client: IpAddr) -> Self {
        let socket = udp_socket(from, to).unwrap_or_else(|error| panic!("{to}: {error}"));
        // The first one may be lost while a neighbour is looked for.
        ask_by(&socket, "hello");
        let (is_over, seen) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let asking = Asking { socket, client, is_over: Arc::clone(&is_over), seen };
        let seen = Arc::clone(&asking.seen);
        let name = format!("udp from {} to {to}", from.name());
        let this = Self { name, is_over, seen, client: thread::spawn(move || asking.ask()) };
        this.goes_on();
        this
    }

    /// Waits until more has been answered. Nothing is lost before that.
    ///
    /// # Panics
    /// Where an answer is missing or wrong.
    #[track_caller]
    pub fn goes_on(&self) {
        let until = lock(&self.seen).answered.len() + ANSWERS;
        eventually(&format!("{} goes on", self.name), || {
            lock(&self.seen).answered.iter().skip(until).any(|is_answered| *is_answered)
        });
        let Seen { answered, strange } = &*lock(&self.seen);
        assert!(strange.is_empty(), "{}: {strange:?}", self.name);
        // Those before the last answer: between namespaces nothing overtakes for so long.
        let lost = answered[..until].iter().filter(|is_answered| !**is_answered).count();
        let sent = answered.len();
        assert_eq!(lost, 0, "{}: lost of {sent}, one each {PACE:?}: {}", self.name, gaps(answered));
    }

    /// Waits until more has been answered, and ends it.
    ///
    /// # Panics
    /// Where an answer is missing or wrong.
    #[track_caller]
    pub fn finish(self) {
        self.goes_on();
        self.is_over.store(true, Ordering::Relaxed);
        assert!(self.client.join().is_ok(), "{} panicked", self.name);
    }
}

/// Where answers are missing: from and to which.
fn gaps(answered: &[bool]) -> String {
    let mut gaps = String::new();
    let mut first = 0;
    for run in answered.chunk_by(|one, other| one == other) {
        if !run[0] {
            gaps += &format!("{first}..{} ", first + run.len());
        }
        first += run.len();
    }
    gaps
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The client's thread.
struct Asking {
    socket: UdpSocket,
    client: IpAddr,
    is_over: Arc<AtomicBool>,
    seen: Arc<Mutex<Seen>>,
}

impl Asking {
    fn ask(&self) {
        let mut due = now();
        for number in 0_usize.. {
            if self.is_over.load(Ordering::Relaxed) {
                return;
            }
            lock(&self.seen).answered.push(false);
            if let Err(error) = self.socket.send(number.to_string().as_bytes()) {
                lock(&self.seen).strange.push(format!("{number} is not sent: {error}"));
            }
            // A machine that was busy does not catch up with a burst.
            due = (due + PACE).max(now());
            while let Some(rest) = due.checked_duration_since(now()).filter(|it| !it.is_zero()) {
                self.take(rest);
            }
        }
    }

    /// Takes the next answer, if one comes in time.
    fn take(&self, limit: Duration) {
        let mut buffer = [0; 128];
        let received =
            self.socket.set_read_timeout(Some(limit)).and_then(|()| self.socket.recv(&mut buffer));
        let mut seen = lock(&self.seen);
        match received {
            Ok(len) => {
                let answer = String::from_utf8_lossy(&buffer[..len]);
                if let Err(strange) = seen.note(answer.trim_end(), self.client) {
                    seen.strange.push(strange);
                }
            }
            Err(error) if is_nothing(&error) => {}
            Err(error) => seen.strange.push(error.to_string()),
        }
    }
}

impl Seen {
    fn note(&mut self, answer: &str, client: IpAddr) -> Result<(), String> {
        let (address, text) = answer.split_once(' ').ok_or_else(|| answer.to_owned())?;
        if address.trim_matches(['[', ']']).parse() != Ok(client) {
            return Err(format!("not from {client}: {answer}"));
        }
        // An answer to the greeting may have come late.
        if let Ok(number) = text.parse::<usize>() {
            *self.answered.get_mut(number).ok_or_else(|| answer.to_owned())? = true;
        }
        Ok(())
    }
}

fn is_nothing(error: &io::Error) -> bool {
    use io::ErrorKind::{Interrupted, TimedOut, WouldBlock};
    matches!(error.kind(), Interrupted | TimedOut | WouldBlock)
}
