# `make demo` and `make test` are all that a new machine needs; both make .venv by themselves.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/ready

.PHONY: demo test check kafka faults guards clean
.DEFAULT_GOAL := help

help:  ## what there is
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):[^#]*## /  make \1\t/'

$(READY): requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $(READY)

demo: $(READY)  ## the main job on this machine: embedded bus, partner stand-ins, sample traffic over MLLP
	$(BIN)/emr-pipeline demo

test: $(READY) check  ## lint, types, import contract, mappings, all tests (starts a real Kafka and PostgreSQL where it can)
	$(BIN)/pytest

check: $(READY)  ## lint, types, import contract, mappings
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check --quiet .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/emr-pipeline lint
	$(BIN)/emr-pipeline test

faults: $(READY)  ## every fault of RELIABILITY with ten seeds, real processes; a table: fault, promise, seen, seconds
	FAULT_SEEDS=$${FAULT_SEEDS:-10} $(BIN)/pytest -q -m "not open_defect" tests/faults

guards: $(READY)  ## each guard of R3 to R7 taken away: which fault test notices (an hour)
	$(BIN)/python -m tests.faults.guards

kafka: $(READY)  ## a real Kafka on loopback, until Ctrl-C
	deploy/kafka/kafka.sh start

clean:  ## what was made here, .venv included
	rm -rf .venv .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache *.egg-info build
