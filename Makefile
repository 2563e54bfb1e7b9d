# Every target that needs Python creates .venv first, from constraints.txt, and renews it
# when pyproject.toml or constraints.txt change. `make help` lists the targets.

PYTHON ?= python3
VENV   ?= .venv
# Extra arguments for the command behind a target: make test ARGS='-k masks'
ARGS   ?=

STAMP  := $(VENV)/.installed
BIN    := $(VENV)/bin
RUN    := $(BIN)/python

# No tool here reports its use to anyone.
export MLFLOW_DISABLE_TELEMETRY ?= true
export DO_NOT_TRACK ?= true
export RAY_USAGE_STATS_ENABLED ?= 0

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slow test-all test-gpu test-cluster soak check format methods bench peers peers-primo \
        bench-search bench-orchestration claims claims-channels clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 26

setup: $(STAMP) ## create .venv with every dependency, at the pinned versions

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Python >= 3.11 is needed, but PYTHON=$(PYTHON) is $$($(PYTHON) --version 2>&1);" \
	       "name a newer one, e.g.: make setup PYTHON=python3.12" >&2; exit 2; }
	@test -x $(RUN) || $(PYTHON) -m venv $(VENV)
	@echo "Installing the pinned packages into $(VENV) (some minutes the first time) ..."
	@$(RUN) -m pip install -qq --no-compile --disable-pip-version-check \
	  -c constraints.txt -e '.[search,analysis,ship,dev]'
	@$(RUN) -m compileall -qq -j 0 $(VENV)/lib || true  # on all cores; pip would use one
	@touch $@
	@echo "Ready. Next: make demo"

demo: $(STAMP) ## search sparsity on the built-in dataset (minutes) and write the report
	@$(RUN) -m search run demo $(ARGS)

# One thread per worker. Tests with Ray wait for half of their time, so three workers share two
# cores. A group of tests stays with one worker, and what they share is made once.
PYTEST := OMP_NUM_THREADS=1 $(RUN) -m pytest -n 3 --dist loadgroup --timeout 600

test: $(STAMP) ## the tests that need no GPU, no cluster and no patience
	@$(PYTEST) -m 'not gpu and not cluster and not slow' $(ARGS)

# pytest exits 5 when it selects no test, which here is no failure.
test-slow: $(STAMP) ## the slow tests
	@$(PYTEST) -m 'slow and not gpu and not cluster' $(ARGS) || test $$? -eq 5

test-all: $(STAMP) ## the quick and the slow ones in one run
	@$(PYTEST) -m 'not gpu and not cluster' $(ARGS)

test-gpu: $(STAMP) ## the tests that need a CUDA device
	@$(RUN) -m pytest --timeout 600 -m gpu $(ARGS)

test-cluster: $(STAMP) ## a study on three Ray nodes with PostgreSQL and MLflow; needs root
	@OMP_NUM_THREADS=1 $(RUN) -m pytest tests/cluster --timeout 600 -m cluster $(ARGS)

soak: $(STAMP) ## kill a study's driver 30 times and check that nothing is lost (6 minutes)
	@OMP_NUM_THREADS=1 $(RUN) -m tests.integration.soak $(ARGS)

check: $(STAMP) ## lint, format, types, direction of imports
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(RUN) -m mypy
	@PYTHONPATH=. $(BIN)/lint-imports --no-logo

format: $(STAMP) ## fix what ruff can fix
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

methods: $(STAMP) ## write the README's table of methods from their descriptions
	@$(RUN) -m trainables.registry.table README.md

bench: $(STAMP) ## measured ratios, side by side; make bench ARGS='--quick --json out.json'
	@$(RUN) -m benchmarks $(ARGS)

peers: $(STAMP) ## the searches that ours is compared with, without their dependencies
	@$(RUN) -m pip install -qq --disable-pip-version-check --no-deps -c constraints.txt \
	  syne-tune botorch gpytorch linear-operator multipledispatch pyre-extensions typing-inspect \
	  onnxruntime yahpo-gym ConfigSpace more-itertools

# NePS asks for versions that clash with those above, so it has an environment of its own. torch
# comes first and alone, so that later packages reuse that build.
NEPS := runs/peers/neps

peers-primo: $(NEPS)/.installed ## install NePS (PriMO, a peer) in an environment of its own

$(NEPS)/.installed: benchmarks/search/systems/neps-constraints.txt
	@test -x $(NEPS)/bin/python || $(PYTHON) -m venv $(NEPS)
	@echo "Installing the pinned NePS into $(NEPS) (some minutes the first time) ..."
	@$(NEPS)/bin/python -m pip install -qq --no-compile --disable-pip-version-check -c $< torch
	@$(NEPS)/bin/python -m pip install -qq --no-compile --disable-pip-version-check -c $< \
	  neural-pipeline-search
	@$(NEPS)/bin/python -m compileall -qq -j 0 $(NEPS)/lib || true
	@touch $@

bench-search: peers peers-primo ## our search beside its peers (hours; resumable), and write docs/search.md
	@$(RUN) -m benchmarks.search $(ARGS)

bench-orchestration: $(STAMP) ## what a study costs beside raw Ray Tune
	@$(RUN) -m benchmarks.orchestration $(ARGS)

claims: $(STAMP) ## put the paper's claims to the test (hours; resumable) and write docs/claims.md
	@$(RUN) -m benchmarks.claims $(ARGS)

claims-channels: $(STAMP) ## what channels, N:M and single weights buy (an hour; resumable)
	@$(RUN) -m benchmarks.claims.channels $(ARGS)

clean: ## remove .venv and the caches; runs/ stays
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache *.egg-info build
	find . -name __pycache__ -type d -not -path './runs/*' -prune -exec rm -rf {} +
