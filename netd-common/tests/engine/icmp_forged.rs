//! ICMP errors about no flow, or by who has no part in it.

use netd_common::{network::NetworkFlags, reason::Reason};

use crate::{
    family::{Family, in_both_families},
    icmp_error::{IcmpError, REDIRECT, ROUTER, masqueraded, published},
    message::{Kind, Message, SYN},
    place::{At, FROM_UPLINK, TO_UPLINK, bridge, from_endpoint, to_endpoint},
    runs::plain,
    scene::{Datapath, NET_A, NET_B, PLAIN, Scene, UPLINK, WEB},
};

in_both_families! {
    what_belongs_to_no_flow_is_the_hosts_or_goes_nowhere,
    who_has_no_part_in_a_flow_does_not_report_of_it,
    an_error_is_about_who_it_is_for,
    who_is_hidden_does_not_report_in_his_own_name,
}

fn what_belongs_to_no_flow_is_the_hosts_or_goes_nowhere<A: Family>() {
    let scene = Scene::new();
    let (host, web) = ((A::host(1), 5000), (A::outside(9), 443));
    let own = Message::<A>::new(Kind::Udp, host, web);
    let container = own.from((A::inside(NET_A, 2), 5000));
    let to_host = own.to((A::inside(NET_A, 1), 53)).from((A::inside(NET_A, 2), 5));
    let about = |message: &Message<A>, src| IcmpError::about(message, src).frame();
    let short = IcmpError::about(&own, A::outside(9)).cut(7).frame();
    let router = A::outside(ROUTER);
    scene.judges(&[
        ("the host's", FROM_UPLINK, about(&own, router), Reason::IcmpErrorToHost),
        ("the host's, cut short", FROM_UPLINK, short, Reason::IcmpErrorToHost),
        ("a container's", FROM_UPLINK, about(&container, router), Reason::DirectRouting),
        ("by a container's name", FROM_UPLINK, about(&own, container.src.0), Reason::SpoofedSource),
        (
            "from a container",
            TO_UPLINK,
            about(&container.reply(), container.src.0),
            Reason::IcmpError,
        ),
        (
            "to the host",
            from_endpoint(NET_A, 2),
            about(&to_host.reply(), to_host.src.0),
            Reason::ContainerToHost,
        ),
        (
            "routed to a container",
            to_endpoint(NET_A, 2, UPLINK),
            about(&container, router),
            Reason::Unsolicited,
        ),
    ]);
    if A::ICMP == 1 {
        let (call, outside) = masqueraded::<A>(&scene, Kind::Udp);
        let redirect = |message: &Message<A>, src| {
            IcmpError { kind: REDIRECT, ..IcmpError::about(message, src) }.frame()
        };
        let port = from_endpoint(NET_A, 3);
        let answer = redirect(&call.reply(), call.src.0);
        scene.judges(&[
            ("redirect", FROM_UPLINK, redirect(&outside, router), Reason::IcmpRedirect),
            (
                "redirect of the host's",
                FROM_UPLINK,
                redirect(&own, router),
                Reason::IcmpErrorToHost,
            ),
            ("redirect by a container", port, answer, Reason::IcmpRedirect),
        ]);
    }
}

fn who_has_no_part_in_a_flow_does_not_report_of_it<A: Family>() {
    for datapath in [Datapath::Stack, Datapath::Fast] {
        let mut scene = Scene::on(datapath);
        let (_, inside) = published::<A>(&scene, Kind::Tcp(SYN), WEB);
        let forged = IcmpError::about(&inside, A::inside(NET_B, 2)).frame();
        let other = from_endpoint(NET_B, 2);
        scene.judges(&[("another network", other, forged, Reason::ForgedIcmpError)]);
        // A neighbour may use any address of the subnet, unless that is forbidden.
        let neighbour = IcmpError::about(&inside, A::inside(NET_A, 3));
        let port = from_endpoint(NET_A, 3);
        let reason = scene.judge(port.hook, &mut port.packet(neighbour.frame()));
        assert_ne!(plain(reason), Reason::ForgedIcmpError);
        scene.set(NET_A, NetworkFlags::STRICT_SOURCE);
        let frame = neighbour.frame();
        scene.judges(&[("a neighbour", port, frame, Reason::ForgedIcmpError)]);
    }
}

fn an_error_is_about_who_it_is_for<A: Family>() {
    let scene = Scene::new();
    let (_, outside) = masqueraded::<A>(&scene, Kind::Udp);
    let (_, inside) = published::<A>(&scene, Kind::Tcp(SYN), WEB);
    let router = A::outside(ROUTER);
    let astray = |message, src, dst| IcmpError { dst, ..IcmpError::about(message, src) }.frame();
    let to_other = astray(&outside, router, A::host(2));
    let to_container = astray(&outside, router, A::inside(NET_A, 3));
    let leaving = astray(&inside, inside.dst.0, A::outside(8));
    scene.judges(&[
        ("to another of the host's addresses", FROM_UPLINK, to_other, Reason::ForgedIcmpError),
        ("to the container", FROM_UPLINK, to_container, Reason::ForgedIcmpError),
        ("to another client", from_endpoint(NET_A, 2), leaving.clone(), Reason::ForgedIcmpError),
        ("to another client", TO_UPLINK, leaving, Reason::ForgedIcmpError),
    ]);
}

/// A container on two networks: what the one hides is not to be seen by way of the other.
fn who_is_hidden_does_not_report_in_his_own_name<A: Family>() {
    for datapath in [Datapath::Stack, Datapath::Fast] {
        let mut scene = Scene::on(datapath);
        scene.share_sandbox::<A>((NET_A, 2), (PLAIN, 2));
        let call = Message::<A>::new(Kind::Udp, (A::inside(PLAIN, 2), 5), (A::outside(9), 53));
        let (port, routed) = (from_endpoint(PLAIN, 2), At { ingress: bridge(PLAIN), ..TO_UPLINK });
        scene.pass(port, &call);
        scene.pass(routed, &call);
        let hidden = || IcmpError::about(&call.reply(), A::inside(NET_A, 2)).frame();
        scene.judges(&[
            ("by its port", port, hidden(), Reason::ForgedIcmpError),
            ("routed", routed, hidden(), Reason::ForgedIcmpError),
        ]);
    }
}
