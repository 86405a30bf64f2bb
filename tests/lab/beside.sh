#!/bin/bash
# A lab beside others on one machine, for long runs: `beside.sh 2 make faults` works in lab 2, `beside.sh 2` ends it.
# Each has its own network, mounts, /run and cgroups, so all of them can have a host h1 at 10.99.0.11; what it keeps is in
# /var/tmp/kinstall-lab2. More hosts than one lab's want more inotify instances than a kernel has by default; see the first line below.
# Only where cgroup v1 is by hand (cgroup.rs): under systemd, a second lab's scopes would have the first one's names.
set -euo pipefail
[ "$(cat /proc/sys/fs/inotify/max_user_instances)" -ge 1024 ] || echo "beside: sysctl fs.inotify.max_user_instances=8192 first" >&2
number=${1:?usage: beside.sh NUMBER [COMMAND…]}
shift
state=/var/tmp/kinstall-lab$number
holder=$state.pid
[[ $number =~ ^[0-9]+$ ]] || { echo "beside: $number is no number" >&2; exit 2; }
[ ! -d /run/systemd/system ] || { echo "beside: not on a machine that runs systemd" >&2; exit 2; }

cgroups() {
  local hierarchy
  for hierarchy in /sys/fs/cgroup/*/; do
    [ ! -L "${hierarchy%/}" ] && [ -e "${hierarchy}cgroup.procs" ] && echo "${hierarchy}lab$number"
  done
  return 0
}

end() {
  local dir left
  for dir in $(cgroups); do
    [ -d "$dir" ] || continue
    while left=$(find "$dir" -name cgroup.procs -exec cat {} + 2>/dev/null) && [ -n "$left" ]; do
      kill -KILL $left 2>/dev/null || true
      sleep 0.1
    done
    find "$dir" -depth -type d -exec rmdir {} + 2>/dev/null || true
  done
  rm -rf "$holder" "$state"
}

enter_cgroups() {
  local dir file
  for dir in $(cgroups); do
    mkdir -p "$dir"
    for file in cpuset.cpus cpuset.mems; do
      [ ! -e "$dir/$file" ] || cat "${dir%/*}/$file" > "$dir/$file"
    done
    echo $$ > "$dir/cgroup.procs"
  done
}

# what this lab's mounts also had of another one's disks would keep them busy when that one's hosts lose their power
begin() {
  unshare --mount --net --propagation private bash -c '
    grep -o " /var/tmp/kinstall-lab[^ ]*/root " /proc/self/mountinfo | while read -r root; do umount --recursive --lazy "$root"; done
    mount -t tmpfs tmpfs /run
    mkdir /run/netns
    ip link set lo up
    echo $$ > "$0"
    exec sleep infinity' "$holder" </dev/null >/dev/null 2>&1 &
  local pid=$!
  disown
  until [ -s "$holder" ]; do
    kill -0 "$pid" 2>/dev/null || { echo "beside: lab $number gets no namespaces of its own (is this root?)" >&2; exit 1; }
    sleep 0.05
  done
}

[ $# != 0 ] || { end; exit 0; }
enter_cgroups
if ! kill -0 "$(cat "$holder" 2>/dev/null)" 2>/dev/null; then
  rm -f "$holder"
  begin
fi
mkdir -p "$state"
export KINSTALL_LAB=$state
exec nsenter --target "$(cat "$holder")" --mount --net --wdns="$PWD" -- "$@"
