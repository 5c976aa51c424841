#!/bin/sh
# What is tried with the package, in a system that may be thrown away. `netd.deb` is the older version.
set -eu
cd /check
export DEBIAN_FRONTEND=noninteractive
# The client's addresses end in 9, the host's in 1.
uplink_v4=192.0.2 uplink_v6=2001:db8:

step() { echo "check: $*"; }
fail() {
    echo "check: FAILED: $*"
    journalctl --no-pager --unit netd.service | tail -n 40
    exit 1
}
daemon() { systemctl show --value --property="$1" netd.service; }

# Waits until a command succeeds.
eventually() {
    for _ in $(seq 150); do
        if "$@" >/dev/null 2>&1; then return 0; fi
        sleep 0.1
    done
    fail "still not: $*"
}

fetch() { ip netns exec client curl --silent --show-error --max-time 5 --noproxy '*' "http://$1:8080/"; }
reached() {
    for host in "$uplink_v4.1" "[$uplink_v6:1]"; do
        [ "$(fetch "$host")" = "the page" ] || return 1
    done
}

make_hosts() {
    ip netns add client
    ip link add uplink type veth peer name eth0 netns client
    ip address add "$uplink_v4.1/24" dev uplink
    ip address add "$uplink_v6:1/64" dev uplink nodad
    ip -n client address add "$uplink_v4.9/24" dev eth0
    ip -n client address add "$uplink_v6:9/64" dev eth0 nodad
    for command in "link set uplink up" "link set lo up" "-n client link set eth0 up" \
        "route add default via $uplink_v4.9" "-6 route add default via $uplink_v6:9"; do
        ip $command
    done
    mkdir /srv/www
    echo "the page" >/srv/www/index.html
}

# What nobody may see afterwards.
traces() {
    # File systems apart: what is pinned lies on one of its own.
    for top in / /run /sys/fs/bpf; do
        find "$top" -xdev -name '*netd*' | sort
    done
    ip -brief link show type bridge
    for device in $(ip -brief link | cut -d' ' -f1 | cut -d@ -f1); do
        tc filter show dev "$device" ingress
        tc filter show dev "$device" egress
    done
}

make_hosts
traces >before

step "installs and starts"
dpkg --install netd.deb
[ "$(daemon ActiveState)" = active ] || fail "the daemon does not run"
systemctl is-enabled --quiet netd.service || fail "the daemon is not started at boot"
[ "$(stat -c '%a %U:%G' /run/netd/netd.sock)" = "660 root:netd" ] || fail "the socket is not the group's"
[ "$(stat -c %a /var/lib/netd)" = 700 ] || fail "the state is not root's alone"
# CAP_DAC_OVERRIDE, DAC_READ_SEARCH, NET_ADMIN, SYS_PTRACE, SYS_ADMIN, PERFMON and BPF (linux/capability.h).
held=$(sed -n 's/^CapEff:\t*//p' "/proc/$(daemon MainPID)/status")
[ "$held" = 000000c000281006 ] || fail "the daemon has the capabilities $held"

step "publishes a port"
netd network create front --subnet 10.9.0.0/24 --ipv6
# Named and begun after the daemon, whose unit has mounts of its own.
ip netns add web
unshare --net sleep 1000 &
eventually netd network connect front "pid:$!" --name begun_later
netd network connect front web --publish 8080:80
ip netns exec web busybox httpd -p '[::]:80' -h /srv/www
eventually reached
man_pages=$(dpkg -L netd | grep -c /man1/)
[ "$man_pages" -gt 20 ] || fail "$man_pages manual pages"

traces >during
[ "$(wc -l <during)" -gt "$(($(wc -l <before) + 20))" ] || fail "traces are not found"

step "reloads its configuration"
systemctl reload netd.service
[ "$(daemon ActiveState)" = active ] || fail "a reload ends it"

step "starts again when it dies, or hangs"
old=$(daemon MainPID)
kill -KILL "$old"
started_again() { [ "$(daemon ActiveState)" = active ] && [ "$(daemon MainPID)" != "$old" ]; }
eventually started_again
mkdir -p /run/systemd/system/netd.service.d
printf '[Service]\nWatchdogSec=2s\nWatchdogSignal=KILL\n' >/run/systemd/system/netd.service.d/watchdog.conf
systemctl daemon-reload
systemctl restart netd.service
old=$(daemon MainPID)
kill -STOP "$old"
reached || fail "packets wait for a daemon that hangs"
eventually started_again
rm -r /run/systemd/system/netd.service.d
systemctl daemon-reload

step "is upgraded while packets flow"
old=$(daemon MainPID)
touch /run/fetching
(while [ -e /run/fetching ]; do reached && echo reached || echo missed; done >fetched 2>&1) &
eventually grep -q reached fetched
echo "# mine" >>/etc/netd/netd.toml
dpkg --install next.deb
started_again || fail "the old program runs on"
before=$(wc -l <fetched)
more() { [ "$(wc -l <fetched)" -gt "$((before + 3))" ]; }
eventually more
rm /run/fetching
wait $!
if grep -v '^reached$' fetched; then fail "the upgrade was noticed"; fi
step "$(wc -l <fetched) times fetched in both families, none failed"
grep -q '^# mine$' /etc/netd/netd.toml || fail "the configuration was overwritten"
netd port ls | grep -q 8080 || fail "the port is forgotten"

step "stops, and packets flow"
systemctl stop netd.service
reached || fail "packets wait for a daemon that has stopped"
systemctl start netd.service

step "is removed"
dpkg --remove netd
[ -z "$(find /sys/fs/bpf -mindepth 1 -path '*netd*')" ] || fail "pins stay: $(find /sys/fs/bpf)"
[ -z "$(ip -brief link show type bridge)" ] || fail "bridges stay"
[ -e /var/lib/netd/netd.redb ] && [ -e /etc/netd/netd.toml ] || fail "a removal is no purge"

step "comes back with what it knew"
dpkg --install next.deb
[ "$(daemon ActiveState)" = active ] || fail "the daemon does not run"
netd port ls | grep -q 8080 || fail "the port is forgotten"

step "is purged"
dpkg --purge netd
traces >after
diff before after || fail "a purge leaves something"
echo "check: done"
