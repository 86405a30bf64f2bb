#!/bin/bash
# Installs the Debian packages that building and testing need, those that are missing, by name.
set -euo pipefail
packages=(
  build-essential cmake protobuf-compiler libprotobuf-dev                # rusqlite, aws-lc-rs, k8s-cri, etcd-client
  systemd-container mmdebstrap debian-archive-keyring e2fsprogs          # lab: hosts
  iproute2 openssh-client util-linux kmod uidmap tar zstd xz-utils       # lab: network, access, images
  nftables openssl curl ca-certificates                                  # tests: rules, certificates, HTTP
  openssh-server busybox-static                                          # tests: a real sshd, a small image
  sudo opendoas                                                          # tests: users who become root
  etcd-server                                                            # tests: the store of several control planes
  containerd runc containernetworking-plugins                            # tests: a real runtime under the kubelet
)
missing=()
for package in "${packages[@]}"; do
  [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
done
. "$(dirname "$(realpath "$0")")/packages.sh"
install_packages "${missing[@]}"
