//! The host's own sockets that wait for clients on ports that are published, and whose they are.

use crate::{
    doctor::facts::{Known, Listener, Unknown, Wanted},
    listeners, model,
};

pub(super) fn listeners(wanted: &Wanted) -> Known<Vec<Listener>> {
    let all = listeners::listeners().map_err(|error| Unknown::because(&error))?;
    let is_published = |listener: &model::Listener| {
        wanted.ports.iter().any(|wanted| {
            let published = &wanted.port;
            published.proto == listener.proto
                && (published.host_port..=published.host_port_end).contains(&listener.port)
        })
    };
    let published = all.into_iter().filter(is_published);
    Ok(published.map(|socket| Listener { process: listeners::process(&socket), socket }).collect())
}
