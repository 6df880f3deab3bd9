#!/bin/busybox sh
# PID 1 of a guest: the host's root read-only under a tmpfs, a disk for what needs one, then the command and its answer.
# Disks by position: vda is for TMPDIR, vdb holds the command (a tar archive), vdc takes the answer (another).
# Twice: from the initramfs, and as "$0 inside" from the new root. A mere chroot would not do: inside one there is no
# user namespace and no pivot_root (kernel/user_namespace.c, create_user_ns; fs/namespace.c).
B=/bin/busybox
[ "$1" = inside ] && B=/mnt/command/busybox
say() { $B echo "pagewarden: $*"; }
end() { $B sync; for proc in /root/proc /proc; do $B echo o >$proc/sysrq-trigger; done; while :; do $B sleep 1; done; }
must() { "$@" || { say "failed: $*"; end; }; }

if [ "$1" = inside ]; then
    cd /mnt/command
    ulimit -l unlimited
    $B uname -r >kernel
    say "running"
    (cd / && /bin/sh /mnt/command/command) >stdout 2>stderr </dev/null
    $B echo $? >status
    must $B tar -c -f /dev/vdc kernel stdout stderr status
    say "done"
    end
fi

$B mount -t proc proc /proc
$B mount -t sysfs sys /sys
$B mount -t devtmpfs dev /dev
exec >/dev/console 2>&1 </dev/null
while read -r module; do
    $B insmod /modules/$module.ko || say "the kernel does not take its module $module"
done </modules/order
must $B mount -t virtiofs -o ro root /lower
must $B mount -t tmpfs -o size=60% rw /rw
$B mkdir /rw/upper /rw/work
must $B mount -t overlay -o lowerdir=/lower,upperdir=/rw/upper,workdir=/rw/work over /root

cd /root
for place in proc sys dev; do $B mkdir -p $place; $B mount --move /$place $place; done
$B mkdir -p dev/pts dev/shm run mnt/disk mnt/command
$B mount -t devpts devpts dev/pts
$B mount -t tmpfs -o mode=1777 shm dev/shm
$B mount -t tmpfs run run
$B mount -t debugfs debugfs sys/kernel/debug 2>/dev/null
$B mount -t tracefs tracefs sys/kernel/tracing 2>/dev/null
must $B mount -t ext4 dev/vda mnt/disk
$B chmod 1777 mnt/disk
$B ip link set lo up
$B echo 4194304 >proc/sys/net/core/wmem_max
[ -e dev/kvm ] && $B chmod 666 dev/kvm
must $B tar -x -f dev/vdb -C mnt/command
$B cp /bin/busybox /init mnt/command/
exec $B switch_root /root /mnt/command/busybox sh /mnt/command/init inside
