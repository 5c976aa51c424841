//! A daemon that comes and goes, and flows that may not notice.
//!
//! ```text
//!    client outside              host, netd                 containers
//!    asks    ==============>  published ports  ==========>  answers      a lane: one process asks
//!    answers <==============    masquerade     <==========  asks         over all of its flows,
//!    nobody  ..............  a full table      ...........  nobody       one answers
//! ```
//! Every flow carries numbered questions and their answers all the time. Meanwhile the daemon is restarted,
//! killed and replaced by another build (`trouble`). In the end both ends of each flow tell what they have
//! sent and received (`report`), and `verdict` puts the two together. The processes are one program,
//! `tests/src/bin/hitless.rs`.

pub mod answer;
pub mod ask;
pub mod end;
pub mod flows;
pub mod idle;
pub mod lane;
pub mod message;
pub mod report;
pub mod run;
pub mod stage;
pub mod trouble;
pub mod verdict;
