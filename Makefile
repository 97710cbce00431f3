# The one way to build, run and check fibcast, for people and for CI. `make help` lists what there is.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

# Under sudo the invoking user's Rust is found too.
export PATH := $(PATH):$(shell scripts/rust-path)

SETUP   := scripts/setup
CARGO   := cargo
BINARIES := fibcast fibcast-bench fibcast-route-server fibcast-agent fibcast-dataplane fibcast-pktgen fibcast-tablegen fibcast-demo
PREFIX  ?= /usr/local
DEMO_ARGS ?=
INTEROP_ARGS ?=
CHAOS_ARGS ?=
KIND ?= all
CHAOS_BUILD = $(SETUP) build && $(CARGO) build --bins -p fibcast-route-server -p fibcast-sync-agent -p fibcast-dataplane -p fibcast-testbed

.PHONY: help demo demo-short demo-frr build test test-dpdk test-interop test-vm lint fmt bench docker docker-test docker-frr docker-edge docker-chaos fuzz unsafe sim chaos chaos-threads chaos-files chaos-peers deb test-deb install uninstall clean

help: ## this list
	@grep -hE '^[a-z-]+:.*##' Makefile | sed -E 's/:[^#]*## /\t/' | expand -t 16

build: ## all programs, in release mode
	@$(SETUP) build
	@$(CARGO) build --release --workspace --bins

demo: build ## the whole system on this machine: full table, churn, a killed route server, a verdict (about 60 s)
	@scripts/run-demo $(DEMO_ARGS)

demo-short: build ## the same with 30 s of traffic
	@scripts/run-demo --short $(DEMO_ARGS)

demo-frr: build ## the demo with real FRR beside each route server: full table and changes by BGP, zebra and FPM (as root, about 3 min)
	@$(SETUP) interop
	@scripts/run-demo --frr $(DEMO_ARGS)

test: ## every test that needs no NIC
	@$(SETUP) build
	@$(SETUP) test
	@scripts/run-tests

test-dpdk: ## libs/ffi/ and dataplane/ with DPDK 22.11, 24.11 and 25.11, in root file systems that stay in FIBCAST_CACHE (as root); RELEASES=25.11: that one; TESTS=ffi: build all, test libs/ffi/
	@$(SETUP) dpdk
	@scripts/test-dpdk

test-interop: ## whole systems with real FRR and BIRD in network namespaces, one test at a time (as root); INTEROP_ARGS=--claims: the claim list alone; INTEROP_ROUTING=frr-10.7: with daemons of another Debian suite
	@$(SETUP) build
	@$(SETUP) interop
	@$(CARGO) build --release --bins -p fibcast -p fibcast-route-server -p fibcast-sync-agent -p fibcast-dataplane -p fibcast-pktgen -p fibcast-testbed -p fibcast-bench
	@scripts/run-interop $(INTEROP_ARGS)

test-vm: ## the programs in a virtual machine with four kinds of PCI NIC behind an IOMMU (as root); KIND=e1000e|igb|virtio|vmxnet3: one of them
	@$(SETUP) build
	@$(SETUP) vm
	@$(CARGO) build --release --bins -p fibcast -p fibcast-route-server -p fibcast-sync-agent -p fibcast-dataplane
	@verify/interop/vm/test-vm --kind $(KIND)

lint: ## clippy, formatting, licences and advisories
	@$(SETUP) build
	@$(CARGO) fmt --all --check
	@$(CARGO) clippy --workspace --all-targets -- -D warnings
	@scripts/check-licences

fmt: ## format all code
	@$(CARGO) fmt --all

bench: ## benchmarks against dpdk-test-fib and others; prints tables
	@$(SETUP) build
	@$(SETUP) bench
	@$(CARGO) build --release -p fibcast-bench -p fibcast-pktgen --bins
	@folder=$$(mktemp -d); trap 'rm -rf "$$folder"' EXIT; RUNTIME_DIRECTORY=$$folder target/release/fibcast-bench all

docker: build ## the container image fibcast:latest
	@verify/docker/build-image

docker-test: docker ## two route servers, two NIC hosts and a generator in containers; the primary is killed
	@verify/docker/thin/run-test

docker-frr: docker ## the container image fibcast-frr:latest: FRR and BIRD
	@verify/docker/frr/build-image

docker-edge: docker-frr ## the full table by BGP and internal routes by OSPF, through FRR to NIC hosts of two tiers, in containers; judged
	@verify/docker/edge/run-test

docker-chaos: docker-frr ## the same while its parts are killed, paused and cut off in an order that SEED=n decides
	@verify/docker/chaos/run-test

fuzz: ## every decoder and machine under cargo-fuzz, FUZZ_SECONDS=60 each; without it property tests with CASES=20000
	@$(SETUP) build
	@scripts/run-fuzz

unsafe: ## Miri and AddressSanitizer on the forwarding table; says what it skips
	@scripts/check-unsafe

sim: ## whole networks on a virtual clock, from 1,000 seeds (SEEDS=A..B); then with deliberate faults, all of which must be found
	@$(CARGO) run --release --quiet -p fibcast-sim -- run --seeds $${SEEDS:-0..1000}
	@$(CARGO) run --release --quiet -p fibcast-sim --features mutations -- mutations

chaos: chaos-threads chaos-files chaos-peers ## does harm to the real daemons, one fault at a time (as root); CHAOS_ARGS="--only kernel --stop-s 5 --harm-s 3"

chaos-threads: ## each thread of each daemon stops for 20 s, and panics
	@$(CHAOS_BUILD)
	@scripts/chaos threads $(CHAOS_ARGS)

chaos-files: ## full disks, disks that hang, and the end of file descriptors
	@$(CHAOS_BUILD)
	@scripts/chaos files $(CHAOS_ARGS)

chaos-peers: ## silent, slow and greedy peers, and floods, on each listener and port; servers that do not behave
	@$(CHAOS_BUILD)
	@scripts/chaos peers $(CHAOS_ARGS)

# Packages know their commit. Other builds are not told: each commit would compile everything again.
deb: export FIBCAST_COMMIT := $(shell git rev-parse --short=12 HEAD 2>/dev/null)
deb: build ## Debian packages for this machine's release, in target/deb
	@$(SETUP) deb
	@scripts/build-deb

test-deb: $(if $(SUITE),,deb) ## installs, upgrades, removes and purges them in a clean root file system (as root); SUITE=trixie: packages in target/deb that were built on that release
	@$(SETUP) dpdk
	@scripts/test-deb $(SUITE)

install: build ## programs to $(PREFIX)/bin, units, manual pages and completions where this system looks for them
	@DESTDIR=$(DESTDIR) PREFIX=$(PREFIX) scripts/install

uninstall: ## removes what make install has put there; configurations and tables stay
	@DESTDIR=$(DESTDIR) PREFIX=$(PREFIX) scripts/install --remove

clean: ## what was built, containers' leftovers included
	@$(CARGO) clean
	@rm -rf verify/docker/.build
