#!/bin/bash
# Times the way of a cluster on three lab hosts and weighs what runs on the control-plane host.
set -euo pipefail
here=$(dirname "$(realpath "$0")")
bench=$here/../../target/bench
mkdir -p "$bench"
cd "$bench"
trap '"$LAB" down' EXIT

measure() {
  local name=$1 start=$EPOCHREALTIME
  shift
  "$@" > "$name.log" 2>&1 || { cat "$name.log"; echo "bench: $name failed" >&2; exit 1; }
  awk -v name="$name" -v start="$start" -v end="$EPOCHREALTIME" 'BEGIN { printf "%-24s %7.1f s\n", name, end - start }'
}

"$LAB" down
rm -rf .kinstall
measure hosts "$LAB" up 3
"$here/inventory.sh" > inventory.yaml
measure up "$KINSTALL_BIN" up -i inventory.yaml --yes --no-validate
measure validate "$KINSTALL_BIN" validate -i inventory.yaml
measure up-again "$KINSTALL_BIN" up -i inventory.yaml --yes --no-validate
for unit in control-plane kubelet proxy cni-agent containerd; do
  bytes=$("$LAB" ssh h1 systemctl show --property=MemoryCurrent --value "kinstall-$unit")
  case $bytes in *[!0-9]* | '') continue ;; esac
  printf '%-24s %7d MiB\n' "memory-$unit" $((bytes >> 20))
done
measure down "$KINSTALL_BIN" down -i inventory.yaml --yes
