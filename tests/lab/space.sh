#!/bin/bash
# Says early whether there is room for all that `make test` writes, counting what is there already. Figures in MiB, measured on
# one machine (docs/figures.md); a tenth is added.
set -euo pipefail
cd "$(dirname "$0")/../.."
target=${CARGO_TARGET_DIR:-target}
cache=${KINSTALL_CACHE:-/var/cache/kinstall}
hosts=${KINSTALL_LAB:-/var/tmp/kinstall-lab}

# what each takes at its peak; a build that keeps what a second one reuses takes much more
build=15000
[ "${CARGO_INCREMENTAL:-1}" = 1 ] || build=10000
declare -A needs=([$target]=${SPACE_TARGET:-$build} [$cache]=2300 [$hosts]=${SPACE_HOSTS:-4500})

existing() { # the nearest folder that exists
  local path=$1
  while [ ! -d "$path" ]; do path=$(dirname "$path"); done
  echo "$path"
}

declare -A wanted=() free=()
for path in "${!needs[@]}"; do
  present=0
  [ ! -d "$path" ] || present=$(du -sm "$path" 2>/dev/null | cut -f1)
  missing=$((needs[$path] * 11 / 10 - present))
  [ "$missing" -gt 0 ] || missing=0
  read -r disk left < <(df --output=target,avail -m "$(existing "$path")" | tail -1)
  wanted[$disk]=$((${wanted[$disk]:-0} + missing))
  free[$disk]=$left
done
for disk in "${!wanted[@]}"; do
  echo "space: a whole test run writes ${wanted[$disk]} MiB more on $disk; ${free[$disk]} MiB are free"
  if [ "${wanted[$disk]}" -gt "${free[$disk]}" ]; then
    echo "space: that is too little: free some, or move parts by CARGO_TARGET_DIR, KINSTALL_CACHE and KINSTALL_LAB; SPACE=no skips this check" >&2
    failed=1
  fi
done
[ -z "${failed:-}" ] || [ "${SPACE:-}" = no ]
