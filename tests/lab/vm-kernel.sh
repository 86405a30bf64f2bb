# Sourced by vm.sh: what only a distribution's own kernel, init, network service and clock do to a cluster.

kube() { "$kubectl" --kubeconfig "$work/kubeconfig" "$@"; }
fail() { echo "vm: $*" >&2; exit 1; }

# eventually SECONDS EXPECTED COMMAND…: until it prints just that; with !EXPECTED, something else.
eventually() {
  local seconds=$1 expected=$2 got='' start=$SECONDS
  shift 2
  until got=$("$@" 2>&1) && { [ "$got" = "$expected" ] || [[ $expected = !* && $got != "${expected#!}" ]]; }; do
    [ $((SECONDS - start)) -lt "$seconds" ] || fail "after $seconds s: $* says ${got:-nothing}, not $expected"
    sleep 1
  done
}

# within MILLISECONDS WHAT SCRIPT: the guest's script prints how many milliseconds it took.
within() {
  local took
  took=$(guest "timeout 60 bash -s" <<< "$3") || fail "$2: not within a minute"
  echo "vm: $2 after $took ms"
  [ "$took" -le "$1" ] || fail "$2 took more than $1 ms"
}

# pod NAME LABELS RESOURCES COMMAND: with the guest's own userland, since no image with a shell is brought along.
pod() {
  cat <<YAML
---
apiVersion: v1
kind: Pod
metadata: {name: $1, labels: {$2}}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 1
  tolerations: [{operator: Exists}]
  containers:
  - name: it
    image: $image
    imagePullPolicy: IfNotPresent
    resources: {$3}
    command: $4
    volumeMounts:
    - {name: usr, mountPath: /usr, readOnly: true}
    - {name: bin, mountPath: /bin, readOnly: true}
    - {name: lib, mountPath: /lib, readOnly: true}
    - {name: lib64, mountPath: /lib64, readOnly: true}
  volumes:
  - {name: usr, hostPath: {path: /usr}}
  - {name: bin, hostPath: {path: /usr/bin}}
  - {name: lib, hostPath: {path: /usr/lib}}
  - {name: lib64, hostPath: {path: /usr/lib64}}
YAML
}

make_pods() {
  kinstall kubeconfig -i inventory.yaml --out "$work/kubeconfig" > /dev/null
  image=$(kube get node vm1 -o jsonpath='{.status.images[*].names[*]}' | tr ' ' '\n' | grep '^kinstall.local/components:' | head -1)
  {
    pod limited 'app: limited' 'limits: {cpu: 500m, memory: 64Mi}' '[/bin/sleep, infinity]'
    pod asking 'app: asking' 'requests: {cpu: 500m}' '[/bin/sleep, infinity]'
    pod modest 'app: modest' '' '[/bin/sleep, infinity]'
    pod web 'app: web' '' '[/kinstall-components, probe, serve]'
    cat <<'YAML'
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
YAML
  } | kube apply -f - > /dev/null
  local name
  for name in limited asking modest web; do
    eventually 180 true kube get pod "$name" -o 'jsonpath={.status.containerStatuses[0].ready}'
  done
  web=$(kube get service web -o 'jsonpath={.spec.clusterIP}')
  web_pod=$(kube get pod web -o 'jsonpath={.status.podIP}')
}

# They take no heed of being asked to end, and would hold up a reboot for a minute and a half.
remove_pods() {
  kube delete service web > /dev/null
  kube delete pod limited modest web > /dev/null
}

# Every group of pods with what the kernel has for it, but for sandboxes, which have no limits of their own.
limits() {
  guest 'cd /sys/fs/cgroup && find kubepods.slice -type d | sort | while read -r group; do
    case $group in *.scope) [ "$(cat "$group/memory.swap.max")" = 0 ] || continue ;; esac
    echo "$group $(cd "$group" && cat cpu.weight cpu.max memory.max memory.swap.max memory.oom.group 2>&1 | tr "\n" " ")"; done'
}

# has GROUP VALUES: of what `limits` printed; the group by the end of its name.
has() { grep -Eq "$1 $2 *\$" <<< "$before" || fail "no $1 with $2 in"$'\n'"$before"; }

# systemd writes into all groups what it knows of them whenever it reads its units anew.
check_limits() {
  local before uid act
  uid=$(kube get pod limited -o 'jsonpath={.metadata.uid}' | tr - _)
  before=$(limits)
  has "^kubepods.slice" "79 max 100000 [0-9]+ max 0"
  has "kubepods-besteffort.slice" "1 max 100000 max max 0"
  has "kubepods-burstable.slice" "[1-9][0-9]* max 100000 max max 0"
  has "kubepods-pod$uid.slice" "20 50000 100000 67108864 max 0"
  has "kubepods-pod$uid.slice/cri-containerd-[0-9a-f]+.scope" "20 50000 100000 67108864 0 1"
  for act in daemon-reload daemon-reexec; do
    guest systemctl "$act"
    eventually 20 "$before" limits
    echo "vm: limits are the same after systemctl $act"
  done
  kube delete pod asking > /dev/null
}

# A child asks for more than there is: its container ends, not the child alone.
check_out_of_memory() {
  pod hungry 'app: hungry' 'limits: {memory: 32Mi}' '[/bin/sh, -c, "/bin/tail /dev/zero; exec /bin/sleep infinity"]' | kube apply -f - > /dev/null
  eventually 180 'OOMKilled 137' kube get pod hungry \
    -o 'jsonpath={.status.containerStatuses[0].state.terminated.reason} {.status.containerStatuses[0].state.terminated.exitCode}'
  kube delete pod hungry > /dev/null
}

check_routes() {
  local clock='now() { date +%s%3N; }; start=$(now);' answer="until curl -s -m 0.5 -o /dev/null http://$web/; do :; done; echo \$((\$(now) - start))"
  within 2000 'a Service answers' "$clock $answer"
  within 2000 'the route of Services is back' "ip route del 10.96.0.0/16; $clock until ip route | grep -q ^10.96.0.0/16; do :; done; echo \$((\$(now) - start))"
  within 2000 'the route of a pod is back' "ip route del $web_pod; $clock until ip route | grep -q ^$web_pod; do :; done; echo \$((\$(now) - start))"
  within 2000 'a Service answers after the network was restarted' "systemctl restart systemd-networkd; $clock $answer"
}

# set_clock SECONDS: so far from the right time, which the machine's hardware clock always has.
set_clock() { guest "date -s @\$((\$(cat /sys/class/rtc/rtc0/since_epoch) + $1)) > /dev/null"; }

# refused COMMAND…: because of the guest's clock, which it names with the cure, and nothing is done.
refused() {
  local said status=0
  said=$("$@" 2>&1) || status=$?
  [ "$status" != 0 ] || fail "$* goes on with a clock that is wrong"
  grep -q 'vm1' <<< "$said" && grep -q 'clock' <<< "$said" && grep -q 'set-ntp' <<< "$said" || fail "$* does not say why: $said"
  guest '! test -e /opt/kinstall && ! test -e /var/lib/kinstall' || fail "$* has changed the host"
}

check_wrong_clock() {
  set_clock 600
  refused kinstall up -i inventory.yaml --yes --no-validate
  set_clock -600
  refused kinstall plan -i inventory.yaml
  set_clock 0
}

# What may not be different after the clock was elsewhere.
census() { kube get pods,deployments,daemonsets,services -A -o 'jsonpath={range .items[*]}{.kind} {.metadata.name} {.metadata.uid}{"\n"}{end}' | sort; }
node_is_ready() { kube get node vm1 -o 'jsonpath={.status.conditions[?(@.type=="Ready")].status}'; }
tokens() { guest 'cat /var/lib/kubelet/pods/*/volumes/kubernetes.io~projected/*/token | sha256sum'; }
lease() { kube get lease -n kube-node-lease vm1 -o 'jsonpath={.spec.renewTime}'; }

check_jumping_clock() {
  local before off renewed held
  before=$(census)
  for off in 3600 0; do
    renewed=$(lease) held=$(tokens)
    set_clock "$off"
    eventually 60 "!$renewed" lease
    eventually 60 True node_is_ready
    # they have run out, or are not valid yet
    eventually 150 "!$held" tokens
    pod "later$off" 'app: later' '' '[/bin/sleep, infinity]' | kube apply -f - > /dev/null
    eventually 180 true kube get pod "later$off" -o 'jsonpath={.status.containerStatuses[0].ready}'
    kube delete pod "later$off" > /dev/null
    eventually 60 "$before" census
  done
}
