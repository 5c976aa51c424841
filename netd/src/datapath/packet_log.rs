//! Hands the lines of a development build's programs to the log, through the `log` crate.

use aya::Ebpf;
use aya_log::EbpfLogger;
use tokio::io::unix::AsyncFd;
use tracing::warn;

/// Forwards until the daemon ends. A log that cannot be read is said and does no harm.
pub(super) fn forward(ebpf: &mut Ebpf) {
    let logger = EbpfLogger::init(ebpf).map_err(|error| error.to_string());
    match logger.and_then(|logger| AsyncFd::new(logger).map_err(|error| error.to_string())) {
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

async fn forward_lines(mut logger: AsyncFd<EbpfLogger<&'static dyn log::Log>>) {
    while let Ok(mut ready) = logger.readable_mut().await {
        ready.get_inner_mut().flush();
        ready.clear_ready();
    }
}
