//! Whether packets go where the model says, and nowhere else.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{SocketAddr, TcpStream, UdpSocket},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use socket2::SockRef;

use super::{
    generate::{FIRST_HOST_PORT, FIRST_PORT, HOST_PORTS},
    model::EndpointPlan,
    operation::{Endpoint, Kind, Sandbox},
    sandbox::plain,
    stage::Stage,
};
use crate::{
    clients::any_address, condition::within, family::Family, hostile::random::Random, topology::at,
};

/// How long a packet may take that should come.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// How long one is waited for that should not.
const IMPATIENCE: Duration = Duration::from_millis(30);

/// The client's port that containers send to.
const OUTSIDE_PORT: u16 = 7002;

/// Tries one thing, picked at random.
///
/// # Errors
/// Where a packet goes where it should not, or does not go where it should.
pub fn probe(stage: &Stage, random: &mut Random) -> Result<()> {
    let family = random.pick(&Family::BOTH);
    match random.below(4) {
        0 => try_neighbour(stage, family, random),
        1 => try_way_out(stage, family, random),
        _ => {
            let port = FIRST_HOST_PORT + random.below(HOST_PORTS.into()) as u16;
            try_port(stage, family, random.one_in(3), port)
        }
    }
}

/// From the client to a port of the host that may be published.
fn try_port(stage: &Stage, family: Family, udp: bool, port: u16) -> Result<()> {
    let (to, destination) = (at(family.host(), port), stage.model.destination(family, udp, port));
    let what = || format!("from the client to {to}, udp={udp}, should reach {destination:?}");
    match (destination, udp) {
        (Some((endpoint, own)), false) => reach_by_tcp(stage, to, endpoint, own),
        (Some((endpoint, own)), true) => reach_by_udp(stage, to, endpoint, own),
        (None, false) => is_refused(stage, to),
        (None, true) => Ok(()),
    }
    .with_context(what)
}

fn reach_by_tcp(stage: &Stage, to: SocketAddr, endpoint: Endpoint, port: u16) -> Result<()> {
    let mut client = stage.world.client.inside(|| TcpStream::connect_timeout(&to, PATIENCE))?;
    let accepted =
        stage.guest(stage.model.endpoints[&endpoint].sandbox)?.accepted(port, client.local_addr()?);
    let mut server = accepted.context("somebody else has answered")?;
    for stream in [&client, &server] {
        stream.set_read_timeout(Some(PATIENCE))?;
        // No port waits for late packets.
        SockRef::from(stream).set_linger(Some(Duration::ZERO))?;
    }
    server.set_nonblocking(false)?;
    let mut text = [0; 5];
    client.write_all(b"hello")?;
    server.read_exact(&mut text)?;
    server.write_all(&text)?;
    client.read_exact(&mut text)?;
    ensure!(&text == b"hello", "it is answered with {text:?}");
    Ok(())
}

fn is_refused(stage: &Stage, to: SocketAddr) -> Result<()> {
    match stage.world.client.inside(|| TcpStream::connect_timeout(&to, PATIENCE)) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok(()),
        Err(error) => bail!("it is not refused: {error}"),
        Ok(_) => bail!("there is a connection"),
    }
}

fn reach_by_udp(stage: &Stage, to: SocketAddr, endpoint: Endpoint, port: u16) -> Result<()> {
    let sandbox = stage.model.endpoints[&endpoint].sandbox;
    let guest = stage.guest(sandbox)?;
    let client = stage.world.client.inside(|| UdpSocket::bind(any_address(to, 0)))?;
    client.connect(to)?;
    client.set_read_timeout(Some(PATIENCE))?;
    client.send(b"hello")?;
    let peer = within(PATIENCE, || guest.received(port, b"hello")).context("nothing came")?;
    if stage.model.way_out(sandbox, Family::of(to.ip())) != Some(endpoint) {
        // The kernel gives the answer of a socket without an address that of the way out.
        return Ok(());
    }
    guest.answer(port, peer, b"answer")?;
    let mut buffer = [0; 16];
    let len = client.recv(&mut buffer).context("the answer")?;
    ensure!(&buffer[..len] == b"answer", "it is answered with {buffer:?}");
    Ok(())
}

/// From a container to the client: with the host's address, or not at all.
fn try_way_out(stage: &Stage, family: Family, random: &mut Random) -> Result<()> {
    let ways = stage
        .model
        .sandboxes
        .iter()
        .filter_map(|sandbox| Some((*sandbox, stage.model.way_out(*sandbox, family)?)));
    let ways: Vec<(Sandbox, Endpoint)> = ways.collect();
    if ways.is_empty() {
        return Ok(());
    }
    let (from, by) = random.pick(&ways);
    let to = at(family.client(), OUTSIDE_PORT);
    let outside = stage.world.client.inside(|| UdpSocket::bind(any_address(to, OUTSIDE_PORT)))?;
    outside.set_read_timeout(Some(PATIENCE))?;
    let inside = bound(stage, from, any_address(to, 0))?;
    inside.send_to(b"out", to).with_context(|| format!("from {from} by {by} to {to}"))?;
    let (_, source) =
        outside.recv_from(&mut [0; 16]).with_context(|| format!("from {from} by {by} to {to}"))?;
    ensure!(
        plain(source).ip() == family.host(),
        "what {from} sends by {by} to {to} comes from {source}"
    );
    Ok(())
}

/// From a container to another one's own address. Both are on one network only, so that there is one way.
fn try_neighbour(stage: &Stage, family: Family, random: &mut Random) -> Result<()> {
    let model = &stage.model;
    let kind = |plan: &EndpointPlan| model.networks[&plan.network].kind;
    let is_only = |(_, plan): &(&Endpoint, &EndpointPlan)| {
        kind(plan).has(family) && model.of_sandbox(plan.sandbox).count() == 1
    };
    let only: Vec<(&Endpoint, &EndpointPlan)> = model.endpoints.iter().filter(is_only).collect();
    if only.len() < 2 {
        return Ok(());
    }
    let ((_, from), (name, to)) = (random.pick(&only), random.pick(&only));
    let is_reached = if from.network == to.network {
        kind(from) != Kind::Apart
    } else {
        model.is_allowed(from.network, to.network)
    };
    if from.sandbox == to.sandbox {
        return Ok(());
    }
    let destination = at(stage.address(*name, family)?, FIRST_PORT);
    let socket = bound(stage, from.sandbox, any_address(destination, 0))?;
    let (text, guest) = (format!("{:x}", random.below(usize::MAX)), stage.guest(to.sandbox)?);
    let arrived = within(if is_reached { PATIENCE } else { IMPATIENCE }, || {
        // Without a way out, or while a neighbour is looked for in vain, the kernel refuses.
        let _ = socket.send_to(text.as_bytes(), destination);
        guest.received(FIRST_PORT, text.as_bytes())
    });
    ensure!(
        arrived.is_some() == is_reached,
        "from {} to {name} at {destination} it should be {is_reached} that packets arrive",
        from.sandbox
    );
    Ok(())
}

fn bound(stage: &Stage, sandbox: Sandbox, own: SocketAddr) -> Result<UdpSocket> {
    Ok(stage.guest(sandbox)?.namespace.inside(|| UdpSocket::bind(own))?)
}
