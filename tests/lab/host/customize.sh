#!/bin/bash
# From Debian as installed to a host that boots in a lab. $1: the root.
set -euo pipefail
root=$1

chroot "$root" useradd --uid 1000 --create-home --shell /bin/bash --groups sudo admin    # sudo asks for the password
chroot "$root" useradd --uid 1001 --create-home --shell /bin/bash ops                    # sudo asks for nothing
echo 'admin:admin-password' | chroot "$root" chpasswd
chmod 440 "$root/etc/sudoers.d/ops"
chown -R 0:0 "$root/etc/sudoers.d"

# a host has keys and ids of its own; they come with its disk
rm -f "$root"/etc/ssh/ssh_host_*
: > "$root/etc/machine-id"
: > "$root/etc/fstab"
rm -f "$root/etc/resolv.conf"
echo 'nameserver 10.99.0.1' > "$root/etc/resolv.conf"

# hardware, terminals and periodic jobs: there are none, or they would work on the machine's own
chroot "$root" systemctl mask --quiet \
  systemd-udevd.service systemd-udevd-kernel.socket systemd-udevd-control.socket systemd-udev-trigger.service \
  systemd-modules-load.service systemd-sysctl.service sys-kernel-debug.mount sys-kernel-tracing.mount dev-hugepages.mount \
  systemd-timesyncd.service getty.target console-getty.service apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer \
  e2scrub_all.timer e2scrub_reap.service fstrim.timer systemd-networkd.service systemd-resolved.service

# systemd's units that come after an update of /usr have run, as on any host that was booted before
touch -r "$root/usr" "$root/etc/.updated" "$root/var/.updated"

rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/* "$root"/var/cache/debconf/*-old "$root"/usr/lib/udev/hwdb.d
