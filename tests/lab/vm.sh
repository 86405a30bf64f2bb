#!/bin/bash
# A cluster on one emulated machine: Debian's own kernel, systemd as PID 1, cgroup v2, which the lab's hosts have not. A wrong clock,
# `up`, again, validation, limits of pods, memory that runs out, a restart of the network, a clock that jumps, a reboot, `down`. Needs root. From the Makefile: LAB, RELEASE, KINSTALL_BIN.
# VM_RELEASE: bookworm (12) or trixie (13). VM_ACCEL: qemu's accelerator (default: software; `kvm` where that works).
# VM_MEMORY in MiB. VM_KEEP=1 leaves the machine on, with its folder. VM_LIMIT: seconds for all of it.
set -euo pipefail
here=$(dirname "$(realpath "$0")")
release=${VM_RELEASE:-bookworm}
work=$here/../../target/vm/$release
tap=kinstall-vm0
address=10.98.0.11 # the guest's own configuration has it, and the machine's end .1

kinstall() { "$KINSTALL_BIN" "$@"; }
guest() { ssh -F "$work/ssh_config" vm1 "$@"; }
say() { printf '\n%s\n' "$*"; }

# timed WHAT COMMAND…
timed() {
  local what=$1 start=$EPOCHREALTIME status=0
  shift
  "$@" || status=$?
  awk -v what="$what" -v start="$start" -v end="$EPOCHREALTIME" 'BEGIN { printf "vm: %7.1f s  %s\n", end - start, what }' | tee -a "$work/times"
  return "$status"
}

clean() {
  local status=$?
  if [ "$status" != 0 ] && [ -e "$work/console.log" ]; then
    echo 'vm: failed; the machine said at last:' >&2
    tail -5 "$work/console.log" >&2
  fi
  [ "${VM_KEEP:-}" != 1 ] || { echo "vm: kept; ssh -F $work/ssh_config vm1; end it with: kill \$(cat $work/qemu.pid)"; exit "$status"; }
  power_off
  [ -z "${watchdog:-}" ] || kill "$watchdog" 2>/dev/null || true
  ip link del "$tap" 2>/dev/null || true
  ! mountpoint -q "$work/root" || umount "$work/root"
  [ "$status" != 0 ] || rm -rf "$work"
  exit "$status"
}

# Prints the folder of the machine's disk (a file system, no partitions), kernel and initrd, built once for each state of its recipe.
guest_image() {
  local recipe=$here/guest folder part root
  folder=${KINSTALL_CACHE:-/var/cache/kinstall}/guest/$( (find "$recipe" -type f -printf '%P %m\n' -exec cat {} +; echo "$release") | sha256sum | cut -c1-16)
  mkdir -p "${folder%/*}"
  exec 9> "$folder.lock"
  flock 9
  if [ ! -e "$folder" ]; then
    echo "vm: building $folder (once)" >&2
    part=$folder.partial root=$folder.root
    rm -rf "$part" "$root"
    mkdir "$part"
    mmdebstrap --quiet --mode=root --variant=minbase --format=directory --include="$(paste -sd, "$recipe/packages")" \
      --aptopt='APT::Install-Recommends "false"' --dpkgopt=force-unsafe-io \
      --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' "$release" "$root" >&2
    cp -a --no-preserve=ownership "$recipe/rootfs/." "$root"
    bash "$recipe/customize.sh" "$root" >&2
    cp "$root"/boot/vmlinuz-* "$part/vmlinuz"
    cp "$root"/boot/initrd.img-* "$part/initrd.img"
    truncate -s 8G "$part/disk.ext4"
    mkfs.ext4 -q -F -m 0 -J size=32 -d "$root" "$part/disk.ext4"
    rm -rf "$root"
    mv "$part" "$folder"
  fi
  touch "$folder"
  find "${folder%/*}" -mindepth 1 -maxdepth 1 ! -path "$folder*" -mtime +1 -exec rm -rf {} +
  exec 9>&-
  echo "$folder"
}

make_disk() {
  local image mounted=$work/root
  image=$(guest_image)
  cp "$image/vmlinuz" "$image/initrd.img" "$work"
  cp --sparse=always --reflink=auto "$image/disk.ext4" "$work/disk"
  ssh-keygen -q -N '' -t ed25519 -C kinstall-vm -f "$work/key"
  mkdir "$mounted"
  mount -o loop "$work/disk" "$mounted"
  ssh-keygen -q -N '' -t ed25519 -C vm1 -f "$mounted/etc/ssh/ssh_host_ed25519_key"
  install -d -m 700 "$mounted/root/.ssh"
  install -m 600 "$work/key.pub" "$mounted/root/.ssh/authorized_keys"
  echo "$address $(cut -d' ' -f1,2 "$mounted/etc/ssh/ssh_host_ed25519_key.pub")" > "$work/known_hosts"
  umount "$mounted"
  cat > "$work/ssh_config" <<CONFIG
Host vm1
  HostName $address
  User root
  IdentityFile $work/key
  IdentitiesOnly yes
  UserKnownHostsFile $work/known_hosts
  StrictHostKeyChecking yes
  ConnectTimeout 5
  LogLevel ERROR
CONFIG
}

# A cable to this machine alone: nothing is forwarded.
make_network() {
  ip link del "$tap" 2>/dev/null || true
  ip tuntap add dev "$tap" mode tap
  echo 0 > "/proc/sys/net/ipv4/conf/$tap/forwarding"
  ip address add "${address%.*}.1/24" dev "$tap"
  ip link set "$tap" up
}

power_on() {
  setsid qemu-system-x86_64 -nodefaults -no-user-config -display none -machine q35 -accel "${VM_ACCEL:-tcg,thread=multi}" \
    -cpu max -smp 2 -m "${VM_MEMORY:-2560}" -kernel "$work/vmlinuz" -initrd "$work/initrd.img" \
    -append 'root=/dev/vda rw console=ttyS0 net.ifnames=0 systemd.show_status=0' \
    -drive "file=$work/disk,if=virtio,format=raw,cache=unsafe" \
    -netdev "tap,id=cable,ifname=$tap,script=no,downscript=no" -device virtio-net-pci,netdev=cable \
    -serial "file:$work/console.log" < /dev/null > "$work/qemu.log" 2>&1 &
  echo $! > "$work/qemu.pid"
}

power_off() {
  [ -e "$work/qemu.pid" ] || return 0
  kill "$(cat "$work/qemu.pid")" 2>/dev/null || true
  wait "$(cat "$work/qemu.pid")" 2>/dev/null || true
  rm -f "$work/qemu.pid"
}

# Until SSH answers; `boot` is the id of the boot that is not meant. There is no event to wait for on the other side of a cable.
wait_ssh() {
  local boot=${1:-} now
  for _ in $(seq 300); do
    kill -0 "$(cat "$work/qemu.pid")" || { cat "$work/qemu.log" >&2; return 1; }
    now=$(guest cat /proc/sys/kernel/random/boot_id 2>/dev/null) && [ "$now" != "$boot" ] && return 0
    sleep 1
  done
  echo 'vm: the machine does not answer SSH' >&2
  return 1
}

reboot() {
  local boot
  boot=$(guest cat /proc/sys/kernel/random/boot_id)
  guest systemctl reboot || true
  wait_ssh "$boot"
}

. "$here/packages.sh"
. "$here/vm-kernel.sh"
command -v qemu-system-x86_64 > /dev/null || install_packages qemu-system-x86
rm -rf "$work"
mkdir -p "$work"
trap clean EXIT
(sleep "${VM_LIMIT:-1800}"; echo "vm: not done within ${VM_LIMIT:-1800} s" >&2; kill $$) &
watchdog=$!

make_disk
make_network
power_on
timed 'boots' wait_ssh
guest 'test "$(stat -fc %T /sys/fs/cgroup)" = cgroup2fs && test "$(cat /proc/1/comm)" = systemd && . /etc/os-release && echo "$PRETTY_NAME, $(uname -r), $(systemctl --version | head -1), cgroup v2"'

# without the sample's images: the machine is slow
cd "$work"
"$KINSTALL_BIN" bundle create --components "$RELEASE/kinstall-components" --pause "$RELEASE/pause" --runtime-dir "$("$LAB" runtime)" \
  --out bundle.tar.zst > /dev/null
cat > inventory.yaml <<YAML
cluster: vm
bundle: bundle.tar.zst
ssh:
  user: root
  identityFile: $work/key
  knownHostsFile: $work/known_hosts
hosts:
  - name: vm1
    address: $address
    role: controlPlane
# everything takes twenty times as long as on a machine
limits:
  connectTimeout: 60s
  hostTimeout: 30m
  readyTimeout: 15m
YAML
kubectl=$("$LAB" kubectl)
say 'a wrong clock'
timed 'a wrong clock is refused' check_wrong_clock
say 'kinstall up'
timed 'up' kinstall up -i inventory.yaml --yes --no-validate
say 'kinstall up again: nothing to do'
timed 'up again' kinstall up -i inventory.yaml --yes --no-validate
timed 'plan' kinstall plan -i inventory.yaml
say 'kinstall validate'
timed 'validate' kinstall validate -i inventory.yaml
say 'limits of pods'
timed 'pods' make_pods
timed 'limits stay' check_limits
timed 'memory runs out' check_out_of_memory
say 'a restart of the network'
timed 'routes come back' check_routes
say 'a clock that jumps'
timed 'the clock an hour ahead, and back' check_jumping_clock
timed 'the pods go' remove_pods
timed 'validate after that' kinstall validate -i inventory.yaml
say 'a reboot'
timed 'reboots' reboot
timed 'validate after the reboot' kinstall validate -i inventory.yaml
say 'kinstall down'
timed 'down' kinstall down -i inventory.yaml --yes
guest '! ls -d /opt/kinstall /etc/kinstall /var/lib/kinstall /var/lib/kubelet 2>/dev/null && ! systemctl --failed --no-legend | grep . && ! systemctl list-units --no-legend "kinstall*" | grep . && ! find /sys/fs/cgroup -name "kubepods*" | grep .'
say 'times'
cat times
