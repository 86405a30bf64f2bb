#!/bin/bash
# Three bare hosts, and one command. Everything the demo writes is in target/demo and goes with `make demo-down`.
set -euo pipefail
here=$(dirname "$(realpath "$0")")
demo=$here/../../target/demo
mkdir -p "$demo"
cd "$demo"

say() { printf '\n\e[1m%s\e[0m\n' "$*"; }

say 'Three bare hosts'
"$LAB" down
rm -rf .kinstall
"$LAB" up 3
"$here/inventory.sh" > inventory.yaml
cat inventory.yaml

say 'kinstall up -i inventory.yaml'
"$KINSTALL_BIN" up -i inventory.yaml --yes

say 'The cluster'
"$KINSTALL_BIN" kubeconfig -i inventory.yaml --out admin.kubeconfig
kubectl=$("$LAB" kubectl)
"$kubectl" --kubeconfig admin.kubeconfig get nodes -o wide
"$kubectl" --kubeconfig admin.kubeconfig get pods -A -o wide
cat <<TEXT

Try:
  cd $PWD
  $kubectl --kubeconfig admin.kubeconfig get all -A
  curl -H 'Host: wordpress.lab' http://10.99.0.12/
  $LAB ssh h1
and, when done: make demo-down
TEXT
