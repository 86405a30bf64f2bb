#!/bin/bash
# Makes a box for vagrant-lxc from Debian 12's packages, those of a lab host, once for each state of its recipe; prints its path.
# Needs root, mmdebstrap and vagrant. KINSTALL_CACHE: where it is kept (default /var/cache/kinstall).
set -euo pipefail
here=$(dirname "$(realpath "$0")")
lab=$(realpath "$here/../../tests/lab/host")
suite=bookworm

# vagrant logs in with its well-known key and replaces it by one of its own
shopt -s nullglob
keys=(/usr/share/rubygems-integration/all/gems/vagrant-[0-9]*/keys/vagrant.pub /opt/vagrant/embedded/gems/*/gems/vagrant-[0-9]*/keys/vagrant.pub)
key=${keys[0]:-}
[ -n "$key" ] || { echo 'box: vagrant is not installed here; its public key goes into the box' >&2; exit 1; }

recipe() { find "$here" "$lab" -type f -printf '%P %m\n' -exec cat {} + | cat - "$key"; echo "$suite"; }
box=${KINSTALL_CACHE:-/var/cache/kinstall}/boxes/$(recipe | sha256sum | cut -c1-16).box
mkdir -p "$(dirname "$box")"
exec 9> "$box.lock"
flock 9
if [ -e "$box" ]; then
  touch "$box"
  echo "$box"
  exit
fi

echo "box: building $box (once)" >&2
work=$(mktemp -d "$box.XXXXXX")
trap 'rm -rf "$work"' EXIT
sources=()
[ ! -e /etc/apt/sources.list.d/debian.sources ] || ! grep -q "$suite" /etc/apt/sources.list.d/debian.sources ||
  sources=(/etc/apt/sources.list.d/debian.sources)
mmdebstrap --quiet --mode=root --variant=minbase --format=directory --include="$(paste -sd, "$lab/packages")" \
  --aptopt='APT::Install-Recommends "false"' --dpkgopt=force-unsafe-io \
  --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-exclude=/usr/share/doc/*' \
  --dpkgopt='path-include=/usr/share/doc/*/copyright' "$suite" "$work/rootfs" "${sources[@]}" >&2

cp -a --no-preserve=ownership "$here/rootfs/." "$work/rootfs"
install -m 755 "$lab/rootfs/usr/local/sbin/lab-init" "$work/rootfs/usr/local/sbin/lab-init"
bash "$here/customize.sh" "$work/rootfs" "$key" >&2

# what only this box needs; what a container needs to run Kubernetes is in the Vagrantfile
echo 'lxc.init.cmd = /usr/local/sbin/box-init' > "$work/lxc-config"
echo '{"provider": "lxc", "version": "1.0.0", "architecture": "amd64"}' > "$work/metadata.json"
tar -C "$work" --numeric-owner --xattrs -I 'gzip -1' -cf "$work/rootfs.tar.gz" ./rootfs
tar -C "$work" -cf "$work/box" metadata.json lxc-config rootfs.tar.gz
mv "$work/box" "$box"
find "$(dirname "$box")" -mindepth 1 ! -path "$box*" -mtime +1 -delete
echo "$box"
