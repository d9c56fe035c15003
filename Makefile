# Every target first makes .venv what requirements.lock and the pyproject files say, when it is missing or stale.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.complete
PROJECTS := pyproject.toml $(wildcard packages/*/pyproject.toml)

OUT ?= runs/scenes
SEEDS ?= 1
PORT ?= 5000
TRIALS ?= 32
TEST_JOBS ?= 2
BENCH_JOBS ?= 2

export HF_HUB_OFFLINE ?= 1
export MLFLOW_DISABLE_TELEMETRY ?= true
export TOKENIZERS_PARALLELISM ?= false

.DEFAULT_GOAL := help
.PHONY: help setup ablation tune test test-all lint format bench bench-full dashboard encoders lock clean

help: ## Show the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

setup: $(STAMP) ## Make .venv (every other target does this by itself)

# Made beside and stamped last, so that an interrupted installation is never taken for a complete one.
$(STAMP): requirements.lock $(PROJECTS)
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@rm -f $@
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c requirements.lock \
		-e packages/encoders -e packages/graph -e packages/guidance -e packages/decoder -e '.[dev]'
	@touch $@

ablation: $(STAMP) ## The ablation study on procedural scenes (SEEDS=5 for mean and spread)
	$(BIN)/regioncap ablate scenes --seeds $(SEEDS) --out $(OUT) --resume

tune: $(STAMP) ## A small Optuna study on procedural scenes (TRIALS=32); the same command goes on with it
	$(BIN)/regioncap tune scenes --trials $(TRIALS) --train.steps 200 --train.evaluations 5 --out runs/tune

test: $(STAMP) ## The tests, slow ones left out, in two processes (TEST_JOBS=1 for one)
	$(BIN)/python -m pytest -n $(TEST_JOBS)

test-all: $(STAMP) ## All tests
	$(BIN)/python -m pytest -m 'slow or not slow'

lint: $(STAMP) ## ruff and mypy --strict
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP) ## Rewrite the sources as ruff likes them
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(STAMP) ## Latency, memory and peers of every stage, two files at once (BENCH_JOBS=1 for one); fails if a ratio fell
	$(BIN)/regioncap bench run --out runs/bench --jobs $(BENCH_JOBS)
	$(BIN)/regioncap bench gate runs/bench

bench-full: $(STAMP) ## The same with everything: scaling curves, slow peers
	$(BIN)/regioncap bench run --set full --out runs/bench-full
	$(BIN)/regioncap bench gate runs/bench-full

dashboard: $(STAMP) ## MLflow in the browser, over the studies under runs/ (PORT=5000)
	$(BIN)/regioncap dashboard --home runs --port $(PORT)

encoders: $(STAMP) ## Retrain the small scenes encoders that ship with the project
	$(BIN)/regioncap train-scenes-encoders --out experiments/src/regioncap/experiments/assets/scenes

lock: $(STAMP) ## Write requirements.lock from what .venv holds
	$(BIN)/python -m pip freeze --exclude-editable | sed -E 's/\+cpu$$//' | grep -vE '^(regioncap|pip|setuptools)' > requirements.lock

clean: ## Remove .venv and caches
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache
