# Each target first installs what it needs on a machine with python3 (3.11 to 3.13) and make.
.DEFAULT_GOAL := help
.PHONY: help backfill dev report test test-fast test-deploy check-docs lint screenshots bench soak bare-machine clean \
	clean-data no-dotenv

# The first Python that starts and has a supported version: a name on PATH may be a shim without a Python.
FITS := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	$$python -c '$(FITS)' 2>/dev/null && echo $$python && break; done)
BIN := .venv/bin
PIP_INSTALL := $(BIN)/python .ci/pip_install.py --constraint constraints.txt
ENVIRONMENT := .venv/.installed
DEVELOPMENT := .venv/.installed-dev
PEERS := .venv/.installed-bench
# "yes" if .venv is that of another directory, as after mv and cp, or of a Python that is gone. A link is somebody's choice.
PRINT_STALE := import importlib.util, os; found = importlib.util.find_spec("taxi_orchestration"); \
	print("" if found and os.path.samefile(os.path.dirname(found.origin), "taxi_orchestration") else "yes")
STALE := $(shell test -L .venv || test -L $(BIN) || ! test -e $(ENVIRONMENT) || \
	if test -x $(BIN)/python; then $(BIN)/python -I -c '$(PRINT_STALE)'; else echo yes; fi)
ifneq ($(STALE),)
  .PHONY: $(BIN)/python $(ENVIRONMENT) $(DEVELOPMENT) $(PEERS)
endif

help:
	@echo 'make backfill FROM=2024-01 TO=2024-03   load months, build the models, check them'
	@echo 'make dev                                the Dagster UI on http://127.0.0.1:3000; another port: PORT=3001'
	@echo 'make report                             charts of all loaded months, in .taxi/report.html'
	@echo 'make test | lint | bench | soak         tests | style and types | benchmarks | random kills, for hours'
	@echo 'make test-fast                          the tests without a server and a run: in a minute'
	@echo 'make check-docs                         every command of README.md and docs/, also those too slow for make test'
	@echo 'make test-deploy                        deploy/ for real, with a Docker engine; the base image: BASE=python:3.12-slim'
	@echo 'make screenshots                        the pictures of docs/images again, from five months, with Chromium'
	@echo 'make bare-machine                       make backfill and make test on a bare Debian 13: as root, with debootstrap'
	@echo 'make clean                              stop the embedded PostgreSQL and remove .venv; the data is kept'
	@echo 'make clean-data                         remove the loaded months and the history, after a confirmation'

backfill: $(ENVIRONMENT)
	@test -n "$(FROM)" || { echo 'No month was given. Run: make backfill FROM=2024-01 TO=2024-03'; exit 2; }
	@$(BIN)/taxi backfill "$(FROM)" $(if $(TO),"$(TO)") $(ARGS)

dev: $(ENVIRONMENT)
	@$(BIN)/taxi dev $(if $(PORT),--port $(PORT))

report: $(ENVIRONMENT)
	@$(BIN)/taxi report $(ARGS)

test: $(DEVELOPMENT)
	@# One process more than cores, because some tests wait for a daemon or a host: 22 minutes on two cores, 24 with two processes.
	@$(BIN)/pytest --numprocesses $$(($$(getconf _NPROCESSORS_ONLN) + 1)) --dist worksteal --durations 15

test-fast: $(DEVELOPMENT)
	@$(BIN)/pytest --numprocesses auto --dist worksteal taxi_orchestration_tests/unit

test-deploy: $(DEVELOPMENT)
	@TEST_DEPLOY=1 $(if $(BASE),DEPLOY_BASE=$(BASE)) $(BIN)/pytest --capture no taxi_orchestration_tests/deploy

check-docs: $(DEVELOPMENT)
	@CHECK_DOCS=all $(BIN)/pytest --capture no taxi_orchestration_tests/integration/test_docs.py

lint: $(DEVELOPMENT)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/sqlfluff lint --disable-progress-bar dbt_project
	@# An empty DAGSTER_HOME: the storage of the checkout would start the embedded PostgreSQL, and leave it running.
	@home=$$(mktemp -d) && trap 'rm -r "$$home"' EXIT && echo 'telemetry: {enabled: false}' >"$$home/dagster.yaml" && \
		VIRTUAL_ENV="$$PWD/.venv" DAGSTER_HOME=$$home $(BIN)/dg check defs

screenshots: $(DEVELOPMENT)
	@$(BIN)/python -m taxi_orchestration_tests.browser.screenshots

bench soak: | no-dotenv

# Both give their programs an environment of their own, which .env would override.
no-dotenv:
	@test ! -e .env || { echo '.env would override the settings of this target. Move it out of the checkout, then run the target again.'; exit 2; }

bench: $(PEERS)
	@$(BIN)/python -m bench $(ARGS)

soak: $(DEVELOPMENT)
	@$(BIN)/python -m taxi_orchestration_tests.faults.soak $(ARGS)

bare-machine:
	@taxi_orchestration_tests/bare_machine.sh $(FROM) $(TO)

clean:
	@test -n "$(STALE)" && echo 'The embedded PostgreSQL was not stopped, because .venv is that of another directory or Python.' \
		'If it runs: make .venv/.installed && .venv/bin/taxi stop' || test ! -x $(BIN)/taxi || $(BIN)/taxi stop
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis

clean-data: $(ENVIRONMENT)
	@$(BIN)/taxi remove-data

$(BIN)/python:
	@test -n "$(PYTHON)" && $(PYTHON) -c '$(FITS)' || \
		{ echo 'Python 3.11, 3.12 or 3.13 is needed; name one with PYTHON=/path/to/python3'; exit 2; }
	@echo '$(if $(STALE),.venv is that of another directory or Python. )Making the environment in .venv, about a minute ...'
	@rm -rf .venv
	@# Debian's Python without python3-venv fails only after it has made this file, which the next make would take for complete.
	@$(PYTHON) -m venv .venv || { rm -rf .venv; exit 1; }

$(ENVIRONMENT): pyproject.toml constraints.txt | $(BIN)/python
	@$(PIP_INSTALL) --editable .
	@touch $@

$(DEVELOPMENT): pyproject.toml constraints.txt | $(BIN)/python
	@$(PIP_INSTALL) --editable '.[dev]'
	@touch $@ $(ENVIRONMENT)

$(PEERS): pyproject.toml constraints.txt | $(BIN)/python
	@$(PIP_INSTALL) --editable '.[bench]'
	@touch $@ $(DEVELOPMENT) $(ENVIRONMENT)
