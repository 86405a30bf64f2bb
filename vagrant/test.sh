#!/bin/bash
# Really: `vagrant up` with LXC and our box, all nodes Ready and validated, `up` again, `vagrant destroy`, nothing left; for each number
# of machines in $1… (default: 1 and 3). Needs root. From the Makefile: LAB, KINSTALL_BIN, KINSTALL_BUNDLE.
set -euo pipefail
here=$(dirname "$(realpath "$0")")
work=$(realpath -m "$here/../target/vagrant")
mkdir -p "$work"
kubectl=$("$LAB" kubectl)
KINSTALL_BOX=$("$here/box/build.sh")
export KINSTALL_BOX KINSTALL_PROVIDER=lxc VAGRANT_HOME=$work/home VAGRANT_CWD=$here VAGRANT_CHECKPOINT_DISABLE=1

# timed WHAT COMMAND…
timed() {
  local what=$1 start=$EPOCHREALTIME
  shift
  "$@" > "$work/log" 2>&1 || { cat "$work/log"; echo "vagrant: $what failed" >&2; exit 1; }
  awk -v what="$what" -v start="$start" -v end="$EPOCHREALTIME" 'BEGIN { printf "vagrant: %7.1f s  %s\n", end - start, what }'
}

# What machines, networks or a cluster could leave.
traces() {
  lxc-ls -1 | grep '^vagrant_k' || true
  ls /sys/class/net | grep '^kinstall-vg' || true
  ls -d "$here"/{.kinstall,inventory.yaml,admin.kubeconfig,.vagrant/kinstall*} 2>/dev/null || true
}

cleanup() {
  vagrant destroy -f > /dev/null 2>&1 || true
  rm -rf "$here/.vagrant" "$work"
  # LXC leaves an empty control group in each hierarchy
  find /sys/fs/cgroup -type d -name lxc.pivot -exec rmdir {} + 2>/dev/null || true
}
trap cleanup EXIT

[ $# != 0 ] || set -- 1 3
for machines in "$@"; do
  export KINSTALL_HOSTS=$machines
  timed "vagrant up, $machines machines" vagrant up
  tail -12 "$work/log"
  "$kubectl" --kubeconfig "$here/admin.kubeconfig" get nodes -o wide
  ready=$("$kubectl" --kubeconfig "$here/admin.kubeconfig" get nodes --no-headers | grep -cw Ready)
  [ "$ready" = "$machines" ] || { echo "vagrant: $ready of $machines nodes are Ready" >&2; exit 1; }
  timed 'vagrant up again' vagrant up
  # the number is remembered
  unset KINSTALL_HOSTS
  timed 'vagrant destroy' vagrant destroy -f
  left=$(traces)
  [ -z "$left" ] || { printf 'vagrant: destroy left:\n%s\n' "$left" >&2; exit 1; }
done
