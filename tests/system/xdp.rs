//! XDP on uplinks: hostile frames end in the driver, everything else goes on, and the program comes and
//! goes as it is told.

use std::{collections::BTreeSet, fs, net::IpAddr};

use aya::{
    EbpfLoader,
    programs::{Xdp, XdpMode},
};
use netd_tests::{
    clients::{ask_udp, fetch_big, pings},
    condition::eventually,
    family::Family,
    packet::{HOST_MAC, Kind, OTHER_MAC, Packet, SYN},
    prog::object_path,
    raw::send_frames,
    servers,
    topology::{UPLINK, World, at},
};
use nix::sys::signal::Signal;

/// Linux's `XDP_ATTACHED_DRV`.
const NATIVE: u64 = 1;

/// The XDP program on a device of the host: its id. One that is not in the driver is a fault.
#[track_caller]
fn xdp(world: &World, ifname: &str) -> Option<u64> {
    let links = world.host.run(&format!("ip -json link show dev {ifname}")).json();
    let xdp = &links[0]["xdp"];
    if xdp.is_null() {
        return None;
    }
    assert_eq!(xdp["mode"], NATIVE, "{xdp}");
    xdp["prog"]["id"].as_u64()
}

fn mac(bytes: [u8; 6]) -> String {
    bytes.map(|byte| format!("{byte:02x}")).join(":")
}

/// A host with one container behind published ports; its uplink has the address that frames are sent to.
fn world(args: &[&str]) -> World {
    let mut world = World::without_daemon("");
    world.host.ip(&[&format!("link set {UPLINK} address {}", mac(HOST_MAC))]);
    world.daemon.start_with(args);
    world.network("front", 1, "");
    world
}

/// Frames from the client that end in the driver, by reason.
fn hostile(family: Family) -> Vec<(&'static str, Vec<u8>)> {
    let (host, client) = (at(family.host(), 8080), at(family.client(), 40_000));
    let container: IpAddr = family.pick("10.77.1.200", "fd77:1::200").parse().unwrap();
    let loopback = family.loopback();
    let syn = Packet::new(Kind::Tcp(SYN), client, host);
    let mut rows = Vec::new();
    for kind in [Kind::Tcp(SYN), Kind::Udp, Kind::EchoRequest] {
        let packet = syn.with_kind(kind);
        rows.push(("spoofed_source", packet.from(at(container, 40_000)).frame()));
        rows.push(("loopback_address", packet.from(at(loopback, 40_000)).frame()));
        rows.push(("loopback_address", packet.to(at(loopback, 8080)).frame()));
    }
    let mut version = syn.frame();
    version[14] = 0x75;
    let mut header_len = syn.frame();
    header_len[syn.transport_offset() + 12] = 0x40;
    rows.extend([("malformed", version), ("malformed", header_len)]);
    rows
}

/// How many packets the classifiers of the uplink have dropped.
fn dropped_by_classifiers(world: &World) -> u64 {
    let qdiscs = world.host.run(&format!("tc -statistics -json qdisc show dev {UPLINK}")).json();
    let mut qdiscs = qdiscs.as_array().into_iter().flatten();
    let clsact = qdiscs.find(|qdisc| qdisc["kind"] == "clsact");
    clsact.and_then(|qdisc| qdisc["drops"].as_u64()).unwrap()
}

/// Sends the hostile frames, each of which is to be counted once; how many the classifiers have dropped.
#[track_caller]
fn send_hostile(world: &World) -> (u64, u64) {
    let dropped = dropped_by_classifiers(world);
    let rows: Vec<_> = Family::BOTH.into_iter().flat_map(hostile).collect();
    let reasons: BTreeSet<&str> = rows.iter().map(|(reason, _)| *reason).collect();
    let before: Vec<u64> = reasons.iter().map(|reason| world.packets(reason)).collect();
    let frames: Vec<Vec<u8>> = rows.iter().map(|(_, frame)| frame.clone()).collect();
    send_frames(&world.client, "eth0", &frames);
    for (reason, before) in reasons.iter().zip(before) {
        let sent = rows.iter().filter(|row| row.0 == *reason).count() as u64;
        eventually(&format!("{reason} is counted"), || world.packets(reason) >= before + sent);
        assert_eq!(world.packets(reason), before + sent, "{reason}");
    }
    (rows.len() as u64, dropped_by_classifiers(world) - dropped)
}

#[test]
fn hostile_frames_end_in_the_driver_and_are_counted_once() {
    let mut world = world(&["--xdp", "drop"]);
    assert_ne!(xdp(&world, UPLINK), None);
    let (_, by_classifiers) = send_hostile(&world);
    assert_eq!(by_classifiers, 0);

    // The classifiers judge alike.
    world.netd("stop").ok();
    world.daemon.wait();
    world.daemon.start_with(&["--xdp", "off"]);
    assert_eq!(xdp(&world, UPLINK), None);
    let (sent, by_classifiers) = send_hostile(&world);
    assert_eq!(by_classifiers, sent);
}

#[test]
fn the_uplinks_mac_address_is_followed() {
    let world = world(&["--xdp", "drop"]);
    world.host.ip(&[&format!("link set {UPLINK} address {}", mac(OTHER_MAC))]);
    let mut frame = hostile(Family::V4).remove(0).1;
    frame[..6].copy_from_slice(&OTHER_MAC);
    eventually("frames to the new address end in the driver", || {
        let before = (world.packets("spoofed_source"), dropped_by_classifiers(&world));
        send_frames(&world.client, "eth0", std::slice::from_ref(&frame));
        eventually("it is counted", || world.packets("spoofed_source") > before.0);
        dropped_by_classifiers(&world) == before.1
    });
    // Those to the old one are no longer the host's.
    let before = (world.packets("spoofed_source"), world.packets("other_host"));
    frame[..6].copy_from_slice(&HOST_MAC);
    send_frames(&world.client, "eth0", &[frame]);
    eventually("it is passed", || world.packets("other_host") > before.1);
    assert_eq!(world.packets("spoofed_source"), before.0);
}

/// A macvlan device lives in a network of its own, which may use the same addresses as a container.
#[test]
fn a_macvlan_device_on_the_uplink_receives_what_the_host_would_not() {
    let world = world(&["--xdp", "drop"]);
    let guest = world.sandbox("guest").namespace;
    world.host.ip(&[&format!(
        "link add link {UPLINK} name eth0 netns {} type macvlan mode bridge",
        guest.name()
    )]);
    guest.ip(&["link set eth0 up"]);
    for family in Family::BOTH {
        let (theirs, own) =
            family.pick(("10.77.1.201", "10.77.1.200"), ("fd77:1::201", "fd77:1::200"));
        let bits = family.pick(24, 64);
        guest.add_address("eth0", theirs.parse().unwrap(), bits);
        world.client.add_address("eth0", own.parse().unwrap(), bits);
        assert!(pings(&world.client, theirs.parse().unwrap()), "{family}");
    }
    assert_ne!(xdp(&world, UPLINK), None);
    assert_eq!(world.packets("spoofed_source"), 0);
}

#[test]
fn ordinary_traffic_goes_on_in_both_directions() {
    let world = world(&["--xdp", "drop"]);
    let web = world.container("web", "front", "-p 8080:80 -p 9000:9000/udp");
    let _nginx = servers::nginx(&web.namespace, &[80]);
    let _echo = servers::udp_echo(&web.namespace, 9000);
    let _outside = servers::nginx(&world.client, &[80]);
    // Frames that do not fit a page, for the second turn.
    for mtu in [1500, 9000] {
        for (namespace, ifname) in [(&world.host, UPLINK), (&world.client, "eth0")] {
            namespace.ip(&[&format!("link set {ifname} mtu {mtu}")]);
        }
        assert_ne!(xdp(&world, UPLINK), None, "{mtu}");
        for family in Family::BOTH {
            fetch_big(&world.client, at(family.host(), 8080));
            fetch_big(&web.namespace, at(family.remote(), 80));
            ask_udp(&world.client, at(family.host(), 9000), "hello");
            assert!(pings(&web.namespace, family.remote()));
            let size = mtu - family.pick(28, 48);
            let line = format!("ping -n -q -c 1 -W 5 -M do -s {size} {}", family.host());
            world.client.run(&line).ok();
        }
    }
    for reason in ["malformed", "spoofed_source", "loopback_address"] {
        assert_eq!(world.packets(reason), 0, "{reason}");
    }
}

#[test]
fn the_program_outlives_the_daemon_and_is_replaced_by_the_next_one() {
    let mut world = world(&["--xdp", "drop"]);
    let first = xdp(&world, UPLINK).unwrap();
    let links = world.daemon.bpffs().join(versioned("links"));
    let pins = || fs::read_dir(&links).unwrap().count();
    let count = pins();
    world.daemon.kill();
    assert_eq!(xdp(&world, UPLINK), Some(first));

    world.daemon.start_with(&["--xdp", "drop"]);
    assert_eq!(xdp(&world, UPLINK), Some(first));
    assert_eq!(pins(), count);

    // Another build has programs of its own.
    world.daemon.kill();
    world.daemon.forget_programs();
    world.daemon.start_with(&["--xdp", "drop"]);
    let second = xdp(&world, UPLINK).unwrap();
    assert_ne!(second, first);
    assert_eq!(pins(), count);
    assert_eq!(send_hostile(&world).1, 0);

    // What a daemon with other maps has left is taken up likewise.
    world.daemon.kill();
    world.daemon.forget_programs();
    let other = world.daemon.bpffs().join("v0/links");
    fs::create_dir_all(&other).unwrap();
    for pin in fs::read_dir(&links).unwrap().map(|entry| entry.unwrap().path()) {
        if pin.file_name().unwrap().to_string_lossy().starts_with("xdp_") {
            fs::rename(&pin, other.join(pin.file_name().unwrap())).unwrap();
        }
    }
    assert_eq!(pins(), count - 1);
    world.daemon.start_with(&["--xdp", "drop"]);
    assert_ne!(xdp(&world, UPLINK), Some(second));
    assert_eq!(pins(), count);
    assert!(!world.daemon.bpffs().join("v0").exists());
    assert_eq!(send_hostile(&world).1, 0);

    world.netd("stop --detach").ok();
    assert!(world.daemon.wait().success());
    assert_eq!(xdp(&world, UPLINK), None);
    assert!(!world.daemon.bpffs().exists());
}

fn versioned(folder: &str) -> String {
    format!("v{}/{folder}", netd_common::ABI_VERSION)
}

#[test]
fn what_a_dead_daemon_left_on_a_device_is_detached_or_taken_up() {
    let mut world = world(&["--xdp", "drop"]);
    // A device that goes while the daemon is dead leaves a link to nothing.
    world.add_link("up9", "eth9");
    eventually("the new uplink carries it", || xdp(&world, "up9").is_some());
    world.daemon.kill();
    let index = &world.host.run("ip -json link show dev up9").json()[0]["ifindex"];
    world.client.ip(&["link del eth9"]);
    world.host.ip(&[&format!("link add up9 index {index} type veth peer name up10")]);
    world.host.ip(&["link set up9 up"]);
    assert_eq!(xdp(&world, "up9"), None);
    world.daemon.start_with(&["--xdp", "drop"]);
    assert_ne!(xdp(&world, "up9"), None);

    world.daemon.kill();
    let remains = world.daemon.remains();
    world.netd(&format!("stop --detach {remains}")).ok();
    for ifname in [UPLINK, "up9"] {
        // The kernel lets go of a link some time after its last pin is removed.
        eventually(&format!("{ifname} carries none"), || xdp(&world, ifname).is_none());
    }
}

#[test]
fn the_setting_is_followed_at_a_restart_and_on_sighup() {
    let mut world = world(&["--xdp", "drop"]);
    assert_ne!(xdp(&world, UPLINK), None);
    world.daemon.kill();
    world.daemon.start_with(&["--xdp", "off"]);
    assert_eq!(xdp(&world, UPLINK), None);

    world.daemon.kill();
    world.daemon.configure("[datapath]\nmax_flows = 8192\nxdp = \"drop\"\n");
    world.daemon.start();
    assert_ne!(xdp(&world, UPLINK), None);
    for (setting, is_attached) in [("off", false), ("drop", true), ("auto", false)] {
        let text = format!("[datapath]\nmax_flows = 8192\nxdp = \"{setting}\"\n");
        world.daemon.configure(&text);
        world.daemon.signal(Signal::SIGHUP);
        eventually(setting, || xdp(&world, UPLINK).is_some() == is_attached);
    }
}

#[test]
fn uplinks_that_come_get_it_and_those_that_are_none_any_more_lose_it() {
    let world = world(&["--xdp", "drop"]);
    world.add_link("up9", "eth9");
    eventually("the new uplink carries it", || xdp(&world, "up9").is_some());
    world.host.ip(&["link add br-lan type bridge", "link set up9 master br-lan"]);
    eventually("a port is no uplink", || xdp(&world, "up9").is_none());
    assert_ne!(xdp(&world, UPLINK), None);
}

#[test]
fn auto_leaves_veths_alone_and_says_so_once() {
    let world = world(&[]);
    assert_eq!(xdp(&world, UPLINK), None);
    world.add_link("up9", "eth9");
    let said = |ifname: &str| {
        let log = world.daemon.log();
        let of = |line: &&str| line.contains("no XDP program") && line.contains(ifname);
        log.lines().filter(of).map(str::to_owned).collect::<Vec<_>>()
    };
    eventually("the new uplink has been seen", || !said("up9").is_empty());
    let lines = said(UPLINK);
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("INFO") && lines[0].contains("segmentation offload"), "{lines:?}");
}

#[test]
fn a_driver_that_cannot_is_named_where_it_was_asked_for() {
    let world = world(&["--xdp", "drop"]);
    world.host.ip(&[&format!("link add up8 link {UPLINK} type macvlan"), "link set up8 up"]);
    eventually("it is said", || {
        let log = world.daemon.log();
        let mut lines = log.lines().filter(|line| line.contains("no XDP program"));
        lines.any(|line| ["WARN", "up8", "no native XDP"].iter().all(|part| line.contains(part)))
    });
    assert_eq!(xdp(&world, "up8"), None);
    assert_ne!(xdp(&world, UPLINK), None);
}

#[test]
fn somebody_elses_program_is_left_alone() {
    let mut world = World::without_daemon("");
    let object = fs::read(object_path()).unwrap();
    let mut foreign = EbpfLoader::new().load(&object).unwrap();
    let program: &mut Xdp = foreign.program_mut("from_wire").unwrap().try_into().unwrap();
    program.load().unwrap();
    world.host.inside(|| program.attach(UPLINK, XdpMode::Driver).map(drop)).unwrap();
    let theirs = xdp(&world, UPLINK);
    assert_ne!(theirs, None);

    world.daemon.start_with(&["--xdp", "drop"]);
    assert_eq!(xdp(&world, UPLINK), theirs);
    assert!(world.daemon.log().contains("another XDP program, which is left alone"));
    world.netd("stop --detach").ok();
    assert!(world.daemon.wait().success());
    assert_eq!(xdp(&world, UPLINK), theirs);

    // Once it has gone, the next change of the host is the time to try again.
    world.daemon.start_with(&["--xdp", "drop"]);
    drop(foreign);
    world.host.ip(&[&format!("link set {UPLINK} mtu 1400")]);
    eventually("ours is on it", || {
        let now = xdp(&world, UPLINK);
        now.is_some() && now != theirs
    });
}
