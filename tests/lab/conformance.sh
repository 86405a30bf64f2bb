#!/bin/bash
# The required behaviours on a cluster of three lab hosts, whose kubelets run what entries need. Arguments go to
# `conformance run`; KINSTALL_LAB_KEEP=1 leaves the cluster up. From the Makefile: LAB, RELEASE, KINSTALL_BIN, KINSTALL_BUNDLE.
set -euo pipefail
here=$(dirname "$(realpath "$0")")
work=$here/../../target/conformance
mkdir -p "$work"
cd "$work"
[ "${KINSTALL_LAB_KEEP:-}" = 1 ] || trap '"$LAB" down' EXIT

"$LAB" down
rm -rf .kinstall
"$LAB" up 3
"$here/inventory.sh" > inventory.yaml
"$KINSTALL_BIN" up -i inventory.yaml --yes --no-validate
"$KINSTALL_BIN" kubeconfig -i inventory.yaml --out admin.kubeconfig
"$here/on-cluster.sh" "$PWD/admin.kubeconfig" "$@"
