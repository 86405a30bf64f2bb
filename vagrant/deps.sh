#!/bin/bash
# Installs Debian's vagrant and the providers that its packages bring, those that are missing.
set -euo pipefail
here=$(dirname "$(realpath "$0")")
missing=()
for package in vagrant vagrant-lxc vagrant-libvirt lxc mmdebstrap; do
  [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
done
. "$here/../tests/lab/packages.sh"
install_packages "${missing[@]}"
