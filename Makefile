# Every target first makes what it needs: a virtual environment in .venv with pinned dependencies
# and, as root on Debian or Ubuntu, the programs that the lab runs. `make` alone lists the targets.

# Debian keeps nft, nginx and ip in sbin, which is not on everybody's path.
export PATH := $(PATH):/usr/sbin:/sbin
export PYTHON ?=
bin := .venv/bin
# Rootless where the kernel allows it; the lab's own commands see to that themselves.
privileged := tools/privileged

# Of `make soak`: broken messages, minutes of your time, simulated hours of each history, and the first history's seed.
SOAK_MINUTES ?= 60
SOAK_HOURS ?= 24
SOAK_SEED ?= 1
SOAK_INPUTS ?= 1000000

# Of `make test`: how many tests at once. Most of them wait for something rather than compute.
TEST_WORKERS ?= auto

# Of `make faults`: how often.
FAULTS_RUNS ?= 10
faults := tests/e2e/test_kubernetes_faults.py tests/e2e/test_kubernetes_rights.py tests/e2e/test_leadership.py

.PHONY: help demo demo-kubernetes lab test test-fast check format manifests faults soak bench lock clean python system newer
.NOTPARALLEL:

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' Makefile

demo: python system ## a cluster in namespaces: addresses, lost nodes, BGP with ECMP and BFD, an Ingress with TLS (one to two minutes)
	@$(bin)/lbcore demo

demo-kubernetes: python system ## first steps and an Ingress at a real API server, with kubectl and helm (needs KUBEBUILDER_ASSETS)
	@$(bin)/lbcore demo --kubernetes

lab: python system ## the demo's cluster, to play with
	@$(bin)/lbcore lab

test: python system newer ## every test; what closes it says what was skipped and why, and what passed at its second try only
	@$(privileged) $(bin)/python -m pytest --again --numprocesses $(TEST_WORKERS) --dist worksteal

test-fast: python system ## the tests that take no more than a second or two each
	@$(privileged) $(bin)/python -m pytest -m "not slow"

check: python ## formatting, lint, types, import contracts
	$(bin)/ruff format --check
	$(bin)/ruff check
	$(bin)/mypy
	$(bin)/lint-imports

format: python ## put the sources into ruff's format
	$(bin)/ruff format
	$(bin)/ruff check --fix

manifests: python ## make the files of deploy that are made from others
	@tools/manifests

soak: python ## a million broken messages for the decoders, then a pretend cluster's bad days, SOAK_MINUTES long
	@PYTHONPATH=tests $(bin)/python tests/fuzz.py $(SOAK_INPUTS) $(SOAK_SEED)
	@$(bin)/lbcore simulate --seed $(SOAK_SEED) --hours $(SOAK_HOURS) --minutes $(SOAK_MINUTES)

bench: python system ## speed and memory, as a table
	@$(privileged) $(bin)/python -m benchmarks

faults: python system ## the fault suite, FAULTS_RUNS times in a row, then 50 kills of a controller (needs KUBEBUILDER_ASSETS)
	@for run in $$(seq $(FAULTS_RUNS)); do \
	  echo "faults: run $$run of $(FAULTS_RUNS)"; \
	  $(privileged) $(bin)/python -m pytest -q --numprocesses $(TEST_WORKERS) --dist worksteal $(faults) || exit 1; \
	done
	@LBCORE_FAULTS=10 $(privileged) $(bin)/python -m pytest -q $(firstword $(faults)) -k killed_in_the_middle

lock: ## resolve the dependencies anew and pin them in constraints.txt
	@tools/setup lock

clean: ## remove everything that make made here (system packages stay)
	rm -rf .venv build dist src/*.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

python:
	@tools/setup python

system:
	@tools/setup system

newer: system
	@tools/setup newer
