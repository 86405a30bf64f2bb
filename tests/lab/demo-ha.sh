#!/bin/bash
# A cluster's life on three control planes and two workers, with WordPress and a published post: born, one control plane dies, a new
# machine takes its place. Everything it writes is in target/demo and goes with `make demo-down`.
set -euo pipefail
here=$(dirname "$(realpath "$0")")
demo=$here/../../target/demo
mkdir -p "$demo"
cd "$demo"
times=()

say() { printf '\n\e[1m%s\e[0m\n' "$*"; }

# act WHAT COMMAND…: tells, does it, remembers how long it took
act() {
  local what=$1 start=$EPOCHREALTIME
  shift
  say "$what"
  echo "\$ ${*/#"$KINSTALL_BIN"/kinstall}"
  "$@"
  times+=("$(awk -v what="$what" -v start="$start" -v end="$EPOCHREALTIME" 'BEGIN { printf "%7.1f s  %s", end - start, what }')")
}

remembered() { sed -n "s/^ *\"$1\": \"\\{0,1\\}\\([^\",]*\\)\"\\{0,1\\},\\{0,1\\}\$/\\1/p" .kinstall/demo/wordpress.json; }

# Through the ingress on a worker, as a visitor would.
post_is_there() {
  curl -sS --fail --max-time 10 -H 'Host: wordpress.lab' "http://10.99.0.14/?p=$(remembered id)" | grep -qF "$(remembered title)"
  echo "WordPress shows its post: $(remembered title)"
}

kinstall() { "$KINSTALL_BIN" "$@"; }

say 'Five bare hosts'
"$LAB" down
rm -rf .kinstall
"$LAB" up 5
CONTROL_PLANES=3 "$here/inventory.sh" > inventory.yaml
cat inventory.yaml

act 'three control planes and two workers, with WordPress' "$KINSTALL_BIN" up -i inventory.yaml --yes
post_is_there
kinstall kubeconfig -i inventory.yaml --out admin.kubeconfig
kubectl() { "$kubectl_bin" --kubeconfig admin.kubeconfig "$@"; }
kubectl_bin=$("$LAB" kubectl)

act 'the first control plane dies, with its disk' "$LAB" destroy h1
act 'the others go on' post_is_there
kinstall kubeconfig -i inventory.yaml --out admin.kubeconfig
kubectl get nodes

act 'another machine at its address' "$LAB" add
act 'and it is a control plane again' "$KINSTALL_BIN" up -i inventory.yaml --yes
post_is_there
kinstall kubeconfig -i inventory.yaml --out admin.kubeconfig
kubectl get nodes -o wide

say 'Times'
printf '%s\n' "${times[@]}"
echo
echo 'when done: make demo-down'
