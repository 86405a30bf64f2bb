#!/bin/bash
# Measures the API server of a release build (PROFILE chooses another). Arguments go to `bench`.
set -euo pipefail
cd "$(dirname "$0")/../.."
profile=${PROFILE:-release}
target=${CARGO_TARGET_DIR:-target}/$(rustc -vV | sed -n 's/^host: //p')/$([ "$profile" = dev ] && echo debug || echo "$profile")
cargo build --quiet --profile "$profile" -p bench
if [ -z "${COMPONENTS:-}" ]; then
  cargo build --quiet --profile "$profile" -p multicall
  COMPONENTS=$target/kinstall-components
fi
exec "$target/bench" --start "$COMPONENTS" "$@"
