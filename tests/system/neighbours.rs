//! What a container must not tell its neighbours.

use netd_tests::{
    condition::eventually,
    hostile::wire::Wire,
    packet::{Kind, Packet},
    topology::{World, at},
};

#[test]
fn with_icc_off_no_neighbour_passes_for_a_router() {
    let world = World::new();
    world.network("front", 1, "--icc=false");
    let web = world.container("web", "front", "--mac 02:77:00:00:00:01");
    let app = world.container("app", "front", "--mac 02:77:00:00:00:02");
    // With that kernel default any advertisement would be believed.
    assert_eq!(web.namespace.sysctl("ipv6/conf/eth0/accept_ra"), "1");
    let routes = || web.namespace.run("ip -6 route show default").ok();
    let before = (routes(), world.packets("icc_off"));
    let wire = Wire::sender(&app.namespace).unwrap();
    let (src, dst) =
        (at("fe80::77:ff:fe00:2".parse().unwrap(), 0), at("ff02::1".parse().unwrap(), 0));
    // An hour as a router; no prefix (RFC 4861 section 4.2).
    let payload = [&[0; 8][..], &[1, 1, 2, 0x77, 0, 0, 0, 2]].concat();
    let mut frame = Packet { payload, ..Packet::new(Kind::Icmp(134), src, dst) }.frame();
    frame[..12].copy_from_slice(&[0x33, 0x33, 0, 0, 0, 1, 2, 0x77, 0, 0, 0, 2]);
    // Hop limit, lifetime, and the checksum that goes with it: 0x40 << 8 | 0 and 0x0e10 more.
    frame[21] = 255;
    frame[58..62].copy_from_slice(&[0, 0, 0x0e, 0x10]);
    let sum = !u16::from_be_bytes([frame[56], frame[57]]);
    let sum = !(u32::from(sum) + 0x0e10) as u16;
    frame[56..58].copy_from_slice(&sum.to_be_bytes());
    wire.send(wire.ifindex("eth0").unwrap(), &frame).unwrap();
    eventually("the advertisement is dropped", || world.packets("icc_off") > before.1);
    assert_eq!(routes(), before.0);
}
