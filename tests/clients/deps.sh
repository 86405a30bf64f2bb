#!/bin/bash
# Installs what the clients in other languages run on, where it is missing, by the names of Debian's packages. Whoever provides
# the commands is welcome.
set -euo pipefail
missing=()
python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
command -v node >/dev/null || missing+=(nodejs)
command -v npm >/dev/null || missing+=(npm)
[ ${#missing[@]} = 0 ] && exit 0
echo "deps: installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
sudo=(); [ "$(id -u)" = 0 ] || sudo=(sudo)
"${sudo[@]}" apt-get update -qq || echo "deps: apt-get update had errors; trying with the lists there are" >&2
"${sudo[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}"
