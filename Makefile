# Thin on purpose: each target is a line or two that anybody could type.
CARGO_TARGET_DIR ?= $(CURDIR)/target
export CARGO_TARGET_DIR

.PHONY: demo test test-matrix test-long referee bench fmt lint

# Builds the binary, lays sample sources out under .demo/, runs three queries, stays up until Ctrl-C.
demo:
	cargo build --release --workspace --bins
	$(CARGO_TARGET_DIR)/release/meshwork demo

# Everything that has to hold before a change lands. One profile, one target folder, no release build. One test
# at a time: those that look whether workers are idle within two seconds cannot share two cores with others.
test:
	sql-tests/install-servers.sh
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	cargo test --workspace -- --test-threads 1

# Nightly size: every case with 1, 2, 3, 7 tasks and 1, 2, 8 partitions; TPC-H at scale factor 0.1.
test-matrix:
	cargo build --workspace --bins
	MESHWORK_TEST_MATRIX=1 MESHWORK_TEST_TPCH_SCALE=0.1 cargo test --workspace --test slt --test tpch

# What takes an hour, on the release build: of the store 500 kills of writers, 10,000 random histories of each kind, one
# of 500 updates, 1000 readers; 50 of each fault of a process, a build side of eleven minutes, TPC-H at scale factor 1 on
# every shape and spread over sources.
test-long:
	cargo build --release --workspace --bins
	MESHWORK_KILLS=500 MESHWORK_SEEDS=10000 MESHWORK_UPDATES=500 MESHWORK_COMMITS=100000 MESHWORK_READERS=1000 \
		MESHWORK_TEST_FAULTS=50 MESHWORK_TEST_TPCH_SCALE=1 cargo test --release --workspace --test store --test writes \
		--test faults --test tpch --test cluster -- --test-threads 1 --include-ignored --nocapture

# 200,000 random queries with pushdown, without, and of local copies; see docs/testing.md. ARGUMENTS='--replay SEED:CASE'
# asks one of them again.
ARGUMENTS ?= --pairs 200000
referee:
	cargo build --release --workspace --bins
	$(CARGO_TARGET_DIR)/release/referee $(ARGUMENTS)

# Side by side: TPC-H SF1 on plain DataFusion, standalone, coordinator and two workers; whole tables and a few keys of
# PostgreSQL and MariaDB; sums while money moves; starting. `bench federated` has a Python beside it: see docs/testing.md.
bench:
	cargo build --release --workspace --bins
	$(CARGO_TARGET_DIR)/release/bench tpch
	$(CARGO_TARGET_DIR)/release/bench read
	$(CARGO_TARGET_DIR)/release/bench lookup
	$(CARGO_TARGET_DIR)/release/bench sums
	$(CARGO_TARGET_DIR)/release/bench start

fmt:
	cargo fmt --all

lint:
	cargo clippy --workspace --all-targets -- -D warnings
