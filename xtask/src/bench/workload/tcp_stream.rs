//! One TCP stream, by iperf3.

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::{Cpus, limit};
use crate::bench::{child::Child, testbed::Testbed};

/// Returns Gbit/s, as the receiver counts them.
pub(super) fn measure(bed: &Testbed, cpus: Cpus, seconds: u32, options: &[&str]) -> Result<f64> {
    let port = bed.port().to_string();
    let mut server = bed.container.command_on(cpus.server, "iperf3");
    server.args(["--server", "--one-off", "--port", &port]);
    let _server = Child::start(&mut server, &bed.log.with_extension("server"))?;
    bed.container.wait_for_listener(bed.port())?;

    let mut client = bed.client.command_on(cpus.client, "iperf3");
    client.args(["--json", "--port", &port, "--time", &seconds.to_string()]).args(options);
    client.args(["--client", &bed.target.ip().to_string()]);
    let output = Child::start(&mut client, &bed.log)?.finish(limit(seconds))?;
    gbits(&output)
}

fn gbits(output: &str) -> Result<f64> {
    let report: Value = serde_json::from_str(output).context("iperf3 wrote no JSON")?;
    let bits = report["end"]["sum_received"]["bits_per_second"].as_f64();
    Ok(bits.context("iperf3 does not say what was received")? / 1e9)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_received_is_taken_and_not_what_was_sent() {
        let report = r#"{"end": {"sum_sent": {"bits_per_second": 9e9},
                                 "sum_received": {"bits_per_second": 2.5e9}}}"#;
        assert!((gbits(report).unwrap() - 2.5).abs() < 1e-9);
        assert!(gbits(r#"{"error": "unable to connect"}"#).is_err());
    }
}
