#!/bin/busybox sh
# The first process of a guest: makes a root of the host's files, with memory above them for what is written.
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
for module in $(cat /load-order); do insmod "/lib/$module"; done

shared=ro,trans=virtio,version=9p2000.L,msize=512000,cache=loose
mkdir -p /host /memory /root
mount -t 9p -o "$shared" host /host
mount -t tmpfs memory /memory
mkdir /memory/upper /memory/work
mount -t overlay -o lowerdir=/host,upperdir=/memory/upper,workdir=/memory/work overlay /root
mkdir -p /root/lib/modules
mount -t 9p -o "$shared" kernel /root/lib/modules
for place in proc sys dev; do mount --move "/$place" "/root/$place"; done
mkdir -p /root/dev/pts /root/dev/shm
mount -t devpts pts /root/dev/pts
mount -t tmpfs shm /root/dev/shm
mount -t tmpfs run /root/run
mkdir -p /root/run/netns
mount -t cgroup2 cgroup /root/sys/fs/cgroup

# The guest ends with its task, and leaves its exit code on the second serial port. Its root is the kernel's
# from here on, which looks for modprobe there.
cp /task /bin/busybox /root/run
echo 'bash /run/task; echo "$?" > /dev/ttyS1; /run/busybox poweroff -f' > /root/run/guest
exec switch_root /root /bin/bash /run/guest
