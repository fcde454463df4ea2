# Tombolo's commands. Needed first: git, make, a C++ compiler, Rust 1.95 or later; everything else
# is set up by `.ci/setup`, which also says what it cannot set up.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help run build test format lint unit clients test-browser examples planted fuzz bench soak

# libclang and RocksDB's archive, found or made; the environment for cargo.
SETUP = eval "$$(.ci/setup)"
# Arguments for `make run`, such as ARGS="--listen 127.0.0.1:0", and for `make bench`.
ARGS ?=
# Seconds for each target of `make fuzz`; how much `make soak` runs of each. `make planted` has SEEDS of its own
# (60), and FAULT=NAME.
SECONDS_EACH ?= 300
SEEDS ?= 20000
SIMULATIONS ?= 10000
ISLANDS ?= 10
STEP = printf '\n==> %s\n'

help: ## What there is
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST)

run: ## Build the release binary and start a node on 127.0.0.1:7420, data in ./tombolo-data
	@$(SETUP); cargo build --release --locked; exec cargo run --quiet --release --locked -- serve $(ARGS)

build: ## Build the release binary
	@$(SETUP); cargo build --release --locked

test: format lint unit clients ## Everything that CI runs

format:
	@$(STEP) 'format'; cargo fmt --check
	@$(STEP) 'faults can be planted'; git apply --check tests/planted/*.patch

# As tests are built: what the compiler itself runs is compiled once for both.
lint:
	@$(STEP) 'lints'; eval "$$(.ci/setup tests)"; cargo clippy --quiet --locked --all-targets -- -D warnings
	@if cargo deny --version >/dev/null 2>&1; then \
		$(STEP) 'licences, bans, sources'; cargo deny --locked check --hide-inclusion-graph bans licenses sources; \
	else echo 'SKIPPED: licences, bans and sources (cargo install --locked cargo-deny)'; fi

# To optimise the unit tests takes longer than they do. Most of the others wait for nodes and clocks, and
# leave the simulation more time than it needs.
unit:
	@$(STEP) 'tests of units'; eval "$$(.ci/setup tests)"; CARGO_PROFILE_DEV_OPT_LEVEL=0 cargo test --locked --lib
	@$(STEP) 'tests: architecture, properties, integration; simulation beside them'; eval "$$(.ci/setup tests)"; \
	cargo test --locked --no-run --test '*'; mkdir -p target; \
	nice -n 19 cargo test --locked --test tombolo misfortune -- --nocapture >target/simulation.log 2>&1 & \
	simulation=$$!; trap 'kill $$simulation 2>/dev/null || true' EXIT; \
	RUST_TEST_THREADS=$${RUST_TEST_THREADS:-$$((2 * $$(nproc)))} cargo test --locked --test '*' -- --skip misfortune; \
	$(STEP) 'simulation'; wait $$simulation || { cat target/simulation.log; exit 1; }; tail -n 6 target/simulation.log

# The program, as the tests above were built with it. `cargo build` knows nothing of the features that the tests'
# dependencies turn on in those that they share with the program, and would compile all of these anew.
PROGRAM = eval "$$(.ci/setup tests)"; cargo test --quiet --locked --no-run --test architecture

# The unmodified packages from npm. Their sockets go on trying to connect when they are told to end: hence the
# forced exit.
clients: ## Stock clients from npm at real nodes (Node.js 20 or later)
	@$(STEP) 'stock clients'; \
	if ! node --version 2>/dev/null | grep -qE '^v(2[0-9]|[3-9][0-9])' || ! npm --version >/dev/null 2>&1; then \
		echo 'SKIPPED: stock clients, which need Node.js 20 or later and npm (apt-get install nodejs npm)'; exit; fi; \
	if [ ! -d tests/js/node_modules ] && ! npm ping >/dev/null 2>&1; then \
		echo 'SKIPPED: stock clients, since npm reaches no registry'; exit; fi; \
	$(PROGRAM); \
	cd tests/js; npm ci --silent --no-audit --no-fund --omit=dev; node --test --test-force-exit --test-timeout=120000

test-browser: ## The same clients and the page of examples in headless Chromium (Node.js 20 or later)
	@$(STEP) 'stock clients in a browser'; \
	if [ -z "$${CHROMIUM:-}" ] && ! command -v chromium >/dev/null; then \
		[ "$$(id -u)" = 0 ] || { echo 'Chromium is missing: as root, apt-get install chromium; or CHROMIUM=PATH'; exit 1; }; \
		apt-get update -qq; DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium; fi; \
	$(PROGRAM); export CHROMIUM="$${CHROMIUM:-$$(command -v chromium)}"; \
	cd tests/js; npm ci --silent --no-audit --no-fund; node bundle.js --check; \
	node --test --test-force-exit --test-timeout=120000 browser.js

examples: ## Make what the page of examples needs of npm's packages anew
	@cd tests/js; npm ci --silent --no-audit --no-fund; node bundle.js

bench: ## Each figure beside its floor, in one run (ARGS=NAME for those that hold NAME, ARGS=--list)
	@$(SETUP); cargo bench --quiet --locked --bench figures -- $(ARGS)

planted: ## Faults planted in copies of the sources are found by the simulation
	@$(STEP) 'planted faults'; tests/planted/run

# There is no unsafe code here: without a sanitizer there are ten times as many runs.
fuzz: ## Run each fuzz target for SECONDS_EACH seconds (nightly Rust)
	@cargo +nightly --version >/dev/null 2>&1 || { echo 'nightly Rust is missing: rustup toolchain install nightly'; exit 1; }
	@export PATH="$$PWD/target/tools/bin:$$PATH"; \
	cargo fuzz --version >/dev/null 2>&1 || cargo install --quiet --locked cargo-fuzz@0.13.1 --root target/tools; \
	targets=$$(cd fuzz && cargo +nightly fuzz list); \
	for target in $$targets; do \
		$(STEP) "fuzz $$target"; \
		cargo +nightly fuzz run --release --sanitizer none $$target -- -max_total_time=$(SECONDS_EACH) -rss_limit_mb=512 -timeout=5 || exit 1; \
	done

soak: ## The properties over SEEDS seeds each, SIMULATIONS simulations, ISLANDS minutes of real nodes cut and killed
	@eval "$$(.ci/setup tests)"; test="cargo test --release --locked --test tombolo"; \
	$(STEP) 'properties'; TOMBOLO_SEEDS=$(SEEDS) $$test properties -- --nocapture; \
	$(STEP) 'simulations'; TOMBOLO_SIMULATIONS=$(SIMULATIONS) $$test misfortune -- --nocapture; \
	$(STEP) 'islands'; TOMBOLO_ISLANDS=$(ISLANDS) $$test islands -- --nocapture
