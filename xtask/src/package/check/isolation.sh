#!/bin/sh
# Boots a Debian system from a tar archive in namespaces of its own, with what is in WORK at /check:
#   isolation.sh outside WORK ARCHIVE
# Mounts are this mount namespace's, which ends with the last process in it.
set -eu
stage=$1 work=$2
root=$work/root

case $stage in
outside)
    archive=$3
    mkdir -p "$root" "$work/cgroup"
    mount -t tmpfs -o mode=0755 system "$root"
    tar -C "$root" -xf "$archive"
    # systemd makes its groups below one of ours, and takes that for the whole hierarchy.
    mount -t cgroup2 cgroup "$work/cgroup"
    group=$work/cgroup/netd-package-check-$$
    mkdir "$group"
    trap 'find "$group" -depth -type d -exec rmdir {} \;' EXIT
    unshare="unshare --cgroup --ipc --mount --net --pid --uts --fork --kill-child"
    sh -c 'echo $$ >"$1/cgroup.procs"; shift; exec "$@"' enter "$group" \
        $unshare sh "$0" inside "$work" </dev/null
    ;;
inside)
    mount -t proc proc "$root/proc"
    mount -t sysfs sysfs "$root/sys"
    mount -t cgroup2 cgroup "$root/sys/fs/cgroup"
    # As systemd does at boot, except in a container, which it takes this for.
    mount -t bpf -o nosuid,nodev,noexec,mode=0700 bpf "$root/sys/fs/bpf"
    mount -t tmpfs run "$root/run"
    mount -t tmpfs -o mode=0755 dev "$root/dev"
    for device in null zero full random urandom tty; do
        touch "$root/dev/$device"
        mount --bind "/dev/$device" "$root/dev/$device"
    done
    # Units get a /dev of their own that is like this one.
    ln -s pts/ptmx "$root/dev/ptmx"
    mkdir -p "$root/check"
    mount --bind "$work" "$root/check"
    cat >"$root/etc/systemd/system/check.service" <<UNIT
[Unit]
SuccessAction=exit
FailureAction=exit
[Service]
Type=oneshot
ExecStart=/bin/sh /check/steps.sh
StandardOutput=append:/check/log
StandardError=append:/check/log
UNIT
    cd "$root"
    mkdir outside
    pivot_root . outside
    exec chroot . /usr/bin/env -i container=netd PATH=/usr/sbin:/usr/bin:/sbin:/bin sh -c '
        umount --lazy /outside && rmdir /outside
        # As at boot: units with mounts of their own see the network namespaces that are named later.
        mount --make-rshared /
        exec /lib/systemd/systemd --unit=check.service --log-target=journal'
    ;;
esac
