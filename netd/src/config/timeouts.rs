//! `[timeouts]`: a profile, and what differs from it, by conntrack's names.

use std::{fmt, num::NonZeroU32};

use netd_common::config::{Profile, Timeout};
use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, Visitor},
};

/// `[timeouts]`: how long a flow lives without a packet, by [`Timeout`]. Units: seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    pub secs: [u32; Timeout::COUNT],
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { secs: Timeout::of_profile(Profile::default()) }
    }
}

impl Timeouts {
    /// How long a flow with this timer lives without a packet.
    pub fn secs(&self, timeout: Timeout) -> u32 {
        self.secs[timeout as usize]
    }
}

/// The keys of the section.
const KEYS: [&str; Timeout::COUNT + 1] = {
    let mut keys = ["profile"; Timeout::COUNT + 1];
    let mut i = 0;
    while i < Timeout::COUNT {
        keys[i + 1] = Timeout::ALL[i].1;
        i += 1;
    }
    keys
};

enum Key {
    Profile,
    Timeout(Timeout),
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        if name == "profile" {
            return Ok(Self::Profile);
        }
        let timeout = Timeout::ALL.iter().find(|(_, known, _)| *known == name);
        timeout
            .map(|(timeout, ..)| Self::Timeout(*timeout))
            .ok_or_else(|| D::Error::unknown_field(&name, &KEYS))
    }
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase", remote = "Profile")]
enum ProfileName {
    Linux,
    Rfc,
    Lean,
}

#[derive(Deserialize)]
struct NamedProfile(#[serde(with = "ProfileName")] Profile);

struct Section;

impl<'de> Visitor<'de> for Section {
    type Value = Timeouts;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a profile and timeouts in seconds")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Timeouts, A::Error> {
        let (mut profile, mut chosen) = (Profile::default(), Vec::new());
        while let Some(key) = map.next_key()? {
            match key {
                Key::Profile => profile = map.next_value::<NamedProfile>()?.0,
                Key::Timeout(timeout) => chosen.push((timeout, map.next_value::<NonZeroU32>()?)),
            }
        }
        let mut secs = Timeout::of_profile(profile);
        chosen.into_iter().for_each(|(timeout, value)| secs[timeout as usize] = value.get());
        Ok(Timeouts { secs })
    }
}

impl<'de> Deserialize<'de> for Timeouts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Section)
    }
}
