#!/bin/bash
# Further bundles for the tests of `kinstall upgrade`, beside $KINSTALL_BUNDLE and of the same build: they differ by bytes that
# change nothing behind the end of an executable, or are broken on purpose. Without the sample's images.
# From the Makefile: LAB, RELEASE, KINSTALL_BIN, KINSTALL_BUNDLE_{PLAIN,NEXT,RUNTIME,LATER,BROKEN,RUNC}.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
runtime=$("$LAB" runtime)
version=$("$KINSTALL_BIN" --version | cut -d' ' -f2)
minor=${version%.*}
patch=${version##*.}

# bundle FILE PATCH KUBERNETES COMPONENTS RUNTIME
bundle() {
  mkdir -p "$(dirname "$1")"
  "$KINSTALL_BIN" bundle create --components "$4" --pause "$RELEASE/pause" --runtime-dir "$5" --kubernetes-version "$3" \
    --bundle-version "$minor.$((patch + $2))" --out "$1"
}

# the same without the sample's images
bundle "$KINSTALL_BUNDLE_PLAIN" 0 1.37.0 "$RELEASE/kinstall-components" "$runtime"

# components alone are newer
cp "$RELEASE/kinstall-components" "$work/components"
printf next >> "$work/components"
bundle "$KINSTALL_BUNDLE_NEXT" 1 1.37.0 "$work/components" "$runtime"

# the container runtime and etcd are newer too, and so is Kubernetes' minor version
cp -r "$runtime" "$work/runtime"
for executable in containerd etcd; do printf next >> "$work/runtime/bin/$executable"; done
bundle "$KINSTALL_BUNDLE_RUNTIME" 2 1.38.0 "$work/components" "$work/runtime"

# nothing but the version is
bundle "$KINSTALL_BUNDLE_LATER" 5 1.38.0 "$work/components" "$work/runtime"

# the runtime runs, and starts no container
cp -r "$runtime" "$work/runc"
rm "$work/runc/bin/runc"
cat > "$work/runc/bin/runc" <<'SCRIPT'
#!/bin/sh
echo 'this runc is broken on purpose' >&2
exit 1
SCRIPT
chmod 755 "$work/runc/bin/runc"
bundle "$KINSTALL_BUNDLE_RUNC" 4 1.37.0 "$RELEASE/kinstall-components" "$work/runc"

# everything but the kubelet starts
cat > "$work/broken" <<'SCRIPT'
#!/bin/sh
if [ "$1" = kubelet ]; then
  echo 'this kubelet is broken on purpose' >&2
  exit 1
fi
for version in /opt/kinstall/*; do
  if [ "$(head -c 4 "$version/bin/kinstall-components" | tail -c 3)" = ELF ]; then
    case $0 in
      */cni/bin/*) exec "$version/cni/bin/${0##*/}" "$@" ;;
      *) exec "$version/bin/kinstall-components" "$@" ;;
    esac
  fi
done
exit 1
SCRIPT
bundle "$KINSTALL_BUNDLE_BROKEN" 3 1.37.0 "$work/broken" "$runtime"
