#!/bin/bash
# `vagrant validate` for every provider, and wrong choices are refused. Where there is no VirtualBox something stands in for it that
# can only say its version: that is all Vagrant asks before it looks at the configuration.
set -euo pipefail
here=$(dirname "$(realpath "$0")")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export VAGRANT_HOME=$work/home VAGRANT_CWD=$here VAGRANT_DOTFILE_PATH=$work/dot VAGRANT_CHECKPOINT_DISABLE=1
unset "${!KINSTALL_@}"

if ! command -v VBoxManage > /dev/null; then
  mkdir "$work/bin"
  printf '#!/bin/sh\necho 7.0.20r163906\n' > "$work/bin/VBoxManage"
  chmod 755 "$work/bin/VBoxManage"
  export PATH=$work/bin:$PATH
fi

# validate [NAME=VALUE…]
validate() { echo "vagrant validate, $*"; env "$@" vagrant validate > "$work/out" 2>&1 || { cat "$work/out" >&2; exit 1; }; }
# refuse WORDS [NAME=VALUE…]
refuse() {
  local words=$1
  shift
  ! env "$@" vagrant validate > "$work/out" 2>&1 || { echo "vagrant: $* was not refused" >&2; exit 1; }
  grep -qF "$words" "$work/out" || { cat "$work/out" >&2; exit 1; }
}

for provider in lxc libvirt virtualbox; do
  validate KINSTALL_PROVIDER=$provider KINSTALL_HOSTS=5 KINSTALL_CONTROL_PLANES=3
done
refuse 'KINSTALL_HOSTS is "9"; it must be a number from 1 to 5' KINSTALL_HOSTS=9
ruby "$here/test/cluster.rb"
