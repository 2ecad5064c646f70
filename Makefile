# `make help` lists what there is. Python 3.11 or newer and make are enough: every target builds .venv itself.

ifeq ($(origin PYTHON),undefined)
PYTHON := $(shell for p in python3 python3.13 python3.12 python3.11; do \
    if $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then command -v $$p; break; fi; done)
endif

VENV := .venv
PY   := $(VENV)/bin/python
PIP  := $(PY) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
# make test PYTEST_ARGS="tests/panel -x"     make demo ARGS="--assets 100 --bars 1000"
# make soak SUITE=contract ARGS="--books 100000"     SUITE=relations; all
# make soak SUITE=crashes MINUTES=10     goes on from where it stood; tests/soak/__main__.py lists the suites
PYTEST_ARGS ?=
ARGS        ?=
SUITE       ?= all
MINUTES     ?=

.DEFAULT_GOAL := help
.PHONY: help demo test lint bench bench-peers peers soak defects clean which-python

help:  ## what can be made here
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/.installed  ## build a demo panel, sweep over a thousand trials on local Ray, print the leaderboard
	$(VENV)/bin/backtest-farm demo $(ARGS)

test: lint  ## ruff, mypy and import-linter, then all tests, in two processes
	$(PY) -m pytest -n 2 --dist worksteal $(PYTEST_ARGS)

lint: $(VENV)/.installed-test  ## ruff, mypy and import-linter only
	$(PY) -m ruff check .
	$(PY) -m mypy
	$(VENV)/bin/lint-imports --no-logo

bench: $(VENV)/.installed  ## what backtests and sweeps cost, beside a bare loop (five minutes; or ARGS="--quick --only W3")
	$(PY) -m benchmarks $(ARGS)

bench-peers: $(VENV)/.installed-test  ## the same cases on other engines, where the results are equal (half an hour, 2.5 GB)
	$(PY) -m benchmarks.peers $(ARGS)

peers: $(VENV)/.installed-test  ## compare with other engines, each installed into tests/peers/.venv (minutes, 2.5 GB)
	$(PY) -m pytest tests/peers -m "peers or not peers" $(PYTEST_ARGS)

soak: $(VENV)/.installed-test  ## 20,000 generated books against the reference (half an hour); SUITE=... MINUTES=... for the long proofs
	$(PY) -m tests.soak $(SUITE) $(if $(MINUTES),--minutes $(MINUTES)) $(ARGS)

defects: $(VENV)/.installed-test  ## put slips into copies of the kernel: do the tests notice? (up to half an hour; writes docs/defects.md)
	$(PY) -m tests.defects $(ARGS)

clean:  ## remove .venv, caches and build results (never panels or studies)
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache .mypy_cache .hypothesis .import_linter_cache
	find backtest_farm tests notebooks -name __pycache__ -type d -prune -exec rm -rf {} +

which-python:
	@echo "$(PYTHON)"

$(VENV)/.installed: pyproject.toml constraints.txt $(VENV)/.created
	@echo "Installing backtest_farm into $(VENV): one to three minutes, about 1 GB."
	$(PIP) --editable .
	@touch $@

$(VENV)/.installed-test: pyproject.toml constraints.txt $(VENV)/.created
	@echo "Installing backtest_farm and its test tools into $(VENV): one to three minutes, about 1.2 GB."
	$(PIP) --editable '.[test]'
	@touch $@ $(VENV)/.installed

# A .venv that works is kept; one that is half made, or was moved here from elsewhere, is made again.
$(VENV)/.created:
	@if [ -z "$(PYTHON)" ]; then \
	    echo "backtest_farm needs Python 3.11 or newer, and found none on the PATH." >&2; \
	    echo "Install one (Debian, Ubuntu: apt-get install python3 python3-venv), or name it: make PYTHON=/path/to/python3.12" >&2; \
	    exit 1; fi
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo "backtest_farm needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1)." >&2; \
	    echo "Name another one: make PYTHON=/path/to/python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	    v=$$($(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])'); \
	    echo "$(PYTHON) cannot make virtual environments: its venv and ensurepip modules are missing." >&2; \
	    echo "Install them (Debian, Ubuntu: apt-get install python$$v-venv), or name another Python: make PYTHON=..." >&2; \
	    exit 1; }
	@$(PY) -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	@touch $@
