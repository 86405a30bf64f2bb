#!/bin/sh
# Keeps one lab host running until it powers off; a process of its own, so that hosts outlive the command that started them.
# Environment: HOST DIR NETNS SWITCH ADDRESS MAC GATEWAY MANAGER(systemd|by-hand) CGROUPS MODULES
# usage: supervise.sh run | nspawn (the one started by run) | clean
# Standard input is a locked file: the lock says "this host runs" and is given back by the kernel, however this ends.
set -u

network_clean() {
  ip -n "$SWITCH" link del "$HOST" 2>/dev/null
  ip netns del "$NETNS" 2>/dev/null
  return 0
}

network_make() {
  network_clean
  ip netns add "$NETNS" &&
  ip -n "$SWITCH" link add "$HOST" type veth peer name eth0 netns "$NETNS" &&
  ip -n "$SWITCH" link set "$HOST" master br0 &&
  ip -n "$NETNS" link set lo up &&
  ip -n "$NETNS" link set eth0 address "$MAC" up &&
  ip -n "$NETNS" address add "$ADDRESS/24" dev eth0 &&
  if [ ! -e "$DIR/cut" ]; then ip -n "$SWITCH" link set "$HOST" up; fi &&
  ip -n "$NETNS" route add default via "$GATEWAY" dev eth0 onlink
}

# cgroup v1 only: under systemd the scope does all this
cgroups_make() {
  for dir in $CGROUPS; do
    mkdir -p "$dir"
    if [ -e "$dir/cpuset.cpus" ]; then    # an empty cpuset admits no process: inherit on the way down
      parent=${dir%/*}
      for file in cpuset.cpus cpuset.mems; do
        cat "${parent%/*}/$file" > "$parent/$file"
        cat "$parent/$file" > "$dir/$file"
      done
    fi
  done
}

# kills whatever is left of the host, then removes its cgroups
cgroups_clean() {
  if [ "$MANAGER" = systemd ]; then
    systemctl kill --signal=KILL "klab-$HOST.scope" 2>/dev/null && systemctl stop "klab-$HOST.scope" 2>/dev/null
    return 0
  fi
  for dir in $CGROUPS; do
    [ -d "$dir" ] || continue
    for try in 1 2 3 4 5 6 7 8 9 10; do
      left=$(find "$dir" -name cgroup.procs -exec cat {} + 2>/dev/null)
      [ -n "$left" ] || break
      kill -KILL $left 2>/dev/null
      sleep 0.05
    done
    find "$dir" -depth -type d -exec rmdir {} + 2>/dev/null
    rmdir "${dir%/*}" 2>/dev/null
  done
  return 0
}

nspawn() {
  echo $$ > "$DIR/nspawn.pid"
  # what this host's namespace also has mounted would live on when another host loses its power
  for root in "${DIR%/*}"/*/root; do
    if [ "$root" != "$DIR/root" ] && mountpoint -q "$root"; then umount --lazy "$root"; fi
  done
  for dir in $CGROUPS; do echo 0 > "$dir/cgroup.procs"; done
  set --
  for device in /dev/fuse /dev/net/tun /dev/kmsg; do [ -e $device ] && set -- "$@" --bind=$device; done
  [ -n "$MODULES" ] && set -- "$@" --bind-ro=/lib/modules
  # no --boot: lab-init has to prepare cgroups before systemd looks at them
  SYSTEMD_SECCOMP=0 SYSTEMD_NSPAWN_API_VFS_WRITABLE=yes SYSTEMD_NSPAWN_LOCK=0 SYSTEMD_NSPAWN_USE_CGNS=1 SYSTEMD_NSPAWN_TMPFS_TMP=0 \
  exec systemd-nspawn --quiet --directory="$DIR/root" --machine="$HOST" --hostname="$HOST" --register=no --keep-unit \
    --network-namespace-path="/run/netns/$NETNS" --capability=all --resolv-conf=off --timezone=off --link-journal=no \
    --console=read-only --kill-signal=SIGRTMIN+4 "$@" /usr/local/sbin/lab-init
}

case $1 in
clean)
  cgroups_clean
  network_clean
  ;;
nspawn)
  nspawn
  ;;
run)
  apart='unshare --mount --propagation slave'
  while :; do
    network_make || { echo "lab: cannot make the network of $HOST"; exit 1; }
    if [ "$MANAGER" = systemd ]; then
      # a scope for nspawn alone: cgroup v2 delegates no controllers where a process sits in the inner node
      systemd-run --scope --quiet --collect --unit="klab-$HOST" --property=Delegate=yes $apart sh "$0" nspawn </dev/null
    else
      cgroups_make
      $apart sh "$0" nspawn </dev/null
    fi
    code=$?
    rm -f "$DIR/nspawn.pid"
    echo "lab: $HOST ended with $code"
    [ "$MANAGER" = systemd ] || cgroups_clean
    [ $code = 133 ] || break    # 133: the host asked for a reboot
  done
  network_clean
  ;;
esac
