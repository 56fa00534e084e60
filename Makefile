# Sankofa: every job of a developer and of CI. `make help` lists them.
#
# Needs: Linux x86_64, Rust by rustup, npm and python3 with pip (installed by apt when root runs
# this). Everything else comes from crates.io, npm, PyPI and apt into target/ and .testbed/.
# Works as root and as an ordinary user.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

BED := $(or $(SANKOFA_TESTBED),.testbed)

# Runs a command with cargo in PATH, or says where Rust is had from.
WITH := tests/testbed/toolchain.sh run

.PHONY: help
help: ## print this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | while IFS=$$'\t' read -r name what; do \
		printf '  make %-15s %s\n' "$$name" "$$what"; done

.PHONY: test
test: testbed lint ## everything that CI runs: test bed, lint, all tests
	$(WITH) cargo test --locked
	$(MAKE) --no-print-directory test-nomad test-image test-airflow test-kubernetes test-platform

.PHONY: test-airflow
test-airflow: build ## the package of airflow_dags/ on a real Airflow 3.3; AIRFLOW=2: on 2.11
	tests/airflow/run.sh $(or $(AIRFLOW),3)

.PHONY: test-upgrade
test-upgrade: testbed build ## a real Airflow 2.11 becomes 3.3 on its own database, with the same DAGs and locks (root)
	tests/airflow/run.sh 3 upgrade

.PHONY: test-kubernetes
test-kubernetes: testbed build ## the same package on a real Kubernetes of one node, with the real image and Vault (root)
	tests/testbed/kubernetes.sh $(BED)
	tests/airflow/run.sh 3 cluster

.PHONY: test-platform
test-platform: testbed build ## five days of the whole platform, with faults, on a real Airflow 3.3; AIRFLOW=2: on 2.11 (root)
	tests/platform/run.sh $(or $(AIRFLOW),3)

.PHONY: lint
lint: ## formatting, clippy, documentation, licences and bans of dependencies
	$(WITH) cargo fmt --check
	$(WITH) cargo clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(WITH) cargo doc --locked --no-deps --quiet
	tests/testbed/toolchain.sh deny --log-level error --locked check licenses bans sources
	for script in .ci/run $$(git ls-files '*.sh'); do bash -n "$$script"; done

.PHONY: build
build: ## the binary for developers: target/debug/sankofa
	$(WITH) cargo build --locked

.PHONY: release
release: ## the binary to ship: target/release/sankofa
	$(WITH) cargo build --locked --release

.PHONY: dist
dist: ## the static binary of any Linux x86_64, with SHA256SUMS, into dist/
	docker/dist.sh

IMAGE ?= sankofa:local
MAJORS ?= 13 14 15 16 17 18
BASE ?= debian:bookworm-slim
.PHONY: image
image: ## the container image IMAGE, with the client programs of MAJORS (docs/install.md)
	[ -s dist/SHA256SUMS ] || docker/dist.sh
	set -- $$(docker/context.sh dist/sankofa-*-linux-x86_64 target/image) && \
		docker build --network host -f docker/Dockerfile -t '$(IMAGE)' --build-arg BASE='$(BASE)' \
			--build-arg MAJORS='$(MAJORS)' --build-arg VERSION="$$1" --build-arg REVISION="$$2" target/image

AIRFLOW_BASE ?= apache/airflow:slim-3.3.2-python3.11
.PHONY: airflow-image
airflow-image: IMAGE = sankofa-airflow:local
airflow-image: ## Airflow's image with the package of airflow_dags/: IMAGE=..., AIRFLOW_BASE=...
	docker build --network host -f docker/airflow.Dockerfile -t '$(IMAGE)' --build-arg BASE='$(AIRFLOW_BASE)' airflow_dags

.PHONY: test-image
test-image: testbed build ## the real Dockerfile on a real engine, real containers, compose's services (root)
	tests/testbed/python.sh
	PYTHONPATH=$(BED)/python python3 -m unittest discover -v -s tests/docker

.PHONY: test-nomad
test-nomad: build ## Nomad's stand-in against the recordings; the job files of nomad/
	tests/testbed/python.sh
	PYTHONPATH=$(BED)/python python3 -m unittest discover -v -s tests/nomad

.PHONY: testbed
testbed: ## real PostgreSQL servers 13 to 18, pg_dump and psql, pgbouncer, into .testbed/ (once, 40 s)
	tests/testbed/install.sh

.PHONY: demo
demo: ## three demo databases, loaded twice into a warehouse; one backed up, drilled, lost and restored
	@echo 'demo: PostgreSQL 16 and 18 into .testbed/ (once)'; tests/testbed/install.sh 16 18
	@echo 'demo: building target/debug/sankofa (release takes 3 times as long, and this is little data)'; $(WITH) cargo build --locked --quiet
	@demo/run.sh

.PHONY: look
look: ## a page of `sankofa status --html` in a real browser: PAGE=...; pictures into target/look
	tests/testbed/look.sh '$(PAGE)'

.PHONY: bench
bench: testbed release ## speed and memory beside psql and other tools (bench/run.sh)
	$(WITH) bench/run.sh

.PHONY: soak
soak: testbed ## the long tests and the long sizes of others: hours
	SANKOFA_SOAK=1 $(WITH) cargo test --locked --release -- --include-ignored --test-threads=1

.PHONY: clean
clean: ## remove .testbed/, leftover servers and target/
	tests/testbed/remove.sh
	rm -rf target
