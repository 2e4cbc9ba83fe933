# Cellward. `make demo` shows it, `make test` proves it; each sets up what it needs, once.
# Settings: PYTHON=… the interpreter for .venv, SKIP_APT=1 when system packages are somebody else's business.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:
MAKEFLAGS += --no-print-directory
export PYTHON SKIP_APT

BIN := .venv/bin
TYPED := $(wildcard src tests tests/conformance/tuf-client bench firmware/*.py firmware/fuzz/*.py tools/*.py vectors/*.py)
RESULTS := build/results.xml
PYTEST_COV := $(BIN)/python -m pytest --cov --cov-report=term:skip-covered --cov-fail-under=95
CAMPAIGNS := faults powercut leakage
BENCHES := $(sort $(wildcard bench/[!_]*.py))

.PHONY: help
help: ## this list
	@sed -nE 's/^([a-z-]+):[^#]*## (.*)/make \1\t\2/p' Makefile | expand -t 18

.PHONY: demo
demo: setup-demo ## the whole way in a temporary directory, ending in a page of results and report.html
	@$(BIN)/cellward demo $(DEMO)

.PHONY: test
test: check ## everything: set-up, firmware, checks, all tests, coverage of the core, evidence
ifeq ($(strip $(PYTEST)),)
	@rm -f $(RESULTS)
	@status=0; $(PYTEST_COV) -n auto --dist worksteal --junitxml=$(RESULTS) || status=$$?; \
	$(BIN)/cellward evidence export --check --results $(RESULTS) -o build/evidence && exit $$status
else
	$(PYTEST_COV) $(PYTEST)
endif

.PHONY: check
check: setup-test ## style, types, import rules and generated files; under a minute
	$(BIN)/ruff check --quiet .
	$(BIN)/ruff format --quiet --check .
	$(BIN)/mypy --no-error-summary $(TYPED)
	$(BIN)/lint-imports --no-logo
	$(BIN)/python firmware/gen_headers.py --check
	$(BIN)/python -m cellward.cli.reference --check
	$(MAKE) -s -C firmware tidy
	shellcheck .ci/run tools/*.sh

.PHONY: bench
bench: setup-test ## every table in bench/, each with its reference measured in the same run
	@for bench in $(BENCHES); do $(BIN)/python "$$bench"; done

.PHONY: lab
lab: $(CAMPAIGNS:%=lab-%) ## the laboratory's samples: faults, power cuts, leakage; pages and JUnit in build/lab

.PHONY: $(CAMPAIGNS:%=lab-%)
$(CAMPAIGNS:%=lab-%): lab-%: setup-test
	@mkdir -p build/lab
	@$(BIN)/cellward lab $* --smoke --html build/lab/$*.html --junit build/lab/$*.xml

SECONDS ?= 60
.PHONY: fuzz
fuzz: setup-test ## the firmware's parsers under libFuzzer for SECONDS (60), each input compared with Python
	@$(MAKE) -C firmware fuzz SECONDS=$(SECONDS)

.PHONY: firmware
firmware: setup-demo ## the module's ROM, loader and app, into src/cellward/vbms/firmware

.PHONY: wheel
wheel: setup-demo ## dist/*.whl, with the firmware inside
	@rm -rf dist
	@$(BIN)/python -m hatchling build --target wheel

.PHONY: wheel-check
wheel-check: wheel ## install the wheel outside the tree and boot a module without an ARM compiler
	@tools/wheel_check.sh dist/*.whl

.PHONY: lock
lock: ## requirements/*.txt from pyproject.toml; UPGRADE=1 takes the newest releases
	@tools/lock.sh

.PHONY: setup-demo setup-test
setup-demo setup-test: setup-%:
	@tools/setup.sh $*

.PHONY: clean
clean: ## remove what was built and cached, keep .venv
	$(MAKE) -s -C firmware clean
	rm -rf build dist report.html .coverage
	rm -rf .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	find src tests bench tools firmware -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true

.PHONY: distclean
distclean: clean ## remove .venv and the downloads as well
	rm -rf .venv .cache
