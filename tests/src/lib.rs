//! What the tests of netd share: worlds made of network namespaces, real programs, and packets.

pub mod asking;
pub mod clients;
pub mod compliance;
pub mod condition;
pub mod daemon;
pub mod data_path;
pub mod docker;
pub mod family;
pub mod fragments;
pub mod hitless;
pub mod hostile;
pub mod mounts;
pub mod netns;
pub mod oracle;
pub mod packet;
pub mod process;
pub mod prog;
pub mod raw;
pub mod reasons;
pub mod scale;
pub mod servers;
pub mod soak;
pub mod steady;
pub mod streams;
pub mod stun;
pub mod topology;
