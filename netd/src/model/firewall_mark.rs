//! The mark that a host's firewall gives packets.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A mark and the bits of it that count; its text is `VALUE/MASK`, as iptables has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct FirewallMark {
    pub value: u32,
    pub mask: u32,
}

/// Why a text is no [`FirewallMark`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "{text:?} is not a firewall mark; write it as 0x2 or 0x2/0x3, with a bit in the mask that is set"
)]
pub struct FirewallMarkError {
    text: String,
}

impl fmt::Display for FirewallMark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}/{:#x}", self.value, self.mask)
    }
}

impl FromStr for FirewallMark {
    type Err = FirewallMarkError;

    /// A mark without a bit would be that of packets nobody has marked, and one beside its mask that of none.
    fn from_str(text: &str) -> Result<Self, FirewallMarkError> {
        let (value, mask) = text.split_once('/').unwrap_or((text, "0xffffffff"));
        let mark = number(value).zip(number(mask)).map(|(value, mask)| Self { value, mask });
        mark.filter(|mark| mark.value != 0 && mark.value & !mark.mask == 0)
            .ok_or_else(|| FirewallMarkError { text: text.to_owned() })
    }
}

/// Go's `strconv.ParseUint` with base 0, without its underscores.
fn number(text: &str) -> Option<u32> {
    let lower = text.to_ascii_lowercase();
    let (digits, base) = match lower.as_bytes() {
        [b'0', b'x', ..] => (&lower[2..], 16),
        [b'0', b'b', ..] => (&lower[2..], 2),
        [b'0', b'o', ..] => (&lower[2..], 8),
        [b'0', _, ..] => (&lower[1..], 8),
        _ => (lower.as_str(), 10),
    };
    let is_signed = digits.starts_with(['+', '-']);
    u32::from_str_radix(digits, base).ok().filter(|_| !is_signed)
}

impl TryFrom<String> for FirewallMark {
    type Error = FirewallMarkError;

    fn try_from(text: String) -> Result<Self, FirewallMarkError> {
        text.parse()
    }
}

impl From<FirewallMark> for String {
    fn from(mark: FirewallMark) -> Self {
        mark.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::FirewallMark;

    #[test]
    fn marks_are_read_as_docker_reads_them() {
        for (text, expected) in [
            ("2/3", "0x2/0x3"),
            ("0x10/0xff", "0x10/0xff"),
            ("0b11", "0x3/0xffffffff"),
            ("010/0o17", "0x8/0xf"),
        ] {
            assert_eq!(text.parse::<FirewallMark>().unwrap().to_string(), expected);
        }
        for bad in ["", "/", "2/", "4/3", "0/3", "0", "x", "-1", "+1", "0x1ffffffff", "1/2/3"] {
            assert!(bad.parse::<FirewallMark>().is_err(), "{bad}");
        }
    }
}
