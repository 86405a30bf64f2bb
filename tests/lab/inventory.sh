#!/bin/bash
# Prints an inventory of the running lab: the first host is the control plane (or the first CONTROL_PLANES), the others are workers.
set -euo pipefail
key=$("$LAB" paths key)
known_hosts=$("$LAB" paths known-hosts)
cat <<YAML
cluster: demo
bundle: $KINSTALL_BUNDLE
ssh:
  user: root
  identityFile: $key
  knownHostsFile: $known_hosts
hosts:
YAML
left=${CONTROL_PLANES:-1}
"$LAB" list | while IFS=$'\t' read -r name address _; do
  role=worker
  [ "$left" -le 0 ] || role=controlPlane
  left=$((left - 1))
  printf '  - name: %s\n    address: %s\n    role: %s\n' "$name" "$address" "$role"
done
cat <<YAML
sample:
  wordpress:
    host: wordpress.lab
YAML
