# Headrace. `make demo` and `make test` need Python 3.11 or later, make and a package index, and nothing before them.

# The first Python on the path that is new enough; or say which: make test PYTHON=/opt/python/bin/python3
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet
ARGS ?=

# Stamps: made when the installation is whole, made again when what it depends on changes.
RUNTIME := $(VENV)/.runtime
DEV := $(VENV)/.dev
PEERS := .venv-peers/.stamp
NEEDS := pyproject.toml service/__init__.py

.DEFAULT_GOAL := help
.PHONY: install demo test harness run bench bench-quality check help

install: $(RUNTIME) ## make .venv, with the command at .venv/bin/headrace

demo: $(RUNTIME) ## watch Headrace learn from real files, in a throw-away directory
	$(BIN)/headrace demo $(ARGS)

test: $(DEV) ## run the tests (ARGS="-k name" for some of them)
	$(BIN)/python -m pytest -n 2 --dist loadfile $(ARGS)

harness: $(DEV) ## disturb it in every way and compare (ARGS="--seconds 3600 --seed 7"; ARGS=--help)
	$(BIN)/python -m tests.harness $(ARGS)

run: $(RUNTIME) ## run the daemon (ARGS="-c my.toml --root DIR")
	$(BIN)/headrace run $(ARGS)

bench: $(DEV) $(PEERS) ## how fast, beside others and beside its targets (ARGS="--large 10" with a file of 10 GB; ARGS=--help)
	$(BIN)/python -m benchmarks $(ARGS)

bench-quality: $(DEV) ## what one pass learns, beside others (ARGS="--data DIR" for the real sets)
	$(PIP) --editable '.[peers]'
	$(BIN)/python -m benchmarks.quality $(ARGS)

check: $(DEV) ## format, lint, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' Makefile

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "make: Python must be 3.11 or later; say which: make PYTHON=..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(RUNTIME): $(NEEDS) | $(BIN)/python
	$(PIP) --editable .
	@touch $@

$(PEERS): benchmarks/peers.txt | $(BIN)/python
	$(PYTHON) -m venv .venv-peers
	.venv-peers/bin/python -m pip --disable-pip-version-check install --quiet -r benchmarks/peers.txt
	@touch $@

$(DEV): $(NEEDS) | $(BIN)/python
	$(PIP) --editable '.[dev]'
	@touch $(RUNTIME) $@
