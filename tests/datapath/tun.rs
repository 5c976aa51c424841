//! A device whose cable ends in this process: what is written to it the host receives.

use std::{
    fs::{File, OpenOptions},
    io::{Read as _, Write as _},
    os::{fd::AsRawFd as _, unix::fs::OpenOptionsExt as _},
};

use anyhow::{Context as _, Result, ensure};
use netd_tests::condition::eventually_some;
use nix::libc;

/// What a device carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Carries {
    /// Ethernet frames.
    Frames,
    /// IP packets, no link-layer header.
    Packets,
    /// IP packets whose transport checksum is still to be computed, as a container's stack sends them.
    PacketsToBeSummed,
}

/// The device; it is gone when this is dropped.
pub(crate) struct Tun {
    file: File,
    carries: Carries,
}

/// Length of `struct virtio_net_hdr` of `linux/virtio_net.h`.
const VIRTIO_NET_HDR_LEN: usize = 10;
/// `VIRTIO_NET_HDR_F_NEEDS_CSUM`.
const NEEDS_CSUM: u8 = 1;

impl Tun {
    /// Makes a device in the calling thread's namespace.
    pub(crate) fn new(name: &str, carries: Carries) -> Result<Self> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).custom_flags(libc::O_NONBLOCK);
        let file = options.open("/dev/net/tun").context("/dev/net/tun")?;
        let kind = match carries {
            Carries::Frames => libc::IFF_TAP,
            Carries::Packets => libc::IFF_TUN,
            Carries::PacketsToBeSummed => libc::IFF_TUN | libc::IFF_VNET_HDR,
        };
        let flags = libc::c_short::try_from(kind | libc::IFF_NO_PI)?;
        let mut request = libc::ifreq {
            ifr_name: [0; libc::IFNAMSIZ],
            ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_flags: flags },
        };
        ensure!(name.len() < libc::IFNAMSIZ, "{name} is too long");
        for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
            *to = from.cast_signed();
        }
        // SAFETY: the request is a valid `ifreq`, which is what the call reads and writes.
        let code = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
        nix::errno::Errno::result(code).with_context(|| format!("device {name}"))?;
        Ok(Self { file, carries })
    }

    /// Lets the host receive a frame or packet.
    pub(crate) fn send(&mut self, packet: &[u8]) -> Result<()> {
        let bytes = match self.carries {
            Carries::Frames | Carries::Packets => packet.to_vec(),
            Carries::PacketsToBeSummed => unsummed(packet),
        };
        let len = self.file.write(&bytes).context("the device takes no packet")?;
        ensure!(len == bytes.len(), "the device has taken {len} bytes");
        Ok(())
    }

    /// Waits for the host to send what `is_it` asks for; other packets are passed over.
    pub(crate) fn receive(&mut self, what: &str, is_it: impl Fn(&[u8]) -> bool) -> Vec<u8> {
        let header =
            if self.carries == Carries::PacketsToBeSummed { VIRTIO_NET_HDR_LEN } else { 0 };
        let mut buffer = [0; 2048];
        eventually_some(what, || {
            while let Ok(len) = self.file.read(&mut buffer) {
                let packet = &buffer[header.min(len)..len];
                if is_it(packet) {
                    return Some(packet.to_vec());
                }
            }
            None
        })
    }
}

/// A packet as a stack hands it to a device that computes checksums: the field holds the pseudo-header's
/// sum, and the header says where the rest goes.
fn unsummed(packet: &[u8]) -> Vec<u8> {
    let (start, proto, addresses) = match packet[0] >> 4 {
        4 => (20, packet[9], &packet[12..20]),
        _ => (40, packet[6], &packet[8..40]),
    };
    let offset: u16 = if proto == 6 { 16 } else { 6 };
    let len = (packet.len() - start) as u32;
    let pseudo = [&len.to_be_bytes()[..], &[0, 0, 0, proto]].concat();
    let sum = !netd_tests::packet::checksum(&[addresses, &pseudo]);
    let mut header = vec![NEEDS_CSUM, 0, 0, 0, 0, 0];
    // The fields are in the machine's own order.
    header.extend_from_slice(bytemuck::bytes_of(&(start as u16)));
    header.extend_from_slice(bytemuck::bytes_of(&offset));
    let mut packet = packet.to_vec();
    let field = start + usize::from(offset);
    packet[field..field + 2].copy_from_slice(&sum.to_be_bytes());
    [header, packet].concat()
}
