//! New connections, by wrk against an nginx that ends each of them after one small answer.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};

use super::{Cpus, limit};
use crate::bench::{
    child::Child,
    testbed::{Testbed, unspecified},
};

/// How many connections wrk has open at a time.
const CONCURRENT: &str = "64";

/// Returns connections a second.
pub(super) fn measure(bed: &Testbed, cpus: Cpus, seconds: u32) -> Result<f64> {
    let folder = bed.log.with_extension("nginx");
    let config = folder.join("nginx.conf");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    fs::write(&config, nginx_config(&folder, bed)).context("cannot write nginx's configuration")?;
    let mut server = bed.container.command_on(cpus.server, "nginx");
    server.arg("-p").arg(&folder).arg("-c").arg(&config).args(["-e", "stderr"]);
    let _server = Child::start(&mut server, &bed.log.with_extension("server"))?;
    bed.container.wait_for_listener(bed.port())?;

    let mut client = bed.client.command_on(cpus.client, "wrk");
    client.args(["--threads", "1", "--connections", CONCURRENT, "--duration"]);
    client.args([&format!("{seconds}s"), "--header", "Connection: close"]);
    client.arg(format!("http://{}/", bed.target));
    let output = Child::start(&mut client, &bed.log)?.finish(limit(seconds))?;
    requests_per_second(&output)
        .with_context(|| format!("cannot read what wrk says:\n{}", output.trim()))
}

fn nginx_config(folder: &Path, bed: &Testbed) -> String {
    let folder = folder.display();
    let listen = std::net::SocketAddr::new(unspecified(bed.target), bed.port());
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let temporary = temporary.map(|kind| format!("{kind}_temp_path {folder}/{kind};")).concat();
    format!(
        "daemon off; master_process off; pid {folder}/pid;\n\
         events {{ worker_connections 4096; }}\n\
         http {{ access_log off; {temporary} server {{ \
         listen {listen} backlog=4096; location / {{ return 200 ok; }} }} }}\n"
    )
}

/// Each request has a connection of its own.
fn requests_per_second(output: &str) -> Option<f64> {
    let line = output.lines().find_map(|line| line.trim().strip_prefix("Requests/sec:"))?;
    line.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_found_in_what_wrk_writes() {
        let output = "Running 1s test @ http://192.0.2.1:10000/\n  2 requests in 1.00s, 300B read\n\
                      Requests/sec:  21834.12\nTransfer/sec:      3.24MB\n";
        assert_eq!(requests_per_second(output), Some(21_834.12));
        assert_eq!(requests_per_second("unable to connect"), None);
    }
}
