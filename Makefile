# Everything runs in .venv, which `make setup` builds from pyproject.toml.
PYTHON ?= python3
BIN := .venv/bin
RUNS := runs

.PHONY: help setup demo check lint test bench clean

help:  ## show this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

setup: .venv/installed  ## create .venv and install cnntune with its development tools

.venv/installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "cnntune needs Python 3.11 or newer: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@

demo: setup  ## the whole workflow on real images: sanity, lr-sweep, search, refine, diagnose
	$(BIN)/cnntune sanity digits --runs $(RUNS)
	$(BIN)/cnntune lr-sweep digits --runs $(RUNS)
	$(BIN)/cnntune search digits --budget 12 --runs $(RUNS)
	$(BIN)/cnntune refine $(RUNS)/digits --runs $(RUNS)
	$(BIN)/cnntune diagnose $(RUNS)/

check: setup  ## lint and types, changing nothing
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

lint: setup  ## mend what the linter can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

test: check  ## lint, types and every test, the slow ones too
	$(BIN)/python -m pytest -m ''

bench: setup  ## what sanity finds, and what following lr-sweep costs (two hours on two cores)
	$(BIN)/python benchmarks/diagnose_speed.py
	$(BIN)/python benchmarks/planted_bugs.py --workers 2
	$(BIN)/python benchmarks/lr_regret.py --workers 2

clean:  ## remove what was built; runs/ stays
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache build dist
