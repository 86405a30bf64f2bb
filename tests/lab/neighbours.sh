#!/bin/bash
# Three lab hosts with what others have on theirs, from Debian's packages: firewalld and NetworkManager, ufw, Docker. kinstall says what to do
# about them, that is done, then it has nothing more to say; a cluster comes up among them, is validated, and goes without touching them.
# From the Makefile: LAB, KINSTALL_BIN, KINSTALL_BUNDLE.
set -euo pipefail
here=$(dirname "$(realpath "$0")")
work=$(mktemp -d)
trap 'cd /; rm -rf "$work"; "$LAB" down' EXIT
cd "$work"

# on HOST COMMAND
on() { "$LAB" ssh "$1" -- "$2" < /dev/null; }

# bring HOST PACKAGE...: with what a host lacks besides; the hosts reach nothing outside
bring() {
  local host=$1
  shift
  mkdir -p "$host/partial"
  apt-get -qq -y --no-install-recommends --download-only -o APT::Sandbox::User=root -o Dir::State::status="$work/status" \
    -o Dir::Cache::archives="$work/$host" install "$@" > "$host.log"
  rm -rf "$host/partial" "$host/lock"
  "$LAB" put "$host" "$work/$host" /root/packages
  on "$host" 'DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends install /root/packages/*.deb' >> "$host.log" 2>&1
}

# states HOST UNIT...: what a neighbour is at
states() {
  local host=$1
  shift
  on "$host" "systemctl is-active $*" | tr '\n' ' '
}

"$LAB" down
"$LAB" up 3
"$LAB" get h1 /var/lib/dpkg/status "$work/status"
bring h1 firewalld network-manager
bring h2 ufw
# Docker drops what is forwarded only where it was the one that switched forwarding on; a new host has that as this machine has it
on h3 'sysctl -qw net.ipv4.ip_forward=0'
bring h3 docker.io
on h2 'ufw allow 22/tcp && ufw --force enable'
before=$(states h1 firewalld NetworkManager; states h3 docker containerd)
CONTROL_PLANES=1 "$here/inventory.sh" | sed '/^sample:/,$d' > inventory.yaml

# said FILE: what plan says, and that it does not fail
said() {
  local status=0
  "$KINSTALL_BIN" plan -i inventory.yaml > "$1" 2>&1 || status=$?
  [ "$status" = 2 ] || { cat "$1"; exit 1; }
}

said first
host=
while read -r line; do
  case $line in
    *': firewall: '*) host=${line%%: firewall:*} host=${host##* } ;;
    'remedy: '*)
      if [ -n "$host" ]; then
        command=${line#remedy: } command=${command%% (and the same*}
        echo "$host: $command"
        on "$host" "$command" > /dev/null
      fi
      host=
      ;;
  esac
done < first
for host in h1 h2 h3; do grep -q "$host: firewall: " first || { echo "nothing is said of the firewall of $host"; exit 1; }; done
said second
if grep 'firewall: ' second; then echo 'this is said although it was done'; exit 1; fi

"$KINSTALL_BIN" up -i inventory.yaml --yes
on h1 'NetworkManager --print-config | grep interface-name:kin'
"$KINSTALL_BIN" down -i inventory.yaml --yes
after=$(states h1 firewalld NetworkManager; states h3 docker containerd)
[ "$before" = "$after" ] || { echo "the neighbours were $before and are $after"; exit 1; }
if on h1 'test -e /etc/NetworkManager/conf.d/kinstall.conf'; then echo 'the file for NetworkManager is left'; exit 1; fi
