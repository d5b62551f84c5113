# Everything a contributor runs. `make` alone lists it. Each target makes .venv and installs what it
# needs and no more; constraints.txt says which versions.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
QS     := examples/quickstart

# Some machines forbid byte code; then every start of torch compiles 10,000 files again.
export PYTHONDONTWRITEBYTECODE :=
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export TOKENIZERS_PARALLELISM := false

# The build tools are installed beside the rest and not once more for each build (isolation).
PIP     := $(BIN)/python -m pip install --quiet --constraint constraints.txt
COMPILE := $(BIN)/python -m compileall -q -j 2 src trainer/src $(DRIVERS) $(VENV)/lib >/dev/null
DRIVERS := $(patsubst %/pyproject.toml,%,$(wildcard providers/*/pyproject.toml))
INPUTS  := pyproject.toml trainer/pyproject.toml constraints.txt $(DRIVERS:=/pyproject.toml)
# Azure's emulator of blob storage, a Node program. Without npm its tests are skipped, aloud.
AZURITE := kwanzaa_compute_azureml.simulated.azurite
NODE    := providers/azureml/src/kwanzaa_compute_azureml/simulated/node/package-lock.json

.DEFAULT_GOAL := help
.SILENT: help clean clean-venv constraints $(VENV)/.made $(VENV)/.demo $(VENV)/.test

.PHONY: help
help: ## list the targets
	awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

# ---- what users and contributors run -------------------------------------------------------------

.PHONY: demo
demo: $(VENV)/.demo ## train the example from start to finish on this machine
	$(BIN)/python $(QS)/make_base.py --output $(QS)/base
	$(BIN)/kwanzaa train $(QS)/training.yaml --provider local --yes

# One thread a process: the tests run several at once, and sums must come out the same each time.
# Three on two cores: a fourth of what a test takes is waiting.
.PHONY: test
test: export OMP_NUM_THREADS := 1
test: check ## every check and every test (PYTEST_ARGS="-k lease" for some of them)
	$(BIN)/python -m pytest -n 3 --dist worksteal --durations=15 $(PYTEST_ARGS)

.PHONY: soak
soak: $(VENV)/.test ## hostile schedules against the supervisor (SEEDS=10000)
	$(BIN)/python bench/soak.py --seeds $(or $(SEEDS),10000)

.PHONY: check
check: $(VENV)/.test ## style, types, layers, versions
	$(BIN)/ruff check --quiet --output-format concise
	$(BIN)/ruff format --check --quiet
	$(BIN)/mypy --no-error-summary
	$(BIN)/lint-imports --no-logo
	$(BIN)/python -m pytest -q --no-header tests/house/test_versions.py

.PHONY: fmt
fmt: $(VENV)/.test ## put the source into shape
	$(BIN)/ruff check --fix --quiet || true
	$(BIN)/ruff format --quiet

.PHONY: bench
bench: $(VENV)/.demo ## first import, `kwanzaa --help`, plans of 100,000 offers, a sweep of 10,000 runs
	$(BIN)/python bench/run.py
	$(BIN)/python bench/bench_plan.py
	$(BIN)/python bench/bench_sweep.py

.PHONY: bench-gpu
bench-gpu: $(VENV)/.demo ## on a machine with a GPU: speed and memory of the trainer, peers beside it
	$(BIN)/python bench/gpu_fast.py --out $(or $(OUT),bench-gpu)

.PHONY: bench-gpus
bench-gpus: $(VENV)/.demo ## on a machine with two GPUs: one adapter on both, beside one of them
	$(BIN)/python bench/gpu_team.py --out $(or $(OUT),bench-gpus)

.PHONY: wheels
wheels: $(VENV)/.test ## one wheel for each distribution, in dist/
	rm -rf dist
	for one in . trainer $(DRIVERS); do \
	  $(BIN)/python -m build --wheel --no-isolation --outdir dist $$one || exit 1; done

.PHONY: clean
clean: ## remove what the other targets made; the environment and your adapters stay
	rm -rf dist build $(QS)/base .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find src trainer providers bench examples tests -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: clean-venv
clean-venv: ## remove the environment
	rm -rf $(VENV)

.PHONY: constraints
constraints: $(VENV)/.test ## write what is installed into constraints.txt
	sed '/^[^#]/d' constraints.txt >constraints.new
	$(BIN)/python -m pip freeze --all --exclude-editable \
	| sed -E -e '/^(pip|wheel)==/d' -e 's/\+(cpu|cu[0-9]+)$$//' -e '/^(nvidia-|triton)/d' \
	| LC_ALL=C sort -f >>constraints.new
	mv constraints.new constraints.txt

.PHONY: lock
lock: $(VENV)/.test ## write what a rented machine installs, with hashes (minutes: downloads wheels)
	$(BIN)/python tools/make_lock.py

# ---- the environment: a stamp for each of its states ----------------------------------------------

$(VENV)/.made:
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	|| { echo "Python 3.11 or newer is needed: make PYTHON=python3.11"; exit 1; }
	touch $@

$(VENV)/.demo: $(VENV)/.made $(INPUTS)
	echo "installing the core and the trainer into $(VENV); with torch that takes a few minutes ..."
	$(PIP) --no-compile hatchling editables
	$(PIP) --no-compile --no-build-isolation -e . -e 'trainer[torch]'
	$(COMPILE) || true
	touch $@

$(VENV)/.test: $(VENV)/.made $(INPUTS) $(NODE)
	echo "installing the core, the trainer and what tests need into $(VENV); a few minutes ..."
	$(PIP) --no-compile hatchling editables
	$(PIP) --no-compile --no-build-isolation -e '.[dev]' -e 'trainer[torch,wandb]' $(addprefix -e ,$(DRIVERS))
	$(COMPILE) || true
	$(BIN)/python -m $(AZURITE) || true
	touch $(VENV)/.demo $@
