//! Controls: legal packets that have to arrive, so that silence means something.

use std::{
    collections::BTreeSet,
    io,
    net::{IpAddr, SocketAddr, UdpSocket},
};

use super::{
    link::Link,
    mark::{Mark, Marks},
    stage::Stage,
    transport::WORLD_PORT,
    wire::Wire,
};
use crate::{clients::udp_socket, family::Family, netns::Namespace};

/// A control: how it is sent, and who has to see it.
pub struct Control {
    /// What it shows.
    pub name: String,
    /// The station that has to see it.
    pub at: usize,
    way: Way,
}

enum Way {
    Datagrams(UdpSocket),
    Frames { wire: Wire, frame: Vec<u8> },
}

impl Control {
    /// Sends it once. What cannot be sent is not seen either.
    pub fn send(&self, marks: Marks, number: u32) {
        let mark = marks.bytes(Mark::Control(number)).repeat(2);
        let _ = match &self.way {
            Way::Datagrams(socket) => socket.send(&mark).map(|_| ()),
            Way::Frames { wire, frame } => {
                let frame = [&frame[..], &mark].concat();
                wire.ifindex("eth0").and_then(|ifindex| wire.send(ifindex, &frame))
            }
        };
    }
}

/// The controls of a stage: to every container that is connected from the host, to every published port
/// and from every network outside, and between the neighbours that may do no more.
///
/// # Errors
/// Where there is no socket to be had.
pub fn controls(stage: &Stage, connected: &BTreeSet<&str>) -> io::Result<Vec<Control>> {
    let mut controls = Vec::new();
    for (at, station) in stage.scene.stations.iter().enumerate().skip(1) {
        if !connected.contains(station.name) {
            continue;
        }
        for family in Family::BOTH {
            let name = station.name;
            let mut add = |name: String, at: usize, from: &Namespace, ip: IpAddr, port: u16| {
                let socket = udp_socket(from, SocketAddr::new(ip, port))?;
                controls.push(Control { name, at, way: Way::Datagrams(socket) });
                Ok::<_, io::Error>(())
            };
            let (host, client) = (&stage.world.host, &stage.world.client);
            add(format!("host to {name}, {family}"), at, host, station.address(family), 7)?;
            if let Some(published) = station.published {
                let name = format!("client to the port of {name}, {family}");
                add(name, at, client, family.host(), published.host_port)?;
            }
            if matches!(station.name, "app" | "mallory") {
                let from = stage.namespace(at);
                add(
                    format!("{name} to the world, {family}"),
                    0,
                    from,
                    family.remote(),
                    WORLD_PORT,
                )?;
            }
        }
    }
    let (from, at) = (stage.number("mallory"), stage.number("neighbour"));
    let link = Link { dst: stage.scene.stations[at].mac, ..Link::honest(&stage.scene, from) };
    let request = [0, 1, 8, 0, 6, 4, 0, 1].into_iter().chain([0; 20]).collect::<Vec<u8>>();
    let wire = Wire::sender(stage.namespace(from))?;
    let way = Way::Frames { wire, frame: link.frame(0x0806, &request) };
    controls.push(Control { name: "arp from mallory to neighbour".to_owned(), at, way });
    Ok(controls)
}
