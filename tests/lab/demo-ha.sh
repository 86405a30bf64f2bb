#!/bin/bash
# A cluster's life on three control planes and two workers, with WordPress and a published post: born, one control plane dies, a new
# machine takes its place, everything is upgraded while visitors read, backed up, destroyed, and restored on fresh hosts.
# A page of two replicas stands beside WordPress: where one of its requests is in vain, the script fails.
# Everything it writes is in target/demo and goes with `make demo-down`.
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
  local page
  page=$(curl -sS --fail --max-time 10 -H 'Host: wordpress.lab' "http://10.99.0.14/?p=$(remembered id)") || return
  grep -qF "$(remembered title)" <<< "$page" || { echo 'the page is not the post' >&2; return 1; }
  echo "WordPress shows its post: $(remembered title)"
}

stateless_answers() {
  local page
  page=$(curl -sS --fail --max-time 10 -H 'Host: stateless.lab' http://10.99.0.14/) || return
  grep -qF '"name":"stateless-' <<< "$page" || { echo "the page is another one: $page" >&2; return 1; }
}

# visitor NAME COMMAND…: asks again and again, until the file `left` is there
visitor() {
  local name=$1
  shift
  while [ ! -e left ]; do
    if "$@" > /dev/null 2>> "failed-$name"; then echo ok; else echo failed; fi >> "visited-$name"
    sleep 0.05
  done
}

asked() { wc -l < "visited-$1"; }
in_vain() { grep -c failed "visited-$1" || true; }

# visited COMMAND…: visitors ask for the post and for the stateless page meanwhile
visited() {
  local status=0 visitors=()
  rm -f left visited-* failed-*
  visitor wordpress post_is_there &
  visitors+=($!)
  visitor stateless stateless_answers &
  visitors+=($!)
  "$@" || status=$?
  touch left
  wait "${visitors[@]}"
  echo "stateless page, two replicas and a budget: asked $(asked stateless) times, $(in_vain stateless) times in vain; none may be"
  echo "WordPress, one pod and one database: asked $(asked wordpress) times, $(in_vain wordpress) times in vain; while its only pod is replaced, by a drain or by what up validates, it is away"
  [ "$status" = 0 ] || return "$status"
  if [ "$(asked stateless)" -lt 10 ] || [ "$(in_vain stateless)" -gt 0 ]; then
    sort failed-stateless | uniq -c >&2
    echo 'the stateless page was not there all the time' >&2
    return 1
  fi
}

# The same release build as a newer version, components, container runtime and etcd: bytes that change nothing behind the end of
# the executables.
newer_bundle() {
  cp "$RELEASE/kinstall-components" components
  rm -rf runtime
  cp -r "$("$LAB" runtime)" runtime
  for executable in components runtime/bin/containerd runtime/bin/etcd; do printf newer >> "$executable"; done
  COMPONENTS=$PWD/components RUNTIME=$PWD/runtime VERSION=$1 KINSTALL_BUNDLE=$PWD/newer.tar.zst "$here/bundle.sh" > /dev/null
  rm -r components runtime
}

# Five machines with nothing on them, at the addresses of those that were.
fresh_hosts() {
  for host in h1 h2 h3 h4 h5; do "$LAB" destroy "$host"; done
  for _ in 1 2 3 4 5; do "$LAB" add; done
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

say 'A page of two replicas beside it'
image=$(kubectl get daemonset kinstall-ingress -n kube-system -o 'jsonpath={.spec.template.spec.containers[0].image}')
sed "s|IMAGE|$image|" "$here/../faults/src/load/stateless.yaml" > stateless.yaml
kubectl apply -f stateless.yaml
kubectl rollout status deployment/stateless --timeout=60s
# the ingress hears of it a moment later
curl -sS --fail --retry 20 --retry-delay 1 --retry-all-errors -o /dev/null -H 'Host: stateless.lab' http://10.99.0.14/

act 'the first control plane dies, with its disk' "$LAB" destroy h1
act 'the others go on' post_is_there
kinstall kubeconfig -i inventory.yaml --out admin.kubeconfig
kubectl get nodes

act 'another machine at its address' "$LAB" add
act 'and it is a control plane again' visited "$KINSTALL_BIN" up -i inventory.yaml --yes
post_is_there
kinstall kubeconfig -i inventory.yaml --out admin.kubeconfig
kubectl get nodes -o wide

version=$("$KINSTALL_BIN" --version | cut -d' ' -f2)
newer_bundle "${version%.*}.$((${version##*.} + 1))"
# components, container runtime and etcd are newer, so every node is drained
act 'everything is upgraded while visitors read' visited "$KINSTALL_BIN" upgrade -i inventory.yaml --bundle newer.tar.zst --workers 1 --yes
sed -i "s|^bundle: .*|bundle: $PWD/newer.tar.zst|" inventory.yaml
kubectl get nodes -o wide
# its image is of the version that was
kubectl delete -f stateless.yaml

head -c 24 /dev/urandom | base64 > passphrase
rm -f demo.backup
act 'store, keys and volumes into one encrypted file' "$KINSTALL_BIN" backup -i inventory.yaml --volumes --passphrase-file passphrase --out demo.backup
cp .kinstall/demo/wordpress.json published.json
act 'every host is destroyed; five fresh ones' fresh_hosts
rm -rf .kinstall
act 'the cluster from the backup, on the fresh hosts' "$KINSTALL_BIN" restore demo.backup --passphrase-file passphrase -i inventory.yaml --yes
cmp .kinstall/demo/wordpress.json published.json
post_is_there
kinstall kubeconfig -i inventory.yaml --out admin.kubeconfig
kubectl get nodes -o wide

say 'Times'
printf '%s\n' "${times[@]}"
echo
echo 'when done: make demo-down'
