//! The MSS of connections through an uplink is lowered where a network asks for it, and nothing else is.

use netd_common::{config::ConfigFlags, network::Network, reason::Reason};

use crate::{
    checksums,
    family::{Family, in_both_datapaths},
    message::{ACK, Kind, Message, SYN},
    place::{At, FROM_UPLINK, TO_UPLINK, bridge, from_endpoint, to_endpoint},
    scene::{Datapath, MTU, NET_A, Scene, UPLINK, WEB},
    tables::{HostRoute, Uplink},
};

in_both_datapaths! {
    a_syn_is_lowered_both_ways_to_what_the_way_takes,
    an_mss_is_never_raised,
    a_fixed_size_is_taken_as_it_is,
    nothing_but_an_option_of_a_syn_is_touched,
    without_the_option_nothing_is_lowered,
    between_containers_nothing_is_lowered,
}

/// The way out takes less than the network does.
const WAY: u16 = 1300;

fn clamped<A: Family>(datapath: Datapath, clamp: u16) -> Scene {
    let mut scene = Scene::on(datapath);
    scene.tables.config.flags |= ConfigFlags::MSS_CLAMPED;
    scene.tables.networks.get_mut(&NET_A).unwrap().mss_clamp = clamp;
    let narrow = Uplink { mtu: WAY.into(), ..Uplink::ethernet(UPLINK, A::outside(1)) };
    A::store_mut(&mut scene.tables).default_route = HostRoute::Uplink(narrow);
    scene
}

/// The headers of a packet without options.
fn headers<A: Family>() -> u16 {
    if A::ICMP == 1 { 40 } else { 60 }
}

fn mss_option(mss: u16) -> [u8; 4] {
    let [high, low] = mss.to_be_bytes();
    [2, 4, high, low]
}

fn call<A: Family>(flags: u8) -> Message<A> {
    Message::new(Kind::Tcp(flags), (A::inside(NET_A, 2), 5000), (A::outside(9), 443))
}

fn request<A: Family>(flags: u8) -> Message<A> {
    Message::new(Kind::Tcp(flags), (A::outside(7), 40_000), (A::host(1), WEB))
}

/// Sends a message with TCP options through a hook; what has become of them.
#[track_caller]
fn options_after<A: Family>(
    scene: &Scene,
    at: At,
    message: &Message<A>,
    options: &[u8],
) -> Vec<u8> {
    let mut packet = at.packet(message.with_tcp_options(options));
    let reason = scene.judge(at.hook, &mut packet);
    let first = if A::ICMP == 1 { 54 } else { 74 };
    assert!(checksums::of_ip_header(&packet.frame), "{reason:?}");
    assert!(checksums::of_transport(&packet.frame), "{reason:?} {options:?}");
    packet.frame[first..first + options.len()].to_vec()
}

/// Where what a container sends is translated.
fn outwards(datapath: Datapath) -> At {
    match datapath {
        Datapath::Fast => from_endpoint(NET_A, 2),
        Datapath::Stack => At { ingress: bridge(NET_A), ..TO_UPLINK },
    }
}

fn a_syn_is_lowered_both_ways_to_what_the_way_takes<A: Family>(datapath: Datapath) {
    let lowered = mss_option(WAY - headers::<A>());
    let scene = clamped::<A>(datapath, Network::MSS_OF_ROUTE);
    let out = outwards(datapath);
    assert_eq!(options_after(&scene, out, &call::<A>(SYN), &mss_option(1460)), lowered);
    let outside = call::<A>(SYN | ACK).from((A::host(1), 5000));
    let answer =
        Message { kind: Kind::Tcp(SYN | ACK), src: outside.dst, dst: outside.src, ..outside };
    assert_eq!(options_after(&scene, FROM_UPLINK, &answer, &mss_option(1460)), lowered);
    // A published port.
    assert_eq!(options_after(&scene, FROM_UPLINK, &request::<A>(SYN), &mss_option(1460)), lowered);
    let reply = request::<A>(SYN).to((A::inside(NET_A, 2), 80)).reply();
    assert_eq!(options_after(&scene, out, &reply, &mss_option(1460)), lowered);
}

fn an_mss_is_never_raised<A: Family>(datapath: Datapath) {
    let scene = clamped::<A>(datapath, Network::MSS_OF_ROUTE);
    for mss in [0, 536, WAY - headers::<A>()] {
        let option = mss_option(mss);
        assert_eq!(options_after(&scene, FROM_UPLINK, &request::<A>(SYN), &option), option);
    }
    // The network takes less than the way out does.
    let mut scene = scene;
    let wide = Uplink::ethernet(UPLINK, A::outside(1));
    A::store_mut(&mut scene.tables).default_route = HostRoute::Uplink(wide);
    let lowered = mss_option(MTU - headers::<A>());
    assert_eq!(options_after(&scene, FROM_UPLINK, &request::<A>(SYN), &mss_option(9000)), lowered);
}

fn a_fixed_size_is_taken_as_it_is<A: Family>(datapath: Datapath) {
    let scene = clamped::<A>(datapath, 1000);
    for (before, after) in [(1460, 1000), (1000, 1000), (999, 999)] {
        let option = mss_option(before);
        let options = options_after(&scene, outwards(datapath), &call::<A>(SYN), &option);
        assert_eq!(options, mss_option(after));
    }
}

fn nothing_but_an_option_of_a_syn_is_touched<A: Family>(datapath: Datapath) {
    let scene = clamped::<A>(datapath, 1000);
    let large = mss_option(1460);
    let at = FROM_UPLINK;
    // Behind other options, at an odd place too.
    for before in [&[1][..], &[1, 1], &[3, 3, 7], &[4, 2], &[8, 10, 1, 2, 3, 4, 5, 6, 7, 8]] {
        let options = [before, &large].concat();
        let lowered = [before, &mss_option(1000)].concat();
        assert_eq!(options_after(&scene, at, &request::<A>(SYN), &options), lowered);
    }
    // No such option, one that is cut off, or one behind the end of the list.
    for options in
        [&[2, 4][..], &[2, 3, 0xff], &[0, 2, 4, 5, 0xb4], &[3, 0, 2, 4, 5, 0xb4], &[8, 60]]
    {
        assert_eq!(options_after(&scene, at, &request::<A>(SYN), options), options);
    }
    assert_eq!(options_after(&scene, at, &request::<A>(ACK), &large), large);
}

fn without_the_option_nothing_is_lowered<A: Family>(datapath: Datapath) {
    let mut scene = clamped::<A>(datapath, 0);
    let large = mss_option(1460);
    assert_eq!(options_after(&scene, FROM_UPLINK, &request::<A>(SYN), &large), large);
    // Nobody asks for it: the program for rare packets is not called.
    scene.tables.config.flags &= !ConfigFlags::MSS_CLAMPED;
    scene.has_rare_programs = false;
    let plain =
        if datapath == Datapath::Fast { Reason::PublishedRedirected } else { Reason::Published };
    assert_eq!(scene.pass(FROM_UPLINK, &request::<A>(SYN)).0, plain);
}

fn between_containers_nothing_is_lowered<A: Family>(datapath: Datapath) {
    let scene = clamped::<A>(datapath, 1000);
    let large = mss_option(1460);
    let hairpin = request::<A>(SYN).from((A::inside(NET_A, 3), 40_000));
    assert_eq!(options_after(&scene, from_endpoint(NET_A, 3), &hairpin, &large), large);
    let neighbour = hairpin.to((A::inside(NET_A, 2), 80));
    assert_eq!(options_after(&scene, to_endpoint(NET_A, 2, 0), &neighbour, &large), large);
}
