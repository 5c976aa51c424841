//! Sockets of the link layer (packet(7)): one that sends any frame, one that sees every frame.
//!
//! A socket belongs to the namespace that it was made in, whichever thread uses it. Neither is bound to a
//! device, so both outlive a container's.

use std::{
    io,
    mem::{self, MaybeUninit},
    os::fd::{AsFd as _, AsRawFd as _, FromRawFd as _, OwnedFd},
    ptr,
};

use nix::{
    errno::Errno,
    libc,
    poll::{PollFd, PollFlags, poll},
    sys::socket::{MsgFlags, recv, setsockopt, sockopt},
};

use crate::netns::Namespace;

/// What a sniffer may fall behind by. Units: bytes.
const BUFFER_LEN: usize = 64 << 20;

/// Units: milliseconds.
const MOMENT_MS: u8 = 20;

/// A raw socket of a namespace.
#[derive(Debug)]
pub struct Wire {
    socket: OwnedFd,
}

impl Wire {
    /// A socket for sending.
    ///
    /// # Errors
    /// Where the kernel gives none.
    pub fn sender(namespace: &Namespace) -> io::Result<Self> {
        namespace.inside(|| Self::open(0))
    }

    /// A socket that gets every frame which comes in by any device of the namespace.
    ///
    /// # Errors
    /// Where the kernel gives none.
    pub fn sniffer(namespace: &Namespace) -> io::Result<Self> {
        let this = namespace.inside(|| Self::open(libc::ETH_P_ALL as u16))?;
        setsockopt(&this.socket, sockopt::RcvBufForce, &BUFFER_LEN)?;
        this.set(libc::PACKET_IGNORE_OUTGOING, &1_i32)?;
        Ok(this)
    }

    fn open(ethertype: u16) -> io::Result<Self> {
        let protocol = i32::from(ethertype.to_be());
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
        // SAFETY: the call takes numbers only.
        let fd = Errno::result(unsafe { libc::socket(libc::AF_PACKET, kind, protocol) })?;
        // SAFETY: the kernel has just made the descriptor, for nobody else.
        Ok(Self { socket: unsafe { OwnedFd::from_raw_fd(fd) } })
    }

    /// Lets a device hand over what is addressed to others; it forgets that when it goes.
    ///
    /// # Errors
    /// Where there is no such device.
    pub fn make_promiscuous(&self, ifname: &str) -> io::Result<()> {
        let request = libc::packet_mreq {
            mr_ifindex: self.ifindex(ifname)?,
            mr_type: libc::PACKET_MR_PROMISC as u16,
            mr_alen: 0,
            mr_address: [0; 8],
        };
        self.set(libc::PACKET_ADD_MEMBERSHIP, &request)
    }

    fn set<T>(&self, option: i32, value: &T) -> io::Result<()> {
        let (value, len) = (ptr::from_ref(value).cast(), mem::size_of::<T>() as u32);
        let fd = self.socket.as_raw_fd();
        // SAFETY: the pointer is that of a value of the length given.
        let code = unsafe { libc::setsockopt(fd, libc::SOL_PACKET, option, value, len) };
        Errno::result(code)?;
        Ok(())
    }

    /// The number of a device of the socket's namespace.
    ///
    /// # Errors
    /// Where there is none of that name.
    pub fn ifindex(&self, ifname: &str) -> io::Result<i32> {
        let mut request = libc::ifreq {
            ifr_name: [0; libc::IFNAMSIZ],
            ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_ifindex: 0 },
        };
        for (to, from) in request.ifr_name.iter_mut().take(libc::IFNAMSIZ - 1).zip(ifname.bytes()) {
            *to = from.cast_signed();
        }
        let fd = self.socket.as_raw_fd();
        // SAFETY: the request is a valid `ifreq`, which is what the call reads and writes.
        Errno::result(unsafe { libc::ioctl(fd, libc::SIOCGIFINDEX, &raw mut request) })?;
        // SAFETY: that is the field which the call fills in.
        Ok(unsafe { request.ifr_ifru.ifru_ifindex })
    }

    /// Sends a frame by a device.
    ///
    /// # Errors
    /// Where the device is gone, down, or does not take it.
    pub fn send(&self, ifindex: i32, frame: &[u8]) -> io::Result<()> {
        // SAFETY: all bytes zero is a valid address.
        let mut address: libc::sockaddr_ll = unsafe { MaybeUninit::zeroed().assume_init() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_ifindex = ifindex;
        address.sll_halen = 6;
        // The kernel takes the packet's protocol from the frame itself where none is given.
        let len = mem::size_of_val(&address) as u32;
        let to = ptr::from_ref(&address).cast();
        let fd = self.socket.as_raw_fd();
        // SAFETY: both pointers are those of values of the lengths given.
        let sent = unsafe { libc::sendto(fd, frame.as_ptr().cast(), frame.len(), 0, to, len) };
        Errno::result(sent)?;
        Ok(())
    }

    /// Takes the next frame that has come in, if there is one.
    ///
    /// # Errors
    /// Where the socket is broken; a device that went down is no such case.
    pub fn receive<'a>(&self, buffer: &'a mut [u8]) -> io::Result<Option<&'a [u8]>> {
        match recv(self.socket.as_raw_fd(), buffer, MsgFlags::MSG_DONTWAIT) {
            Ok(len) => Ok(Some(&buffer[..len.min(buffer.len())])),
            Err(Errno::EAGAIN | Errno::ENETDOWN | Errno::EINTR) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits a moment for one of several sockets to have something.
    ///
    /// # Errors
    /// Where the kernel cannot wait.
    pub fn wait_for_any(wires: &[Self]) -> io::Result<()> {
        let mut wanted: Vec<PollFd<'_>> =
            wires.iter().map(|wire| PollFd::new(wire.socket.as_fd(), PollFlags::POLLIN)).collect();
        match poll(&mut wanted, MOMENT_MS) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// How many frames have been lost since the last call because nobody took them.
    ///
    /// # Errors
    /// Where the kernel does not say.
    pub fn lost(&self) -> io::Result<u32> {
        let mut stats = libc::tpacket_stats { tp_packets: 0, tp_drops: 0 };
        let mut len = mem::size_of_val(&stats) as u32;
        let (fd, option) = (self.socket.as_raw_fd(), libc::PACKET_STATISTICS);
        let to = ptr::from_mut(&mut stats).cast();
        // SAFETY: the pointer is that of a value of the length given.
        let code = unsafe { libc::getsockopt(fd, libc::SOL_PACKET, option, to, &raw mut len) };
        Errno::result(code)?;
        Ok(stats.tp_drops)
    }
}
