# make demo   the bundled incident, from nothing to a report
# make test   everything; real servers are built and started where they can be had
# make help   the rest
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

VENV ?= .venv
BIN := $(VENV)/bin
# The first Python that is new enough; PYTHON=… chooses another.
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo "$$p"; break; }; done)
# Same project file, same lock, same Python: nothing to install, no network asked.
INPUTS := $(shell cat pyproject.toml requirements.lock | cksum | cut -d' ' -f1)
CORE := $(VENV)/.core-$(INPUTS)
FULL := $(VENV)/.full-$(INPUTS)
LAB_FOLDER ?= .lab
# Labs that `make corpus` runs at once.
STACKS ?= 3
CORPUS ?= corpus
# The test split is read by whoever names it.
SPLITS ?= dev calibration
SCORE_FLAGS ?=

# Constraints hold in pip's isolated build environments too.
PIP_INSTALL = PIP_CONSTRAINT="$(CURDIR)/requirements.lock" PIP_BUILD_CONSTRAINT="$(CURDIR)/requirements.lock" \
	PIP_DISABLE_PIP_VERSION_CHECK=1 $(BIN)/python -m pip install --quiet --editable

.PHONY: help demo test venv lint format notebooks rules bench score coverage corpus lab-up lab-down lab-status lock clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 14

demo: $(CORE) ## replay the bundled incident, then eight weeks of capacity (no server)
	@$(BIN)/lagkit demo
	@$(BIN)/lagkit capacity --demo
	@echo 'Its post-mortem: $(BIN)/lagkit postmortem lagkit-demo/incident.lagkit --out lagkit-demo'

test: $(FULL) ## lint, types, unit, contract, notebooks, then the real servers
	@$(BIN)/python tests/run_all.py

venv: $(FULL) ## the environment for development, in .venv

lint: $(FULL) ## ruff and mypy only
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(FULL) ## let ruff rewrite
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

notebooks: $(FULL) ## run the notebooks on the demo incident and keep their outputs
	$(BIN)/python tests/notebooks/refresh.py

rules: $(FULL) ## write the shipped alert rules and their proofs anew (templates/rules)
	$(BIN)/python tests/rule_proofs.py

bench: $(FULL) ## measurements against peers
	$(BIN)/python -m benchmarks

score: $(FULL) ## lagkit and the baselines on the labelled corpus (CORPUS=, SPLITS='dev calibration test')
	$(BIN)/python -m lab score --corpus $(CORPUS) $(foreach split,$(SPLITS),--split $(split)) $(SCORE_FLAGS)

coverage: $(FULL) ## capacity: how often the printed dates hold the true one, into docs/capacity.md
	$(BIN)/python -m lab capacity coverage --write

corpus: $(FULL) ## make what the labelled corpus lacks; ONLY=network or ONLY=controls.idle for a part
	$(BIN)/python -m lab corpus --out $(CORPUS) --lab $(LAB_FOLDER)/corpus --stacks $(STACKS) $(ONLY)

lab-up: $(FULL) ## install and start the real servers; prints what to export
	$(BIN)/python -m lab up --folder $(LAB_FOLDER)

lab-down: $(FULL) ## stop what lab-up started, nothing else
	$(BIN)/python -m lab down --folder $(LAB_FOLDER)

lab-status: $(FULL) ## each server: state, endpoint, pid, log
	$(BIN)/python -m lab status --folder $(LAB_FOLDER)

lock: ## write requirements.lock anew from the newest versions allowed
	@scratch=$$(mktemp -d); trap 'rm -rf "$$scratch"' EXIT; \
	$(PYTHON) -m venv "$$scratch"; \
	"$$scratch/bin/python" -m pip install --quiet --upgrade --editable '.[capacity,notebook,pdf,notify,schemas,dev]'; \
	{ echo '# Versions lagkit is tested with, used as pip constraints. Written by: make lock'; \
	  "$$scratch/bin/python" -m pip freeze --all --exclude-editable \
	  | grep -E '^[A-Za-z0-9_.-]+==' | grep -viE '^(pip|setuptools)=='; } > requirements.lock

clean: ## remove what make made here (not the lab's cache)
	rm -rf $(VENV) .test build dist .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -not -path './.git/*' -prune -exec rm -rf {} +

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo 'lagkit needs Python 3.11 or newer; give one: make PYTHON=/path/to/python3.12 …' >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { \
	  echo 'python -m venv does not work here (Debian keeps it in python3-venv).' >&2; \
	  rm -rf $(VENV); \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq python3-venv && $(PYTHON) -m venv $(VENV); \
	  else echo 'Run: sudo apt-get install python3-venv' >&2; exit 1; fi; }

$(CORE): | $(VENV)/bin/python
	@echo 'Installing lagkit into $(VENV) (once; about a minute) …'
	@$(PIP_INSTALL) '.[capacity]'
	@rm -f $(VENV)/.core-* $(VENV)/.full-*; touch $@

$(FULL): | $(VENV)/bin/python
	@echo 'Installing lagkit and its tools into $(VENV) (once; one to two minutes) …'
	@$(PIP_INSTALL) '.[capacity,notebook,pdf,dev]'
	@$(BIN)/python -c 'import weasyprint' 2>/dev/null || { \
	  echo 'report.pdf is drawn with Pango, which is missing here.' >&2; \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq libpango-1.0-0 libpangoft2-1.0-0; \
	  else echo 'Run: sudo apt-get install libpango-1.0-0 libpangoft2-1.0-0' >&2; fi; }
	@rm -f $(VENV)/.core-* $(VENV)/.full-*; touch $(CORE) $@
