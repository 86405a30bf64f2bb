# Every target only calls cargo or the lab. Run as root on Debian 12 (the lab mounts disks and makes network namespaces).

HOST := $(shell rustc -vV | sed -n 's/^host: //p')
export RELEASE := $(CURDIR)/target/$(HOST)/release
export LAB := $(RELEASE)/lab
export KINSTALL_BIN := $(RELEASE)/kinstall
export KINSTALL_BUNDLE := $(CURDIR)/target/bundle/kinstall-bundle.tar.zst
export KINSTALL_BUNDLE_PLAIN := $(CURDIR)/target/bundle/plain.tar.zst
export KINSTALL_BUNDLE_NEXT := $(CURDIR)/target/bundle/next.tar.zst
export KINSTALL_BUNDLE_RUNTIME := $(CURDIR)/target/bundle/runtime.tar.zst
export KINSTALL_BUNDLE_LATER := $(CURDIR)/target/bundle/later.tar.zst
export KINSTALL_BUNDLE_BROKEN := $(CURDIR)/target/bundle/broken.tar.zst
export KINSTALL_BUNDLE_RUNC := $(CURDIR)/target/bundle/runc.tar.zst

# What the release build makes, and what drives it in tests. They are named together wherever cargo is called: it chooses the
# features of shared crates by what is named, and builds those anew whose features change.
PRODUCT := -p kinstall -p multicall -p pause -p lab
DRIVERS := $(PRODUCT) -p conformance -p clients -p faults
# Clippy in rustc's place, as `cargo clippy` does it, but for a build that is run afterwards: no second one for it alone.
CLIPPY = RUSTC_WORKSPACE_WRAPPER=$(or $(shell rustup which clippy-driver 2>/dev/null),clippy-driver) CLIPPY_ARGS=-Dwarnings
E2E := $(notdir $(wildcard tests/e2e/tests/*))

.PHONY: help deps space build drivers bundle bundles demo demo-ha demo-down test style lint unit stores e2e faults faults-short faults-load faults-load-short conformance conformance-cluster clients prune bench bench-install bench-api fleet vagrant vagrant-validate test-vm test-neighbours

help:
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1\t/p' Makefile | expand -t 12

deps: ## install the Debian packages that are missing
	tests/lab/deps.sh

space: ## whether there is room for what a whole test run writes
	tests/lab/space.sh

build: deps ## release build of the executables and the lab
	cargo build --release $(PRODUCT)

drivers: deps ## the release build, and with it what drives an API server in tests
	cargo build --release $(DRIVERS)

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

style: ## formatting, licences and bans
	cargo fmt --all --check
	if cargo deny --version >/dev/null 2>&1; then cargo deny check bans licenses sources; fi

lint: style ## and clippy
	cargo clippy --workspace --all-targets -- -D warnings

unit: deps ## tests of every crate, and of the lab itself; clippy compiles them, so what it finds fails the build
	$(CLIPPY) cargo test --workspace --no-run
	KINSTALL_KUBECTL=$$(target/$(HOST)/debug/lab kubectl) $(CLIPPY) cargo test --workspace --exclude e2e

stores: deps ## both stores' long form: 1,000 kills of each, 150,000 objects, a minute of histories with members killed; an hour
	KINSTALL_STORE_KILLS=1000 KINSTALL_STORE_OBJECTS=150000 KINSTALL_STORE_SECONDS=60 cargo test -p store -- --nocapture $(ARGS)

e2e: bundles drivers ## the whole way, on hosts of the lab; every client and the conformance suite with it
	tests/clients/deps.sh
	KINSTALL_KUBECTL=$$("$(LAB)" kubectl) cargo test --release $(DRIVERS) -p e2e $(E2E:%=--test %)

faults: bundles drivers ## what breaks while kinstall works: every event, every stage, every host; hours (says how many at its start)
	KINSTALL_KUBECTL=$$("$(LAB)" kubectl) "$(RELEASE)/faults" $(ARGS)

faults-short: bundles drivers ## a case of every kind of fault in every command; minutes
	KINSTALL_KUBECTL=$$("$(LAB)" kubectl) "$(RELEASE)/faults" --short $(ARGS)

faults-load: bundles drivers ## requests that fail while the cluster below an application is disturbed
	KINSTALL_KUBECTL=$$("$(LAB)" kubectl) "$(RELEASE)/faults" --load --out target/faults/load.json $(ARGS)

faults-load-short: bundles drivers ## the same, each for less long
	KINSTALL_KUBECTL=$$("$(LAB)" kubectl) "$(RELEASE)/faults" --load --short --out target/faults/load.json $(ARGS)

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

test: ## everything
	tests/all.sh

vagrant-validate: ## vagrant/Vagrantfile, for every provider; seconds
	vagrant/deps.sh
	vagrant/validate.sh

vagrant: bundle ## really: `vagrant up` with LXC and a box of ours, one machine and three, then `vagrant destroy`
	vagrant/deps.sh
	vagrant/test.sh $(ARGS)

test-vm: build ## one emulated machine with Debian's own kernel and cgroup v2: up, validated, rebooted, down; minutes
	tests/lab/vm.sh

test-neighbours: bundle ## Debian's firewalld, NetworkManager, ufw and Docker on three lab hosts: told, lived with, untouched
	tests/lab/neighbours.sh

bench: bundle ## how long hosts, cluster, an unchanged run and the removal take; what the components weigh
	tests/lab/bench.sh

fleet: drivers ## ten simulated hosts: how often each waits, the operator's memory, what is passed on, within their aims; seconds
	cargo build --release $(DRIVERS) -p fleet
	"$(RELEASE)/fleet" --hosts 10 --commands up,up-again,down --aims

bench-install: bundle drivers ## the installer against 10, 100 and 1,000 simulated hosts, as a table; then where the time goes on three real ones
	cargo build --release $(DRIVERS) -p fleet
	"$(RELEASE)/fleet" $(ARGS)
	tests/lab/speed.sh

bench-api: deps ## the API server's creates, reads, lists, watches, memory and start-up, as a table
	tests/bench/run.sh $(ARGS)
