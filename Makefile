# `make` lists the targets. Everything is installed into .venv; delete it, or `make clean`, to start over.
# What make, pip and the set-up say goes to stderr: `make run | jq .` sees the stream and nothing else.

PYTHON ?= python3
ARGS ?=
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help run test lint types cover bench chaos crash soak golden pictures docs man completions dist audit check clean fuzz

help:
	@echo "make TARGET [PYTHON=python3.12] [ARGS='...']"
	@echo
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  \1~\2/p' Makefile | awk -F '~' '{ printf "%-14s %s\n", $$1, $$2 }'

run: .venv/kfws.stamp ## stream the simulator's ticker: a table here, NDJSON in a pipe
	@# Ctrl-C (130) is a way to leave, not an error of make's; the trap keeps the shell until kfws has left.
	@trap : INT; $(BIN)/kfws subscribe ticker PF_XBTUSD --env sim $(ARGS) || [ $$? -eq 130 ]

# More processes than cores: most tests wait for other processes most of the time.
test: .venv/dev.stamp ## run all tests (ARGS='-k book' for some)
	@$(BIN)/python -m pytest -n 4 $(ARGS)

lint: .venv/dev.stamp ## check style and format with ruff
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: .venv/dev.stamp ## check types with mypy --strict
	@$(BIN)/mypy

cover: .venv/dev.stamp ## report coverage; the protocol must have all of it
	@$(BIN)/coverage erase
	@$(BIN)/coverage run -m pytest $(ARGS)
	@$(BIN)/coverage combine --quiet
	@$(BIN)/coverage report --show-missing --skip-covered
	@$(BIN)/coverage report --show-missing --include='kfws/protocol/*' --fail-under=100

bench: .venv/dev.stamp ## 10 min: measure kfws beside others, into docs/performance.md (ARGS='--parts start')
	@$(BIN)/python -m tests.bench $(ARGS)

chaos: .venv/dev.stamp ## break everything, long: tables of faults (ARGS='--parts jetstream')
	@$(BIN)/python -m tests.chaos $(ARGS)

crash: .venv/dev.stamp ## kill the recorder 208 times over the formats: a table (ARGS='--kills 5')
	@$(BIN)/python -m tests.crash $(ARGS)

soak: .venv/dev.stamp ## 30 min at 5,000 messages a second with faults (ARGS='--seconds 60 --every 12')
	@$(BIN)/python -m tests.chaos.soak $(ARGS)

fuzz: .venv/dev.stamp ## feed what nobody sends to every door: a table (ARGS='--examples 500')
	@$(BIN)/python -m tests.fuzz $(ARGS)

golden: .venv/dev.stamp ## rewrite the golden files in tests/golden
	@KFWS_GOLDEN=1 $(BIN)/python -m pytest -m golden $(ARGS)

pictures: .venv/dev.stamp ## draw the pictures of README and guide into docs
	@$(BIN)/python -m tests.pictures

docs: .venv/dev.stamp ## write docs/api.md from the docstrings
	@$(BIN)/python -m tests.api_reference

man: .venv/dev.stamp ## write the man pages from the program's own help
	@$(BIN)/python -m tests.man_pages

completions: .venv/dev.stamp ## write the completions of bash, zsh and fish
	@$(BIN)/python -m tests.completions

dist: .venv/dev.stamp ## build wheel and sdist, install the wheel elsewhere and run it
	@$(PIP) install --quiet build >&2
	@rm -rf dist
	@$(BIN)/python -m build --outdir dist . >&2
	@$(BIN)/python -m pytest -m dist tests/test_packaging.py
	@set -e; scratch=$$(mktemp -d); trap 'rm -rf "$$scratch"' EXIT; \
	$(BIN)/python -m venv "$$scratch" >&2; \
	"$$scratch/bin/python" -m pip --disable-pip-version-check install --quiet dist/*.whl >&2; \
	cd "$$scratch"; \
	bin/kfws --version; \
	bin/kfws subscribe ticker PF_XBTUSD --env sim -f ndjson -n 1

# Where pip-audit hears nothing of a package, as of one that its service does not have, it passes it. So
# it is asked first for a hole that everybody knows: https://github.com/advisories/GHSA-5h86-8mv2-jq9f
audit: .audit-venv/pip-audit.stamp ## ask pip-audit about all that kfws and its extras pull in (ARGS='-s osv')
	@$(BIN)/python -c 'import tomllib; p = tomllib.load(open("pyproject.toml", "rb"))["project"]; print(*p["dependencies"], *sum(p["optional-dependencies"].values(), []), sep="\n")' > .audit-venv/needs.txt
	@echo 'aiohttp==3.9.1' > .audit-venv/known.txt
	@.audit-venv/bin/pip-audit --no-deps --disable-pip --format json --requirement .audit-venv/known.txt $(ARGS) 2>.audit-venv/said.txt | grep -q CVE-2024-23334 || { \
		grep -v -e ^WARNING -e '^No known' .audit-venv/said.txt | tail -n 1 >&2; \
		echo "pip-audit has no data about vulnerabilities from here: nothing was audited" >&2; exit 1; }
	@.audit-venv/bin/pip-audit --strict --progress-spinner off --requirement .audit-venv/needs.txt $(ARGS)

check: lint types test ## lint, types and test

clean: ## remove all that make made
	@rm -rf .venv .bench-venv .audit-venv dist build htmlcov .coverage .coverage.* *.egg-info
	@rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find kfws tests -name __pycache__ -type d -exec rm -rf {} +

.venv/kfws.stamp: pyproject.toml
	@command -v $(PYTHON) >/dev/null || { \
		echo "$(PYTHON) is not installed; name a Python from 3.11 on: make PYTHON=python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "kfws needs Python 3.11 or later; name one: make PYTHON=python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -m venv .venv >&2 || { rm -rf .venv; \
		echo "$(PYTHON) lacks venv or pip; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	@$(PIP) install --editable . >&2
	@touch $@

# Read from pyproject.toml by hand: pip learned --group in 25.1, and a bare Python 3.11 brings 23.2.
.venv/dev.stamp: .venv/kfws.stamp
	@$(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["dependency-groups"]["dev"], sep="\n")' > .venv/dev.txt
	@$(PIP) install --requirement .venv/dev.txt >&2
	@touch $@

# Apart, so that what pip-audit itself needs is not audited as ours.
.audit-venv/pip-audit.stamp: .venv/kfws.stamp
	@$(BIN)/python -m venv .audit-venv >&2
	@.audit-venv/bin/python -m pip --disable-pip-version-check install --quiet pip-audit >&2
	@touch $@
