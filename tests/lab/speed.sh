#!/bin/bash
# Where the seconds of `up` go on three lab hosts: cold, with the bundle already unpacked here and data on the hosts, and with nothing
# to change. Each a picture in target/speed, and its line here.
set -euo pipefail
here=$(dirname "$(realpath "$0")")
speed=$here/../../target/speed
mkdir -p "$speed"
cd "$speed"
trap '"$LAB" down' EXIT

run() {
  local name=$1
  shift
  # the lab has its own idea of that folder
  KINSTALL_CACHE=$PWD/cache "$KINSTALL_BIN" up -i inventory.yaml --yes --output json --timeline "$name.svg" "$@" > "$name.json" 2> "$name.err" ||
    { tail -n 20 "$name.json" "$name.err"; echo "speed: $name failed" >&2; exit 1; }
  awk -v name="$name" '
    /"event":"apiReady"/ { api = millis($0) } /"event":"nodesReady"/ { nodes = millis($0) } /"event":"summary"/ { all = seconds($0) }
    function millis(line) { match(line, /"millis":[0-9]+/); return substr(line, RSTART + 9, RLENGTH - 9) / 1000 }
    function seconds(line) { match(line, /"totalSeconds":[0-9.]+/); return substr(line, RSTART + 15, RLENGTH - 15) }
    END { printf "%-12s API server %5.2f s, nodes Ready %5.2f s, all %5.2f s\n", name, api, nodes, all }' "$name.json"
}

"$LAB" down
rm -rf .kinstall cache
"$LAB" up 3
"$here/inventory.sh" > inventory.yaml
run cold
run unchanged
"$KINSTALL_BIN" down -i inventory.yaml --yes --keep-data > down.log
run warm
