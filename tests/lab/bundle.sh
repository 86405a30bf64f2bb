#!/bin/bash
# Makes the bundle of the release build, with Debian's container runtime and etcd and the sample application's images.
# From the Makefile: LAB, RELEASE, KINSTALL_BIN, KINSTALL_BUNDLE. For another version of it: COMPONENTS, RUNTIME, VERSION.
set -euo pipefail

runtime=${RUNTIME:-$("$LAB" runtime)}
images=()
while read -r reference file; do
  images+=(--image "$reference=$file")
done < <("$LAB" images --references)
[ ${#images[@]} -gt 0 ]

mkdir -p "$(dirname "$KINSTALL_BUNDLE")"
"$KINSTALL_BIN" bundle create --components "${COMPONENTS:-$RELEASE/kinstall-components}" ${VERSION:+--bundle-version "$VERSION"} --pause "$RELEASE/pause" \
  --runtime-dir "$runtime" "${images[@]}" --out "$KINSTALL_BUNDLE"
