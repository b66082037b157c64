# make demo | make test: everything else (the virtual environment, the installation) they do themselves.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO_OUT ?= demo-report
# The other libraries that `make bench` measures have an environment of their own.
PEERS := .venv-bench
BENCH ?=
# Two torch threads on a busy two-core machine are slower than one, sometimes by a factor of fifty.
ONE_THREAD := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1
PIP := $(BIN)/python -m pip --disable-pip-version-check
NEW_ENOUGH := import sys; v = sys.version_info[:2]; sys.exit(0 if v >= (3, 11) else 'innerloop needs Python 3.11 or newer, found %d.%d: run make PYTHON=python3.11' % v)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test test-all fuzz lint types types-public docs format bench results-page builtin clean

help:
	@echo "make demo    install, then meta-train, adapt to unseen tasks and write a report ($(DEMO_OUT)/)"
	@echo "make test    install with the test extras, then run the tests"
	@echo "make test-all  these, then the slow ones: every method trained and compiled, every page's commands"
	@echo "make fuzz    ten thousand damaged inputs for every reader"
	@echo "make lint    ruff: rules and formatting"
	@echo "make types   pyright"
	@echo "make types-public  does every public name say its type? the share, with a floor"
	@echo "make docs    the documentation as a site: build/site/index.html (INNERLOOP_DOCS_RUN=1: with the notebooks' results)"
	@echo "make format  let ruff rewrite the files"
	@echo "make bench   speed and memory beside other libraries: benchmarks/results, docs/speed.md (BENCH=\"sine conv4\": only these)"
	@echo "make results-page  the tables of docs/results.md and docs/methods from the rows in results/"
	@echo "make builtin LEARNER=NAME  train a built-in learner anew and put it into the package"
	@echo "make clean   remove the environment and everything built"
	@echo "PYTHON=...   the interpreter to build the environment with (default: python3)"

demo: $(VENV)/.installed
	$(BIN)/innerloop demo --out $(DEMO_OUT)

# A file goes to one worker: what its tests share is made once.
test: $(VENV)/.installed-dev
	$(ONE_THREAD) $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test-all: test
	$(ONE_THREAD) $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m slow

fuzz: $(VENV)/.installed-dev
	$(ONE_THREAD) INNERLOOP_FUZZ=10000 $(BIN)/python -m pytest -n 2 --timeout 3600 tests -k fuzzed

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed-dev
	$(BIN)/pyright

# A minute: what users' type checkers see of the package. The floor stands in benchmarks/public_types.py.
types-public: $(VENV)/.installed-dev
	$(BIN)/python -m benchmarks.public_types

# A warning is an error: a link that leads nowhere, a docstring that does not read.
docs: $(VENV)/.installed-dev
	$(BIN)/python -m sphinx -q -E -W --keep-going -b html docs build/site

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(PEERS)/.installed
	$(ONE_THREAD) $(PEERS)/bin/python -m benchmarks.speed $(BENCH)
	$(PEERS)/bin/python -m benchmarks.speed --page

results-page: $(VENV)/.installed
	$(BIN)/python -m benchmarks.published --page

$(BIN)/python:
	@$(PYTHON) -c "$(NEW_ENOUGH)"
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo 'could not make $(VENV): on Debian and Ubuntu install python3-venv' >&2; exit 1; }

# The stamps are older than these two files when the versions may have changed: then, and only then, install again.
$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) install -q -c constraints.txt -e .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) install -q -c constraints.txt -e ".[dev]"
	@touch $@ $(VENV)/.installed

# What cannot be installed is left out: its row says so.
$(PEERS)/.installed: pyproject.toml constraints.txt benchmarks/requirements-peers.txt benchmarks/install_learn2learn.sh
	@$(PYTHON) -c "$(NEW_ENOUGH)"
	@test -x $(PEERS)/bin/python || $(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip --disable-pip-version-check install -q -c constraints.txt -e .
	grep -v '^#' benchmarks/requirements-peers.txt | while read -r peer; do \
		$(PEERS)/bin/python -m pip --disable-pip-version-check install -q -c constraints.txt "$$peer" || echo "left out: $$peer" >&2; done
	sh benchmarks/install_learn2learn.sh $(PEERS)/bin/python || echo "left out: learn2learn" >&2
	@touch $@

# Trains a built-in learner anew and puts it into src/innerloop/builtin: make builtin LEARNER=characters
builtin: $(VENV)/.installed
	$(ONE_THREAD) $(BIN)/python -m benchmarks.builtin $(LEARNER)

clean:
	rm -rf $(VENV) $(PEERS) build dist demo-report .pytest_cache .ruff_cache .hypothesis
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
	rm -rf src/*.egg-info
