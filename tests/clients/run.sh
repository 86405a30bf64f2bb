#!/bin/bash
# For development: drives a control plane of its own, built without optimisation, with every client there is. Arguments go to
# `clients`; COMPONENTS names an executable that is there already. `make clients` takes the release build.
set -euo pipefail
cd "$(dirname "$0")/../.."
profile=${PROFILE:-dev}
target=${CARGO_TARGET_DIR:-target}/$(rustc -vV | sed -n 's/^host: //p')/$([ "$profile" = dev ] && echo debug || echo "$profile")
cargo build --quiet --profile "$profile" -p conformance -p clients
if [ -z "${COMPONENTS:-}" ]; then
  cargo build --quiet --profile "$profile" -p multicall
  COMPONENTS=$target/kinstall-components
fi
exec "$target/conformance" with-server --start "$COMPONENTS" -- "$target/clients" "$@"
