//! Small UDP packets, as many as one CPU can send.
//!
//! The sender hands many packets to the kernel in one call, so that what is left is the way of each
//! packet. The receiver never sleeps: to wake it would cost the sender more than some of the peers do.

use std::{
    io, mem,
    net::{SocketAddr, UdpSocket},
    os::fd::AsRawFd as _,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow, bail};
use nix::{
    errno::Errno,
    libc,
    sys::socket::{setsockopt, sockopt::RcvBufForce},
};

use super::{Cpus, pin_thread};
use crate::bench::{
    testbed::{Testbed, unspecified},
    wait,
};

/// What a packet carries.
const PAYLOAD_BYTES: usize = 64;

/// Packets a system call.
const BATCH: usize = 64;

/// Room for what arrives while the receiver is not running.
const RECEIVE_BUFFER_BYTES: usize = 8 << 20;

/// What is not counted at the beginning: neighbours are resolved, caches get warm.
const WARM_UP: Duration = Duration::from_millis(200);

/// Returns thousands of packets a second that the receiver got.
pub(super) fn measure(bed: &Testbed, cpus: Cpus, seconds: u32) -> Result<f64> {
    let any = |port| SocketAddr::new(unspecified(bed.target), port);
    let receiver = bed.container.inside(|| UdpSocket::bind(any(bed.port())))??;
    setsockopt(&receiver, RcvBufForce, &RECEIVE_BUFFER_BYTES).context("cannot set SO_RCVBUF")?;
    let sender = bed.client.inside(|| UdpSocket::bind(any(0)))??;
    bed.client.inside(|| sender.connect(bed.target))??;

    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let sending =
            scope.spawn(|| pin_thread(cpus.client).and_then(|()| send(&sender, &is_over)));
        let receiving = scope.spawn(|| {
            let rate = pin_thread(cpus.server).and_then(|()| receive(&receiver, seconds));
            is_over.store(true, Ordering::Relaxed);
            rate
        });
        let panicked = |_panic| anyhow!("a thread panicked");
        let rate = receiving.join().map_err(panicked)?;
        sending.join().map_err(panicked)??;
        rate
    })
}

fn send(socket: &UdpSocket, is_over: &AtomicBool) -> Result<()> {
    let mut batch = Batch::new();
    while !is_over.load(Ordering::Relaxed) {
        batch.send(socket).context("cannot send")?;
    }
    Ok(())
}

fn receive(socket: &UdpSocket, seconds: u32) -> Result<f64> {
    let mut batch = Batch::new();
    batch.count_for(socket, WARM_UP)?;
    let start = wait::now();
    let packets = batch.count_for(socket, Duration::from_secs(seconds.into()))?;
    Ok(f64::from(u32::try_from(packets)?) / start.elapsed().as_secs_f64() / 1e3)
}

/// The packets of one system call.
struct Batch {
    headers: Vec<libc::mmsghdr>,
    // What the headers point to.
    _vectors: Vec<libc::iovec>,
    _payload: Vec<u8>,
}

impl Batch {
    fn new() -> Self {
        let mut payload = vec![0_u8; BATCH * PAYLOAD_BYTES];
        let vector = |chunk: &mut [u8]| libc::iovec {
            iov_base: chunk.as_mut_ptr().cast(),
            iov_len: chunk.len(),
        };
        let mut vectors: Vec<_> = payload.chunks_exact_mut(PAYLOAD_BYTES).map(vector).collect();
        let header = |vector: &mut libc::iovec| {
            // SAFETY: the structure has integers and pointers only, for which zero is a value.
            let mut header: libc::mmsghdr = unsafe { mem::zeroed() };
            header.msg_hdr.msg_iov = vector;
            header.msg_hdr.msg_iovlen = 1;
            header
        };
        let headers = vectors.iter_mut().map(header).collect();
        Self { headers, _vectors: vectors, _payload: payload }
    }

    /// Sends a batch to where the socket is connected to.
    fn send(&mut self, socket: &UdpSocket) -> io::Result<()> {
        let (fd, headers) = (socket.as_raw_fd(), self.headers.as_mut_ptr());
        // SAFETY: there are BATCH headers, and what they point to lives and moves with `self`, on
        // the heap.
        let sent = unsafe { libc::sendmmsg(fd, headers, BATCH as u32, 0) };
        match Errno::result(sent) {
            Ok(_) | Err(Errno::ENOBUFS | Errno::EINTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Takes what has arrived, at most a batch, and returns how many packets that were.
    fn receive(&mut self, socket: &UdpSocket) -> io::Result<u64> {
        let (fd, headers) = (socket.as_raw_fd(), self.headers.as_mut_ptr());
        let flags = libc::MSG_DONTWAIT;
        // SAFETY: as in `send`; each header has room for PAYLOAD_BYTES.
        let received =
            unsafe { libc::recvmmsg(fd, headers, BATCH as u32, flags, std::ptr::null_mut()) };
        match Errno::result(received) {
            Ok(count) => Ok(count.unsigned_abs().into()),
            Err(Errno::EAGAIN | Errno::EINTR) => Ok(0),
            Err(error) => Err(error.into()),
        }
    }

    fn count_for(&mut self, socket: &UdpSocket, time: Duration) -> Result<u64> {
        let (start, mut packets) = (wait::now(), 0);
        while start.elapsed() < time {
            if wait::is_interrupted() {
                bail!("interrupted");
            }
            packets += self.receive(socket).context("cannot receive")?;
        }
        Ok(packets)
    }
}
