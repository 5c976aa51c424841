//! What others have put on a host: rules, filters, programs.

use super::*;

#[test]
fn rules_that_others_left_are_removed_by_the_fix() {
    let world = World::without_daemon("");
    for iptables in IPTABLES {
        for line in [
            "-N DOCKER",
            "-N DOCKER-USER",
            "-A FORWARD -j DOCKER-USER",
            "-t nat -N DOCKER",
            "-t nat -A PREROUTING -j DOCKER",
            "-A FORWARD -p tcp --dport 25 -j ACCEPT",
        ] {
            world.host.run(&format!("{iptables} {line}")).ok();
        }
    }
    world.host.run("nft add table inet netavark").ok();
    world.host.run("nft add chain inet netavark NETAVARK-ISOLATION-1").ok();
    world.host.run("iptables-nft -t nat -N CNI-HOSTPORT-DNAT").ok();
    let docker = |table| ["Docker has left chains in", table, "DOCKER, DOCKER-USER", "of yours"];
    let rows: [&[&str]; 6] = [
        &docker("table ip filter, table ip nat"),
        &docker("table ip6 filter, table ip6 nat"),
        &docker("table filter of iptables-legacy, table nat of iptables-legacy"),
        &docker("table filter of ip6tables-legacy, table nat of ip6tables-legacy"),
        &["netavark has left chains in table inet netavark"],
        &["CNI has left chains in table ip nat", "CNI-HOSTPORT-DNAT"],
    ];
    check_mended(&world, "leftovers", "finding", &rows);
    for iptables in IPTABLES {
        let rules = world.host.run(&format!("{iptables}-save")).ok();
        assert!(rules.contains("--dport 25"), "a rule of somebody's own is gone:\n{rules}");
    }
    // With its bridge, Docker may be there still.
    world.host.ip(&["link add docker0 type bridge"]);
    world.host.run("ip6tables-nft -N DOCKER").ok();
    let row = ["Docker has chains in table ip6 filter"];
    check_mended(&world, "leftovers", "finding", &[&row]);
}

#[test]
fn a_policy_of_drop_is_named_wherever_it_stands() {
    let world = World::without_daemon("");
    for iptables in IPTABLES {
        world.host.run(&format!("{iptables} -P FORWARD DROP")).ok();
    }
    for family in ["inet", "ip", "ip6"] {
        world.host.run(&format!("nft add table {family} shut")).ok();
        let chain = "{ type filter hook forward priority 0 ; policy drop ; }";
        world.host.run(&format!("nft add chain {family} shut way {chain}")).ok();
    }
    let rows: [&[&str]; 7] = [
        &["chain FORWARD of table ip filter", "stack's way"],
        &["chain FORWARD of table ip6 filter"],
        &["chain FORWARD of table filter of iptables-legacy"],
        &["chain FORWARD of table filter of ip6tables-legacy"],
        &["chain way of table inet shut"],
        &["chain way of table ip shut"],
        &["chain way of table ip6 shut"],
    ];
    check_mended(&world, "forward_policy", "finding", &rows);
}

#[test]
fn br_netfilter_is_named_where_rules_judge_what_a_bridge_switches() {
    let world = World::without_daemon("");
    if !Path::new("/proc/sys/net/bridge").exists() {
        return;
    }
    world.host.set_sysctl("bridge/bridge-nf-call-iptables", "1");
    assert_eq!(found(&world, "br_netfilter"), NOTHING);
    world.host.run("iptables-nft -A FORWARD -p tcp --dport 25 -j DROP").ok();
    let words = ["bridge-nf-call-iptables = 1", "chain FORWARD of table ip filter"];
    check_mended(&world, "br_netfilter", "finding", &[&words]);
}

#[test]
fn filters_of_others_on_an_uplink_are_named_by_their_place() {
    let world = World::without_daemon("");
    let tc = |line: &str| world.host.run(&format!("tc {line}")).ok();
    tc(&format!("qdisc add dev {UPLINK} clsact"));
    let u32 = "u32 match u32 0 0 classid 1:1";
    let both = ["ingress", "egress"];
    for (pref, status) in [(1, "fatal"), (50, "finding")] {
        let what = format!("u32 filter of preference {pref}");
        for way in both {
            tc(&format!("filter add dev {UPLINK} {way} pref {pref} protocol ipv6 {u32}"));
        }
        let rows = both.map(|way| [UPLINK, &*what, way]);
        check_mended(&world, "classifiers", status, &rows.each_ref().map(|row| &row[..]));
    }
    tc(&format!("qdisc del dev {UPLINK} clsact"));
    tc(&format!("qdisc add dev {UPLINK} ingress"));
    check_mended(&world, "classifiers", "fatal", &[&[UPLINK, "qdisc ingress", "clsact"]]);
}

#[test]
fn programs_of_netds_own_are_nothing_to_find_and_those_beside_them_are() {
    let mut world = World::without_daemon("");
    world.daemon.start_with(&["--xdp", "drop"]);
    world.network("front", 1, "");
    for check in ["classifiers", "xdp"] {
        assert_eq!(found(&world, check), NOTHING);
    }
    let mut ebpf = EbpfLoader::new().load_file(object_path()).unwrap();
    let program: &mut SchedClassifier = ebpf.program_mut("to_bridge").unwrap().try_into().unwrap();
    program.load().unwrap();
    // Where our filter is, and first.
    let options = tc::NlOptions { priority: 1, handle: tc::TcHandle::new(0, 1), classid: None };
    let options = tc::TcAttachOptions::Netlink(options);
    let id = world
        .host
        .inside(|| program.attach_with_options(UPLINK, TcAttachType::Ingress, options).unwrap());
    let all = found(&world, "classifiers");
    let [[status, message, fix]] = all.as_slice() else { panic!("not one finding: {all:?}") };
    assert_eq!(status, "finding");
    assert!(message.contains("bpf filter to_bridge of preference 1"), "{message}");
    type_in(&world, fix);
    assert_eq!(found(&world, "classifiers"), NOTHING);
    let filters = world.host.run(&format!("tc filter show dev {UPLINK} ingress")).ok();
    assert!(filters.contains("0x6e64 from_uplink"), "netd's own is gone too:\n{filters}");
    // What was removed is no longer the link's to remove.
    std::mem::forget(program.take_link(id).unwrap());
}

#[test]
fn an_xdp_program_of_somebody_else_is_named_in_either_mode() {
    let world = World::without_daemon("");
    let mut ebpf = EbpfLoader::new().load_file(object_path()).unwrap();
    let program: &mut Xdp = ebpf.program_mut("from_wire").unwrap().try_into().unwrap();
    program.load().unwrap();
    let pins = world.daemon.bpffs();
    fs::create_dir(pins).unwrap();
    let pin = pins.join("theirs");
    program.pin(&pin).unwrap();
    for mode in ["xdpdrv", "xdpgeneric"] {
        let line = format!("ip link set dev {UPLINK} {mode} pinned {}", pin.display());
        world.host.run(&line).ok();
        check_mended(&world, "xdp", "finding", &[&[UPLINK, "XDP program from_wire"]]);
    }
    // By a link, which only bpftool detaches.
    let _link = world.host.inside(|| program.attach(UPLINK, XdpMode::Driver)).unwrap();
    let all = found(&world, "xdp");
    assert!(all[0][2].starts_with("bpftool link detach id "), "{all:?}");
}

#[test]
fn a_tcx_program_on_an_uplink_is_named() {
    let world = World::without_daemon("");
    let mut ebpf = EbpfLoader::new().load_file(object_path()).unwrap();
    let program: &mut SchedClassifier = ebpf.program_mut("to_bridge").unwrap().try_into().unwrap();
    program.load().unwrap();
    let order = tc::TcAttachOptions::TcxOrder(LinkOrder::default());
    let attach = || program.attach_with_options(UPLINK, TcAttachType::Egress, order);
    // Before Linux 6.6 there is none.
    let Ok(link) = world.host.inside(attach) else { return };
    let all = found(&world, "classifiers");
    let [[status, message, fix]] = all.as_slice() else { panic!("not one finding: {all:?}") };
    assert_eq!(status, "finding");
    assert!(message.contains(&format!("{UPLINK} has the TCX program to_bridge")), "{message}");
    assert!(message.contains("on egress") && fix.starts_with("bpftool link detach"), "{all:?}");
    program.detach(link).unwrap();
    assert_eq!(found(&world, "classifiers"), NOTHING);
}
