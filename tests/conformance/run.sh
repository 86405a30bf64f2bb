#!/bin/bash
# For development: builds the control plane and the suite without optimisation, runs the suite against a control plane of its
# own. Arguments go to `conformance run`; COMPONENTS names an executable that is there already. `make conformance` takes the
# release build.
set -euo pipefail
cd "$(dirname "$0")/../.."
profile=${PROFILE:-dev}
target=${CARGO_TARGET_DIR:-target}/$(rustc -vV | sed -n 's/^host: //p')/$([ "$profile" = dev ] && echo debug || echo "$profile")
cargo build --quiet --profile "$profile" -p conformance
if [ -z "${COMPONENTS:-}" ]; then
  cargo build --quiet --profile "$profile" -p multicall
  COMPONENTS=$target/kinstall-components
fi
exec "$target/conformance" run --start "$COMPONENTS" "$@"
