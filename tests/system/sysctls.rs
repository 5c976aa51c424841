//! The kernel settings that forwarding needs, which others like to reset.

use netd_tests::topology::World;

#[test]
fn a_host_without_ipv6_networks_keeps_its_ipv6_settings() {
    let world = World::new();
    world.netd("network create front --subnet 10.77.1.0/24").ok();
    assert_eq!(world.host.sysctl("ipv4/ip_forward"), "1");
    assert_eq!(world.host.sysctl("ipv6/conf/all/forwarding"), "0");
    world.network("back", 2, "");
    assert_eq!(world.host.sysctl("ipv6/conf/all/forwarding"), "1");
}
