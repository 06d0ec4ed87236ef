# The way in: `make run`, `make test`. `make` alone lists everything.

# The first of these that is new enough; `make PYTHON=/path/to/python` overrules it.
NEW_ENOUGH := -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
if-new-enough = $(shell $(1) $(NEW_ENOUGH) && echo $(1))
PYTHON ?= $(or $(call if-new-enough,python3),$(call if-new-enough,python3.11),$(call if-new-enough,python3.12), \
  $(call if-new-enough,python3.13),$(call if-new-enough,python3.14))

WARMSTART := .venv/bin/warmstart
PYTEST := -m pytest
# STACK=compose: the servers of docker/compose.yaml in place of this machine's processes
IN_STACK = $(if $(STACK),.venv/bin/python docker/$(STACK).py)
# Runs through Airflow wait more than they compute: the other tests run beside them.
TWO_AT_ONCE := -n 2 --dist loadscope --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help venvs images run test test-containers test-compose lint up down status doctor clean distclean

help: ## this list
	@awk -F ':.*## ' '/^[a-z%-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

venvs: ## both environments, made on first use and when requirements/ changes
	@python="$(PYTHON)"; "$${python:-false}" $(NEW_ENOUGH) || { echo "Warmstart needs Python 3.11 or newer," \
	  "and $${python:-python3} is not: install one, or name one with make PYTHON=/path/to/python3.11"; exit 1; }; \
	"$$python" requirements/install.py

images: venvs ## container images of the stages and of Airflow, an SBOM beside each: VARIANT=cuda for GPUs
	@.venv/bin/python docker/images.py $(if $(VARIANT),--variant $(VARIANT)) $(if $(ONLY),--only $(ONLY))

run: venvs ## raw rows to a promoted model: DATA=folder TARGETS="a b" AS_OF=2026-01-01 SET="pretrain.epochs=3"; RUNTIME=docker or STACK=compose
	@$(if $(RUNTIME),WARMSTART_RUNTIME=$(RUNTIME)) $(IN_STACK) $(WARMSTART) run $(if $(DATA),--data "$$DATA") $(if $(TARGETS),--targets "$$TARGETS") \
	  $(if $(AS_OF),--as-of "$$AS_OF") $(if $(SET),--set "$$SET")

test: venvs ## the whole suite, each part in the environment that it tests
	@status=0; said=$$(mktemp); \
	PYTHONPATH=. .venv-airflow/bin/python $(PYTEST) tests/dags >"$$said" 2>&1 & beside=$$!; \
	.venv/bin/python $(PYTEST) tests --ignore=tests/dags --ignore=tests/containers $(TWO_AT_ONCE) || status=1; \
	wait $$beside || status=1; cat "$$said"; rm "$$said"; \
	exit $$status

test-containers: venvs ## stages in containers, on this machine's Docker engine; skipped where there is none
	@status=0; \
	PYTHONPATH=. .venv-airflow/bin/python $(PYTEST) tests/containers/operators || status=1; \
	.venv/bin/python $(PYTEST) tests/containers/runs || status=1; \
	exit $$status

test-compose: venvs ## docker/compose.yaml brought up, and a run finished in it; after `make images`
	.venv/bin/python $(PYTEST) tests/containers/compose

lint: venvs ## ruff, ruff-format, mypy
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy

up down: venvs
	@$(or $(IN_STACK),$(WARMSTART)) $@

status doctor: venvs
	@$(IN_STACK) $(WARMSTART) $@

up: ## start the local servers
down: ## stop them, and everything they have started
status: ## what runs, where, since when
doctor: ## what is wrong, and what to do about it

bench-%: venvs ## benchmarks/NAME.py, its figures to $WARMSTART_HOME/bench/NAME.json
	@.venv/bin/python benchmarks/$*.py

clean: ## stop the servers; remove environments and caches (runs, models and records in .warmstart stay)
	@if [ -x $(WARMSTART) ]; then $(WARMSTART) down; fi
	rm -rf .venv .venv-airflow .uv .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
	find pipeline dags tests feature_repo benchmarks -name __pycache__ -prune -exec rm -rf {} +

distclean: clean ## clean, and remove .warmstart: every run, model and record
	rm -rf .warmstart
