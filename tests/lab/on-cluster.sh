#!/bin/bash
# `conformance run` against the cluster that runs on the lab's hosts. $1: its administrator's kubeconfig; the rest are options.
# From the Makefile: LAB, RELEASE.
set -euo pipefail
kubeconfig=$1
shift
config=/etc/kinstall/control-plane.yaml
image=$("$LAB" image tools)

# one entry waits until a list's snapshot is compacted away: every five minutes, unless the server is told otherwise
"$LAB" ssh h1 "cp -p $config $config.kept && sed -i 's/^apiServer:/&\n  compactionIntervalSeconds: 60/' $config && systemctl restart kinstall-control-plane"
trap '"$LAB" ssh h1 "mv $config.kept $config && systemctl restart kinstall-control-plane"' EXIT

"$RELEASE/conformance" run --kubeconfig "$kubeconfig" --real-nodes --address 10.99.0.1 --image "$image" --shell-image "$image" "$@"
