//! Turns the lines of a development build's programs into log events.
//!
//! A program logs numbers, for the verifier's sake: hook, reason, interface index, length.

use aya::Ebpf;
use aya_log::EbpfLogger;
use netd_common::{names::Hook, reason::Reason};
use tokio::io::unix::AsyncFd;
use tracing::{info, warn};

/// Forwards until the daemon ends. A log that cannot be read is said and does no harm.
pub(super) fn forward(ebpf: &mut Ebpf) {
    let logger = EbpfLogger::init_with_logger(ebpf, PacketLog).map_err(|error| error.to_string());
    // SAFETY: the logger's descriptor is that of its map, open and the same for as long as it lives.
    let register = |logger| unsafe { AsyncFd::register(logger) }.map_err(|error| error.to_string());
    match logger.and_then(register) {
        Ok(logger) => {
            #[expect(
                clippy::disallowed_methods,
                reason = "it ends with the daemon and owns nothing"
            )]
            tokio::spawn(forward_lines(logger));
        }
        Err(error) => warn!(error, "the packet log cannot be read"),
    }
}

async fn forward_lines(mut logger: AsyncFd<EbpfLogger<PacketLog>>) {
    while let Ok(mut ready) = logger.readable_mut().await {
        ready.get_inner_mut().flush();
        ready.clear_ready();
    }
}

/// Names the numbers of a line.
struct PacketLog;

impl log::Log for PacketLog {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let line = record.args().to_string();
        let mut numbers = line.split(' ').map(|number| number.parse::<u32>().ok());
        let mut next = || numbers.next().flatten();
        let (Some(hook), Some(reason), Some(ifindex), Some(len)) = (next(), next(), next(), next())
        else {
            warn!(line, "a line of the packet log that is not ours");
            return;
        };
        let hook = Hook::ALL.get(hook as usize).map_or("unknown", |hook| hook.name());
        let reason = Reason::from_code(reason).map_or("unknown", Reason::name);
        info!(target: "packet", hook, reason, ifindex, len);
    }

    fn flush(&self) {}
}
