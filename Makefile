# The front door. `make help` lists the targets; each installs what it lacks and says so.
#
# AS_ROOT: demo, test, image-test, soak and bench make network namespaces, and image makes file systems, so they run as root.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help deps build release image image-check demo test image-test soak bench lint fuzz clean

FUZZ_SECONDS ?= 1200
FUZZ_TARGETS := ini bodies haproxy drive
# Tests wait for routers and timers more than they compute.
TEST_THREADS ?= 3
DENY_VERSION := 0.20.2
IMAGE ?= build/image/amphora-x64-haproxy.qcow2
TARGET := $(or $(CARGO_TARGET_DIR),target)

help: ## Show this
	@awk -F':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo "  KEEP=1 make demo       leaves the fabric up and says how to look around"
	@echo "  TOR=bird make demo     with BIRD as the ToR instead of FRR"
	@echo "  MINUTES=10 make soak   for another time than 45 minutes; TOR=frr, SEED=N"
	@echo "  PEER=1 make bench      measures Octavia's own Python agent beside this one"
	@echo "  make image IMAGE_OPTIONS='--release 12 --conf-d my-bgp'   image-builder/build --help has them all"
	@echo "  make image-check BINARY=my-agent   the same of a binary that is there"
	@echo "  make image-test IMAGE=my.qcow2 SCENARIOS='single pair'   another image, not all of it"
	@echo "  make fuzz FUZZ_SECONDS=60 FUZZ_TARGETS=ini"

deps: ## Install the Debian packages that demo, test and bench need
	@tests/install-packages.sh

build: ## Build everything (debug, with the crash points the tests need)
	cargo build --locked --workspace --features amphora-agent/crash-points

release: ## Build the agent as it ships: target/release/amphora-agent
	AMPHORA_COMMIT=$${AMPHORA_COMMIT:-$$(git describe --always --abbrev=12 --exclude='*' --dirty || echo unknown)} \
		cargo build --locked --release -p amphora-agent

image: release ## Build build/image/amphora-x64-haproxy.qcow2, with SBOM and checksum (as root)
	@image-builder/build --install-packages $(IMAGE_OPTIONS)

image-check: deps $(if $(BINARY),,release) ## Build the image (of BINARY), check its root, boot that by systemd-nspawn (as root)
	@image-builder/build --install-packages --keep-tree --output build/image-check/image.qcow2 \
		$(if $(BINARY),--binary "$(BINARY)" --other-commit) $(IMAGE_OPTIONS)
	@image-builder/check-tree --boot build/image-check/image.tar
	@image-builder/check-tree-test build/image-check/image.tar

demo: deps build ## One ToR, three amphorae, one anycast VIP: plug, announce, lose one (as root)
	@$(TARGET)/debug/demo

test: deps build ## All tests, on real routers and speakers (as root)
	@tests/fetch-gobgp4.sh build/gobgp4 || echo "SKIPPED: everything with gobgpd 4.x: see the line above"
	@tests/debian12.sh build/debian12 || echo "SKIPPED: everything under systemd: see the line above"
	@tests/octavia/install.sh build/octavia || echo "SKIPPED: everything with the real Octavia: see the line above"
	RUST_TEST_THREADS=$(TEST_THREADS) tests/run.sh --locked --workspace --features amphora-agent/crash-points

image-test: deps build ## Boot the image (IMAGE) under QEMU and drive it from outside: a quarter of an hour (as root)
	@tests/install-packages.sh image-test
	@tests/octavia/install.sh build/octavia
	@[ -e "$(IMAGE)" ] || { [ "$(origin IMAGE)" = file ] || { echo "IMAGE=$(IMAGE): there is no such file" >&2; exit 1; }; $(MAKE) image; }
	@$(TARGET)/debug/image-test --image "$(IMAGE)" $(SCENARIOS)

soak: deps build ## 45 minutes of random kills and changes under clients (as root)
	@$(TARGET)/debug/soak

bench: deps release ## Measure the figures of docs/bench.md (as root)
	@[ "$(PEER)" != 1 ] || tests/octavia/install.sh build/octavia
	cargo build --locked --release -p lab
	@$(TARGET)/release/bench

lint: ## Format, clippy, rustdoc, the image's scripts and cargo-deny
	cargo fmt --check
	cargo clippy --locked --workspace --all-targets --features amphora-agent/crash-points -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps --document-private-items
	@cargo deny --version 2>/dev/null | grep -qF $(DENY_VERSION) || \
		{ echo "installing cargo-deny $(DENY_VERSION)"; cargo install --locked --quiet --debug cargo-deny --version $(DENY_VERSION); }
	@image-builder/lint
	cargo deny --all-features check bans licenses sources
	@if timeout 60 cargo deny --all-features fetch db >/dev/null 2>&1; then cargo deny --all-features check advisories; \
		else echo "SKIPPED: cargo deny check advisories: the advisory database cannot be reached from here"; fi

fuzz: ## Fuzz the parsers, FUZZ_SECONDS each (1200)
	@cargo fuzz --version >/dev/null 2>&1 || { echo "installing cargo-fuzz"; cargo install --locked --quiet cargo-fuzz; }
	@for target in $(FUZZ_TARGETS); do \
		RUSTC_BOOTSTRAP=1 cargo fuzz run $$target --sanitizer none -- -dict=fuzz/$$target.dict -max_len=4096 \
			-max_total_time=$(FUZZ_SECONDS) -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 \
			|| exit 1; \
	done

clean: ## Remove what was built
	cargo clean
	rm -rf build
