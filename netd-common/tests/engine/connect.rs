//! Where a socket of the host itself is sent that connects to a published port.

use netd_common::{address::Port, engine::published_for_host};

use crate::{
    family::{Family, in_both_families},
    message::End,
    scene::{LOCAL, NET_A, NET_B, SPECIFIC, SPECIFIC_RANGE, Scene, WEB},
};

in_both_families! {
    a_connect_of_the_host_leads_to_the_container,
}

fn a_connect_of_the_host_leads_to_the_container<A: Family>() {
    let scene = Scene::new();
    let (a, b) = (A::inside(NET_A, 2), A::inside(NET_B, 2));
    let rows = [
        ("localhost", (A::LOOPBACK, WEB), Some((a, 80))),
        ("an address of the host", (A::host(1), WEB), Some((a, 80))),
        ("a bridge's address", (A::inside(NET_A, 1), WEB), Some((a, 80))),
        ("no address", (A::UNSPECIFIED, WEB), Some((a, 80))),
        ("no address, published on one", (A::UNSPECIFIED, SPECIFIC), None),
        ("no address, published on loopback", (A::UNSPECIFIED, LOCAL), Some((a, 82))),
        ("published on loopback", (A::LOOPBACK, LOCAL), Some((a, 82))),
        ("published on loopback alone", (A::host(1), LOCAL), None),
        ("someone else", (A::outside(9), WEB), None::<End<A>>),
        ("the container itself", (a, WEB), None),
        ("not published", (A::LOOPBACK, 22), None),
        ("published on one address", (A::host(2), SPECIFIC), Some((b, 90))),
        ("published on another address", (A::host(1), SPECIFIC), None),
        ("published on another address than this", (A::LOOPBACK, SPECIFIC), None),
        ("a range", (A::host(1), SPECIFIC_RANGE + 3), Some((b, SPECIFIC_RANGE + 3))),
    ];
    for (row, (addr, port), expected) in rows {
        let target = published_for_host(&scene.tables, addr, 6, Port::new(port));
        assert_eq!(target.map(|target| (target.addr, target.port.number())), expected, "{row}");
    }
}
