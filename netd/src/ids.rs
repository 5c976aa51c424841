//! Identifiers that nobody can guess or meet twice: ids, MAC addresses, device names.
//!
//! Planning takes its randomness through [`IdSource`], so that tests are repeatable.

use std::{fs::File, io, io::Read as _};

use crate::model::MacAddr;

/// What the names of the host's ends of veth pairs begin with, and how many digits follow.
const HOST_IFNAME: &str = "veth";
const HOST_IFNAME_DIGITS: usize = 7;

/// Where random bytes come from.
pub trait IdSource {
    /// Fills the buffer.
    fn fill(&mut self, bytes: &mut [u8]);
}

/// The kernel's random numbers.
#[derive(Debug)]
pub struct Urandom {
    file: File,
}

impl Urandom {
    /// Opens `/dev/urandom`.
    ///
    /// # Errors
    /// Where there is no such device.
    pub fn open() -> io::Result<Self> {
        Ok(Self { file: File::open("/dev/urandom")? })
    }
}

impl IdSource for Urandom {
    fn fill(&mut self, bytes: &mut [u8]) {
        if let Err(error) = self.file.read_exact(bytes) {
            // random(4): a read of up to 256 bytes neither fails nor falls short.
            unreachable!("/dev/urandom gave no bytes: {error}");
        }
    }
}

/// A new id: 64 hexadecimal digits.
pub fn new_id(ids: &mut dyn IdSource) -> String {
    hex(&random::<32>(ids))
}

/// A new MAC address, locally administered (IEEE 802: the second bit of the first byte).
pub fn new_mac(ids: &mut dyn IdSource) -> MacAddr {
    let [a, b, c, d, e] = random(ids);
    MacAddr([0x02, a, b, c, d, e])
}

/// A new name for the host's end of a veth pair: `veth` and 7 hexadecimal digits, as Docker's.
pub fn new_host_ifname(ids: &mut dyn IdSource) -> String {
    let digits = hex(&random::<4>(ids));
    format!("{HOST_IFNAME}{}", &digits[..HOST_IFNAME_DIGITS])
}

/// Whether a name could be one of those.
pub fn is_host_ifname(name: &str) -> bool {
    let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    let digits = name.strip_prefix(HOST_IFNAME);
    digits.is_some_and(|it| it.len() == HOST_IFNAME_DIGITS && it.bytes().all(is_digit))
}

/// Random bytes.
pub fn random<const N: usize>(ids: &mut dyn IdSource) -> [u8; N] {
    let mut bytes = [0; N];
    ids.fill(&mut bytes);
    bytes
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A source that counts, for tests.
#[cfg(test)]
#[derive(Default)]
pub(crate) struct Counting(u64);

#[cfg(test)]
impl IdSource for Counting {
    fn fill(&mut self, bytes: &mut [u8]) {
        self.0 += 1;
        bytes.fill(0);
        let counter = self.0.to_le_bytes();
        let len = bytes.len().min(counter.len());
        bytes[..len].copy_from_slice(&counter[..len]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_of_the_hosts_ends_are_recognised() {
        assert!(is_host_ifname(&new_host_ifname(&mut Counting::default())));
        for other in
            ["veth", "veth012345", "veth01234567", "veth012345X", "vethABCDEF0", "eth0123456"]
        {
            assert!(!is_host_ifname(other), "{other}");
        }
    }
}
