#!/bin/bash
# From Debian as installed, with its kernel, to a machine that boots under an emulator. $1: the root.
set -euo pipefail
root=$1

echo vm1 > "$root/etc/hostname"
printf '127.0.0.1\tlocalhost\n127.0.1.1\tvm1\n::1\tlocalhost ip6-localhost ip6-loopback\n' > "$root/etc/hosts"
printf '/dev/vda / ext4 rw,noatime 0 1\n' > "$root/etc/fstab"
rm -f "$root/etc/resolv.conf"
echo 'nameserver 10.98.0.1' > "$root/etc/resolv.conf"

# a machine has keys and ids of its own; they come with its disk
rm -f "$root"/etc/ssh/ssh_host_*
: > "$root/etc/machine-id"

chroot "$root" systemctl enable --quiet systemd-networkd.service
# periodic jobs would work while something is timed
chroot "$root" systemctl mask --quiet apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer fstrim.timer \
  systemd-timesyncd.service

rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/* "$root"/var/cache/debconf/*-old
