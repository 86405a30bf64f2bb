# Sourced: install the Debian packages of these names.
install_packages() {
  [ $# = 0 ] && return
  echo "deps: installing $*"
  export DEBIAN_FRONTEND=noninteractive
  local sudo=()
  [ "$(id -u)" = 0 ] || sudo=(sudo)
  "${sudo[@]}" apt-get update -qq || echo "deps: apt-get update had errors; trying with the lists there are" >&2
  "${sudo[@]}" apt-get install -y -qq --no-install-recommends "$@"
}
