# Every target only calls cargo or the lab. Run as root on Debian 12 (the lab mounts disks and makes network namespaces).

HOST := $(shell rustc -vV | sed -n 's/^host: //p')
export RELEASE := $(CURDIR)/target/$(HOST)/release
export LAB := $(RELEASE)/lab
export KINSTALL_BIN := $(RELEASE)/kinstall
export KINSTALL_BUNDLE := $(CURDIR)/target/bundle/kinstall-bundle.tar.zst
export KINSTALL_BUNDLE_NEXT := $(CURDIR)/target/bundle/next.tar.zst
export KINSTALL_BUNDLE_RUNTIME := $(CURDIR)/target/bundle/runtime.tar.zst
export KINSTALL_BUNDLE_BROKEN := $(CURDIR)/target/bundle/broken.tar.zst

.PHONY: help deps space build drivers bundle bundles demo demo-ha demo-down test lint unit e2e faults faults-short faults-load conformance conformance-cluster clients prune bench bench-api

help:
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1\t/p' Makefile | expand -t 12

deps: ## install the Debian packages that are missing
	tests/lab/deps.sh

space: ## whether there is room for what a whole test run writes
	tests/lab/space.sh

build: deps ## release build of the executables and the lab
	cargo build --release -p kinstall -p multicall -p pause -p lab

drivers: deps ## the release build, and with it what drives an API server in tests
	cargo build --release -p kinstall -p multicall -p pause -p lab -p conformance -p clients -p faults

bundle: build ## everything that goes to hosts, in one file, with the sample's images
	tests/lab/bundle.sh

bundles: bundle ## newer ones of the same build, and a broken one, to upgrade to
	tests/lab/bundles.sh

demo: bundle ## boot three hosts, install a cluster with WordPress on them, validate it
	tests/lab/demo.sh

demo-ha: bundle ## three control planes and two workers: born, one dies and is replaced, upgraded under load, backed up, destroyed, restored
	tests/lab/demo-ha.sh

demo-down: ## remove the demo's hosts and everything on them
	if [ -x "$(LAB)" ]; then "$(LAB)" down; fi
	rm -rf target/demo

lint: ## formatting, clippy, licences and bans
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	if cargo deny --version >/dev/null 2>&1; then cargo deny check bans licenses sources; fi

unit: deps ## tests of every crate, and of the lab itself
	KINSTALL_KUBECTL=$$(cargo run --quiet -p lab -- kubectl) cargo test --workspace --exclude e2e

e2e: bundles drivers ## the whole way, on hosts of the lab
	KINSTALL_KUBECTL=$$("$(LAB)" kubectl) cargo test --release -p e2e

faults: bundles drivers ## what breaks while kinstall works: every event, every stage, every host; hours (says how many at its start)
	KINSTALL_KUBECTL=$$("$(LAB)" kubectl) "$(RELEASE)/faults" $(ARGS)

faults-short: bundles drivers ## the same at a spread of the steps
	KINSTALL_KUBECTL=$$("$(LAB)" kubectl) "$(RELEASE)/faults" --short $(ARGS)

faults-load: bundles drivers ## requests that fail while the cluster below an application is disturbed
	KINSTALL_KUBECTL=$$("$(LAB)" kubectl) "$(RELEASE)/faults" --load --out target/faults/load.json $(ARGS)

conformance: drivers ## the required behaviours of Kubernetes, one test an entry, against a server started for it
	KINSTALL_KUBECTL=$$("$(LAB)" kubectl) "$(RELEASE)/conformance" run --start "$(RELEASE)/kinstall-components" $(ARGS)

conformance-cluster: bundle drivers ## the same on a cluster of lab hosts, with the entries that need kubelets
	KINSTALL_KUBECTL=$$("$(LAB)" kubectl) tests/lab/conformance.sh $(ARGS)

clients: drivers ## kubectl of every version found, Python, JavaScript and Rust clients against a server started for them
	tests/clients/deps.sh
	KINSTALL_KUBECTL=$$("$(LAB)" kubectl) "$(RELEASE)/conformance" with-server --start "$(RELEASE)/kinstall-components" -- \
	  "$(RELEASE)/clients" --all $(ARGS)

prune: drivers ## remove what the cache holds for recipes of the past
	"$(LAB)" prune

test: space deps lint unit conformance clients e2e faults-short prune ## everything

bench: bundle ## how long hosts, cluster, an unchanged run and the removal take; what the components weigh
	tests/lab/bench.sh

bench-api: deps ## the API server's creates, reads, lists, watches, memory and start-up, as a table
	tests/bench/run.sh $(ARGS)
