.DEFAULT_GOAL := help
RUN := scripts/uv run --frozen --no-sync
RECIPE ?= fast
RUNS ?= 5
TRAIN_FLAGS ?=
GPU_FLAGS ?=
BENCH_FLAGS ?=
# LitServe needs a package that shadows a package of the backend, so the benchmark has its own environment.
BENCH_VENV := .local/bench/venv
# make passes DATA through the environment, because a path may contain spaces.
ALL_TRAIN_FLAGS = --recipe $(RECIPE) $${DATA:+--data "$$DATA"} $(TRAIN_FLAGS)
# Without these settings glibc returns large blocks of memory to the kernel and allocates them again at every step.
KEEP_MEMORY := MALLOC_MMAP_THRESHOLD_=10000000000 MALLOC_TRIM_THRESHOLD_=10000000000

help: ## Print this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

up: ## Install what is missing, start the whole system, classify a sample (HTTP_PORT=8080)
	@scripts/bootstrap
	@$(RUN) python -m scripts.local up

down: ## Stop the system; .local/ keeps the history
	@$(RUN) python -m scripts.local down

logs: ## Follow every log
	@$(RUN) python -m scripts.local logs

status: ## Show the processes and the health report
	@$(RUN) python -m scripts.local status

test: ## Install what is missing, check the code, run every test that needs neither Docker nor LitServe
	@scripts/bootstrap tests
	@$(MAKE) --no-print-directory check
	@scripts/npm test
	@$(RUN) pytest

check: ## Lint, format and type checks, import rules, generated files
	@scripts/bootstrap code
	@scripts/check

fix: ## Format the code, regenerate files, apply the fixes of the linters
	@scripts/bootstrap code
	@$(RUN) ruff check --quiet --fix --exit-zero . && $(RUN) ruff format .
	@$(RUN) python -m scripts.openapi ui/openapi.json
	@scripts/npm run --silent types && scripts/npm run --silent fix
	@$(RUN) ruff check .

secrets: ## Create the secrets of Docker Compose, once
	@scripts/make-secrets

compose-up: secrets ## Build and start the system with Docker Compose (HTTP_PORT=80)
	@REVISION=$$(git rev-parse --short HEAD 2>/dev/null) docker compose up --build --wait
	@docker compose ps

compose-test: ## Build, start, test, scale and stop a separate system with Docker Compose
	@scripts/bootstrap tests
	@$(RUN) pytest tests/compose -m docker

train: ## Train and publish a model (DATA=folder or archive; RECIPE=fast, balanced or accurate; TRAIN_FLAGS=--help)
	@scripts/bootstrap torch
	@$(KEEP_MEMORY) $(RUN) python -m training.train $(ALL_TRAIN_FLAGS)

import-model: ## Publish your own torch module (MODULE=file.py:function; DATA as for train)
	@scripts/bootstrap torch
	@$(RUN) python -m training.import_model --module "$(MODULE)" $${DATA:+--data "$$DATA"} $(TRAIN_FLAGS)

bench-train: ## Train RUNS times, print a table of time and accuracy (RUNS=5; RECIPE, DATA as for train)
	@scripts/bootstrap torch
	@$(KEEP_MEMORY) $(RUN) python -m training.bench --runs $(RUNS) $(ALL_TRAIN_FLAGS)

gpu-check: ## Check and measure the health report, serving and training on a GPU (DATA as for train; GPU_FLAGS=--help)
	@scripts/bootstrap torch
	@$(KEEP_MEMORY) $(RUN) python -m tests.gpu $${DATA:+--data "$$DATA"} $(GPU_FLAGS)

bench: ## Compare a separate copy of the system with LitServe (BENCH_FLAGS=--quick, or --help)
	@UV_PROJECT_ENVIRONMENT=$(BENCH_VENV) scripts/bootstrap bench
	@UV_PROJECT_ENVIRONMENT=$(BENCH_VENV) $(RUN) python -m tests.load.bench $(BENCH_FLAGS)

bench-test: ## Run the tests of the benchmark that need LitServe
	@UV_PROJECT_ENVIRONMENT=$(BENCH_VENV) scripts/bootstrap bench
	@UV_PROJECT_ENVIRONMENT=$(BENCH_VENV) $(RUN) pytest -m litserve tests/load

e2e: ## Run only the tests in tests/e2e: the whole system, with a browser
	@scripts/bootstrap tests
	@$(RUN) pytest tests/e2e

.PHONY: help up down logs status test check fix secrets compose-up compose-test train import-model bench-train gpu-check bench bench-test e2e
