# Every target sets up .venv by itself, once. Another interpreter: PYTHON=python3.12 make test

VENV := .venv
# A PYTHON that was given is obeyed; without one, an environment that is ready stays in use.
GIVEN := $(PYTHON)
PYTHON ?= python3
VERSION = $(shell $(PYTHON) -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])' 2>/dev/null)
CAN_VENV = $(shell $(PYTHON) -c 'import ensurepip, venv; print("yes")' 2>/dev/null)
SUPPORTED := 3.11.% 3.12.% 3.13.%
# The stamp is written last, so an interrupted set-up is never taken as done.
READY := $(or $(if $(GIVEN),,$(firstword $(wildcard $(VENV)/ready-*))),$(VENV)/ready-$(VERSION))
RUN := $(VENV)/bin/python -m
# The compilers of `make aot` are in an environment of their own.
AOT := $(VENV)-aot

# 3.12 gets the same packages as 3.13, so the other end of 3.11 is either, and theirs is 3.11.
OTHER_END = $(if $(filter $(VENV)/ready-3.11.%,$(READY)),3.13 3.12,3.11)
PYENV_ROOT ?= $(HOME)/.pyenv

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-all check format bench aot scaling bench-kernels bench-input criteo-generated clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):[^#]*## /make \1\t/p' Makefile | expand -t 16

setup: $(READY) ## make .venv with the pinned packages (the others do it by themselves)
	@:

demo: $(READY) ## train every method on scikit-learn's digits and write a report [DEMO_FLAGS=...]
	@$(RUN) experiments.demo $(DEMO_FLAGS)

test: $(READY) ## run the tests that take less than a minute each [TEST_FLAGS=...]
	@$(RUN) pytest -n 2 --dist worksteal -m "not slow" $(TEST_FLAGS)

test-all: $(READY) ## run all tests, compile all kernels, then the quick tests at the other end of the Python range
	@$(RUN) pytest -n 2 --dist worksteal $(TEST_FLAGS)
	@$(MAKE) --no-print-directory aot AOT_FLAGS=
	@other=$$(for version in $(OTHER_END); do \
	    for python in python$$version $(PYENV_ROOT)/versions/$$version.*/bin/python; do \
	        $$python -c 'import ensurepip, venv' 2>/dev/null && echo $$python && exit; \
	    done; \
	done); \
	if [ -n "$$other" ]; then \
	    $(MAKE) --no-print-directory VENV=.venv-other PYTHON=$$other test; \
	else \
	    echo "SKIPPED the tests at the other end of the range: no Python $(OTHER_END) found"; \
	fi

check: $(READY) ## formatting, lint, types
	@$(RUN) ruff format --check .
	@$(RUN) ruff check .
	@$(RUN) pyrefly check --python-interpreter-path $(VENV)/bin/python

format: $(READY) ## rewrite the code as `make check` wants it, where a program can
	@$(RUN) ruff format .
	@$(RUN) ruff check --fix .

bench: $(READY) ## measure [BENCH_FLAGS=... BENCH_LAUNCH_FLAGS=... BENCH_EXECUTION_FLAGS=...]
	@$(RUN) experiments.bench $(BENCH_FLAGS)
	@$(RUN) experiments.bench_launch $(BENCH_LAUNCH_FLAGS)
	@$(RUN) experiments.bench_execution $(BENCH_EXECUTION_FLAGS)

aot: $(AOT)/ready ## compile the kernels for TPUs and an H200 that are not here [AOT_FLAGS=...]
	@$(AOT)/bin/python -m experiments.aot $(AOT_FLAGS)

scaling: $(AOT)/ready ## compile training steps for TPUs that are not here [SCALING_FLAGS=...]
	@PYTHONPATH=$$($(VENV)/bin/python -c 'import site; print(site.getsitepackages()[0])') \
	    $(AOT)/bin/python -m experiments.bench_scaling $(SCALING_FLAGS)

bench-kernels: $(READY) ## measure the block-sparse kernels [KERNEL_FLAGS=...]
	@$(RUN) experiments.bench_kernels $(KERNEL_FLAGS)

bench-input: $(READY) ## measure how pictures are read [INPUT_FLAGS=...]
	@$(RUN) experiments.bench_input $(INPUT_FLAGS)

criteo-generated: $(READY) ## generate and prepare click logs with a planted structure under $SPARSITY_DATA
	$(if $(SPARSITY_DATA),,$(error set SPARSITY_DATA to the folder of the data sets))
	@$(RUN) experiments.generate_criteo --out=$(SPARSITY_DATA)/criteo_generated/train.txt --rows=400000
	@$(RUN) experiments.prepare_criteo --source=$(SPARSITY_DATA)/criteo_generated/train.txt \
	    --out=$(SPARSITY_DATA)/criteo_generated

clean: ## remove the environments and caches; runs/ stays
	rm -rf .venv .venv-other .venv-aot .venv-other-aot .cache .hypothesis .pytest_cache .ruff_cache build dist *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# $(error) is one line and ends make with 2; it is expanded before the recipe runs anything.
$(READY): pyproject.toml constraints.txt
	$(if $(VERSION),,$(error '$(PYTHON)' is no Python here; name one of 3.11 to 3.13: \
	    PYTHON=/path/to/python make $(MAKECMDGOALS)))
	$(if $(filter $(SUPPORTED),$(VERSION)),,$(error '$(PYTHON)' is Python $(VERSION), but this \
	    project needs 3.11 to 3.13: PYTHON=/path/to/python make $(MAKECMDGOALS)))
	$(if $(CAN_VENV),,$(error '$(PYTHON)' (Python $(VERSION)) lacks the modules venv and \
	    ensurepip; install them (on Debian and Ubuntu: python3-venv)))
	@echo "setting up $(VENV) with Python $(VERSION) (once, about two minutes)"
	@$(PYTHON) -m venv --clear $(VENV)
	@$(RUN) pip install -qq --no-input --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $(VENV)/ready-$(VERSION)

$(AOT)/ready: constraints-aot.txt | $(READY)
	@free=$$(df -Pk . | awk 'NR == 2 {print int($$4 / 1048576)}'); \
	if [ "$$free" -lt 3 ]; then \
	    echo "the compilers of make aot take 2 GB, and there are $$free GB free here" >&2; exit 1; \
	fi
	@echo "setting up $(AOT) with the compilers for TPUs and an H200 (once, 1.9 GB, about a minute)"
	@$(VENV)/bin/python -m venv --clear $(AOT)
	@$(AOT)/bin/python -m pip install -qq --no-input --disable-pip-version-check -r constraints-aot.txt || { \
	    echo "the packages of constraints-aot.txt could not be installed; make aot needs them" >&2; exit 1; \
	}
	@touch $(AOT)/ready
