#!/bin/bash
# busybox and openssl with the libraries they need, and nothing else. $1: the root.
set -euo pipefail
root=$1

rm -rf "$root"/etc/{apt,dpkg,fstab,hostname,resolv.conf} "$root"/var "$root"/usr/share "$root"/dev "$root"/usr/lib/ssl/misc \
  "$root"/usr/lib/x86_64-linux-gnu/{gconv,audit,engines-3} "$root"/usr/bin/c_rehash
mkdir -p "$root"/{dev,proc,sys,root,tmp,usr/sbin,var/run}
chmod 1777 "$root/tmp"
chroot "$root" /bin/busybox --install -s
echo 'root:x:0:0:root:/root:/bin/sh' > "$root/etc/passwd"
echo 'root:x:0:' > "$root/etc/group"
chroot "$root" /usr/bin/openssl version >/dev/null
for program in sh tar wget httpd nc cat grep; do chroot "$root" /bin/sh -c "command -v $program" >/dev/null; done

# runs for ever and ends when it is told to: a process without handlers ignores SIGTERM as PID 1
cat > "$root/bin/forever" <<'SH'
#!/bin/sh
trap 'exit 0' TERM INT
while :; do sleep 3600 & wait $!; done
SH
chmod 0755 "$root/bin/forever"
