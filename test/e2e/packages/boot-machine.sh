#!/usr/bin/env bash
# Boots systemd in namespaces of its own, over a throw-away copy of this machine's root. Ends with its parent.
# $1: an empty folder for the root; $2: a folder that both sides see at the same path.
set -euo pipefail
root=$1 shared=$2
mount --make-rprivate /
mount -t tmpfs -o mode=0755 machine "$root"
mkdir "$root"/{upper,work,merged,shared}
mount --bind "$shared" "$root/shared"
mount -t overlay overlay -o "lowerdir=/,upperdir=$root/upper,workdir=$root/work" "$root/merged"
cd "$root/merged"
mount -t proc proc proc
mount -t sysfs sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=0755 run run
mount -t tmpfs -o mode=1777 tmp tmp
mount -t tmpfs -o mode=0755 dev dev
for node in null:1:3 zero:1:5 full:1:7 random:1:8 urandom:1:9 tty:5:0; do
  IFS=: read -r name major minor <<<"$node"
  mknod -m 666 "dev/$name" c "$major" "$minor"
done
ln -s /proc/self/fd dev/fd
ln -s /proc/self/fd/0 dev/stdin
ln -s /proc/self/fd/1 dev/stdout
ln -s /proc/self/fd/2 dev/stderr
mkdir dev/shm dev/pts
chmod 1777 dev/shm
touch dev/console
mkdir -p ".$shared"
mount --move "$root/shared" ".$shared"
# A machine without units of the one that it is made of
rm -rf etc/systemd/system/*.wants usr/sbin/policy-rc.d
# and none that would reach through to the kernel that both share
for unit in systemd-udevd systemd-udev-trigger systemd-modules-load systemd-sysctl; do
  ln -sf /dev/null "etc/systemd/system/$unit.service"
done
for unit in systemd-udevd-kernel.socket systemd-udevd-control.socket sys-kernel-debug.mount sys-kernel-tracing.mount; do
  ln -sf /dev/null "etc/systemd/system/$unit"
done
# Not chroot: programs in one may make no user namespace
mkdir old
pivot_root . old
umount --lazy /old
rmdir /old
exec env -i container=test PATH=/usr/sbin:/usr/bin:/sbin:/bin \
  /lib/systemd/systemd --unit=basic.target --log-target=null --show-status=0
