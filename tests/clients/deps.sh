#!/bin/bash
# Installs what the clients in other languages run on, where it is missing, by the names of Debian's packages. Whoever provides
# the commands is welcome.
set -euo pipefail
missing=()
python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
command -v node >/dev/null || missing+=(nodejs)
command -v npm >/dev/null || missing+=(npm)
. "$(dirname "$(realpath "$0")")/../lab/packages.sh"
install_packages "${missing[@]}"
