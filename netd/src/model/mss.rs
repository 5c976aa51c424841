//! The largest TCP segment that a network lets its containers and their peers agree on.

use std::{fmt, num::NonZeroU16, str::FromStr};

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The smallest segment that Linux sends (`TCP_MIN_MSS`), and the largest that fits an IPv4 packet.
const RANGE: std::ops::RangeInclusive<u16> = 88..=65_495;

/// What the MSS in a SYN or SYN-ACK is lowered to. Its text is `auto` or a number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum MssClamp {
    /// What the route to the other end takes without fragments.
    Auto,
    /// This many bytes.
    Bytes(NonZeroU16),
}

/// Why a text is no [`MssClamp`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{text:?} is neither auto nor a number from {} to {}", RANGE.start(), RANGE.end())]
pub struct MssClampError {
    text: String,
}

impl FromStr for MssClamp {
    type Err = MssClampError;

    fn from_str(text: &str) -> Result<Self, MssClampError> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        let bytes = text.parse().ok().filter(|bytes: &NonZeroU16| RANGE.contains(&bytes.get()));
        bytes.map(Self::Bytes).ok_or_else(|| MssClampError { text: text.to_owned() })
    }
}

impl fmt::Display for MssClamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Bytes(bytes) => write!(f, "{bytes}"),
        }
    }
}

impl TryFrom<String> for MssClamp {
    type Error = MssClampError;

    fn try_from(text: String) -> Result<Self, MssClampError> {
        text.parse()
    }
}

impl From<MssClamp> for String {
    fn from(clamp: MssClamp) -> Self {
        clamp.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::MssClamp;

    #[test]
    fn a_clamp_is_auto_or_a_possible_size() {
        for text in ["auto", "88", "1220", "65495"] {
            assert_eq!(
                text.parse::<MssClamp>().map(|clamp| clamp.to_string()),
                Ok(text.to_owned())
            );
        }
        for text in ["", "0", "87", "65496", "1e3", "-1", "Auto", "99999"] {
            assert!(text.parse::<MssClamp>().is_err(), "{text}");
        }
    }
}
