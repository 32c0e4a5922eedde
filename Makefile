# Everything runs in .venv, which `make setup` builds from pyproject.toml.
PYTHON ?= python3
BIN := .venv/bin
RUNS := runs
SPEED := training_speed sweep_peers search_peers lr_finders input_pipeline startup fused_trials thread_contention scale coordinator gpu

.PHONY: help setup demo check lint test bench clean

help:  ## show this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

setup: .venv/installed  ## create .venv and install cnntune with its development tools

.venv/installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "cnntune needs Python 3.11 or newer: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'  # for --group
	$(BIN)/python -m pip install --quiet -e '.[postgres,tensorboard]' --group dev
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

lint: setup  ## fix what the linter can fix
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

test: check  ## lint, types and every test, the slow ones too
	$(BIN)/python -m pytest
	$(BIN)/python -m pytest -m slow

bench: setup  ## every benchmark: verdicts and speed (three hours on two cores)
	$(BIN)/python benchmarks/speed/diagnose_speed.py
	$(BIN)/python benchmarks/sanity/planted_bugs.py --workers 2
	$(BIN)/python benchmarks/search/lr_regret.py --workers 2
	for name in $(SPEED); do $(BIN)/python benchmarks/speed/$$name.py --write || exit 1; done

clean:  ## remove what was built; runs/ stays
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache build dist
