#!/bin/bash
# Everything that a change has to pass, and how long each part of it took. Called by `make test`; each part is a target of the Makefile.
#
# Neither of the two builds keeps two cores busy all the time, nor do the tests of crates: so the release build runs beside them, at low
# priority. Cargo keeps the two profiles apart. What runs on the lab comes after both, one part after the other.
set -euo pipefail
cd "$(dirname "$0")/.."
log=target/release-build.log
took=()
building=

# took SECONDS WHAT
took() {
  took+=("$(printf '%5d s  %s' "$1" "$2")")
}

part() {
  local from=$SECONDS
  "${MAKE:-make}" --no-print-directory "$@"
  took $((SECONDS - from)) "make $*"
}

# a process group of its own: cargo and its compilers end with it
start_release_build() {
  set -m
  nice -n 19 "${MAKE:-make}" --no-print-directory drivers > "$log" 2>&1 &
  building=$!
  set +m
}

await_release_build() {
  local from=$SECONDS pid=$building
  building=
  wait "$pid" || { cat "$log"; echo "test: the release build failed" >&2; exit 1; }
  took $((SECONDS - from)) "the rest of the release build"
}

finish() {
  local code=$?
  [ -z "$building" ] || kill -- "-$building" 2>/dev/null || true
  printf '%s\n' "${took[@]}" "$(printf '%5d s  in all' "$SECONDS")"
  exit "$code"
}

mkdir -p target
trap finish EXIT
part space
part deps
part style
part vagrant-validate
start_release_build
part unit
await_release_build
part bundles
# the conformance suite and every client run in it, against a cluster with nodes: they need not run once more before
part e2e
part faults-short
part faults-load-short
part prune
