# Every task of this project is a target; `make` alone lists them. Needs only make and Python 3.10 to 3.14.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
STORE ?= local
# Tests that wait for a server leave a core idle; on two cores two workers take little more than half of the time of one.
WORKERS ?= 2
# uv is installed into a folder of its own, so that a machine needs nothing but Python.
TOOLS := .cache/tools
export UV_PYTHON_DOWNLOADS := never
export UV_PROJECT_ENVIRONMENT := .venv
UV := $(shell uv --version >/dev/null 2>&1 && command -v uv || echo $(TOOLS)/bin/uv)
RUN := .venv/bin/python

.PHONY: help
help: ## List the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

$(TOOLS)/bin/uv:
	@echo "Setting up uv ..."
	@$(PYTHON) -m venv $(TOOLS)
	@$(TOOLS)/bin/python -m pip install --quiet --disable-pip-version-check uv

.venv/.ready: pyproject.toml uv.lock | $(if $(findstring $(TOOLS),$(UV)),$(TOOLS)/bin/uv)
	@echo "Installing what the project needs (Airflow too; a minute or two the first time) ..."
	@$(UV) sync --frozen --quiet --python $(PYTHON)
	@touch $@

# The demo has an environment of its own, much smaller than a developer's.
.venv-demo/.ready: pyproject.toml uv.lock | $(if $(findstring $(TOOLS),$(UV)),$(TOOLS)/bin/uv)
	@echo "Installing Airflow and xcargo into .venv-demo (half a minute the first time) ..."
	@UV_PROJECT_ENVIRONMENT=.venv-demo $(UV) sync --frozen --quiet --python $(PYTHON) \
	  --no-default-groups --group demo --group servers
	@touch $@

.PHONY: setup
setup: .venv/.ready ## Install everything that development needs into .venv

.PHONY: demo
demo: .venv-demo/.ready ## Run the tutorial's Dag in a real Airflow (STORE=local|s3|gcs|azure) and show what went where
	@.venv-demo/bin/python -m demo.run --store $(STORE)

.PHONY: ui
ui: .venv-demo/.ready ## The same, and keep the web server up
	@.venv-demo/bin/python -m demo.run --store $(STORE) --ui

.PHONY: test
test: setup ## Unit and store tests
	@$(RUN) -m pytest -n $(WORKERS) --dist loadfile tests/unit tests/test_servers.py

.PHONY: matrix
matrix: setup ## Contract tests on every supported Airflow, each in an environment of its own
	@UV="$(abspath $(UV))" $(RUN) -m tests.matrix --strict $(if $(CLAIMS),--claims $(CLAIMS)) $(VERSIONS)

.PHONY: upgrades
upgrades: setup ## Airflow 2 upgraded to 3 by its own db migrate; values between versions of Python, pandas and numpy
	@UV="$(abspath $(UV))" $(RUN) -m pytest tests/upgrades

.PHONY: e2e
e2e: setup ## The tutorial's Dag in a real scheduler over a real S3 server
	@UV="$(abspath $(UV))" $(RUN) -m pytest tests/e2e

.PHONY: pictures
pictures: setup ## Take the pictures of docs/explorer.md anew (better with the font Inter, as Airflow's UI has it)
	@XCARGO_PICTURES=docs/images $(RUN) -m pytest tests/e2e/test_ui_pictures.py

# Needs Linux: user namespaces for the disks, and a C compiler for the clock (libfaketime).
.PHONY: faults
faults: setup ## Store kind x fault x operation, every cell; writes docs/faults.md (FAULTS="s3 stall" for some)
	@$(UV) sync --frozen --quiet --inexact --group faults
	@$(RUN) -m tests.faults $(FAULTS)
	@$(RUN) -m tests.faults.mounts

.PHONY: clocks
clocks: setup ## Two sweeps, a migration and workers at once, with clocks that are wrong; about ten minutes
	@$(UV) sync --frozen --quiet --inexact --group faults
	@XCARGO_CLOCKS=1 $(RUN) -m pytest tests/e2e/test_meeting_sweeps.py

.PHONY: soak
soak: setup ## 200,000 pushes and pulls by 16 processes, one request in 20 fails (SOAK="--seconds 60" for less)
	@$(RUN) -m tests.faults.soak $(SOAK)

# Needs Linux, and PostgreSQL and Redis, which root gets from Debian.
.PHONY: cluster
cluster: setup ## Celery and Edge workers, PostgreSQL, Redis, S3: Dags, and kills at every step (CLUSTER="--soak 600": a soak; --pace: what a Dag takes)
	@UV="$(abspath $(UV))" $(RUN) -m tests.cluster $(CLUSTER)

# Needs a server, whose databases xcargo_template and xcargo_airflow it replaces, and the headers of its client library.
.PHONY: mysql
mysql: setup ## What reads and changes the metadata database, on the MySQL of XCARGO_MYSQL=mysql+mysqldb://user:password@host/
	@$(UV) sync --frozen --quiet --inexact --group mysql
	@$(RUN) -m pytest tests/unit/airflow/test_references.py tests/unit/airflow/ui tests/unit/cli -k mysql

.PHONY: lowest
lowest: setup ## The core's tests with the lowest versions that pyproject.toml allows, on the oldest Python at hand
	@UV="$(abspath $(UV))" bash tests/floors.sh lowest-direct

.PHONY: newest
newest: setup ## The same with the newest versions that there are, on the newest Python at hand
	@UV="$(abspath $(UV))" bash tests/floors.sh highest

.PHONY: sbom
sbom: setup ## What a full installation consists of, as CycloneDX, into dist/
	@mkdir -p dist
	@$(UV) export --frozen --quiet --format cyclonedx1.5 --no-dev --extra all --output-file dist/sbom.cdx.json
	@echo "dist/sbom.cdx.json"

.PHONY: audit
audit: setup ## Known vulnerabilities of all that uv.lock holds; asks osv.dev
	@$(UV) audit --frozen --preview-features audit-command

.PHONY: lint
lint: setup ## Style, types, rooms, workflows, scripts and style sheets
	@$(RUN) -m ruff check .
	@$(RUN) -m ruff format --check .
	@$(RUN) -m mypy
	@.venv/bin/lint-imports
	@.venv/bin/check-jsonschema --quiet --builtin-schema vendor.github-workflows .github/workflows/*
	@.venv/bin/zizmor --quiet --offline --strict-collection .github/workflows
	@$(RUN) -m tests.web.lint

.PHONY: house
house: setup ## How large the code is, against its bars
	@$(RUN) -m tests.house 2>/dev/null

.PHONY: format
format: setup ## Mend style
	@$(RUN) -m ruff check --fix .
	@$(RUN) -m ruff format .
	@$(RUN) -m tests.web.lint --write

.PHONY: docs
docs: setup ## Check the documentation against the code
	@$(RUN) -m pytest tests/docs

# The site's builder has an environment of its own, and needs nothing else of this project.
.venv-site/.ready: pyproject.toml uv.lock | $(if $(findstring $(TOOLS),$(UV)),$(TOOLS)/bin/uv)
	@UV_PROJECT_ENVIRONMENT=.venv-site $(UV) sync --frozen --quiet --python $(PYTHON) \
	  --no-default-groups --group site --no-install-project
	@touch $@

.PHONY: site
site: .venv-site/.ready ## Build the documentation site into site/; a dead link fails
	@NO_MKDOCS_2_WARNING=1 .venv-site/bin/mkdocs build --quiet --strict

# Fuzzing has an environment of its own: atheris is large and needed for nothing else.
.venv-fuzz/.ready: pyproject.toml uv.lock | $(if $(findstring $(TOOLS),$(UV)),$(TOOLS)/bin/uv)
	@UV_PROJECT_ENVIRONMENT=.venv-fuzz $(UV) sync --frozen --quiet --python $(PYTHON) --no-default-groups --group fuzz
	@touch $@

.PHONY: fuzz
fuzz: .venv-fuzz/.ready ## Fuzz every decoder (FUZZ="pandas --seconds 600" for one)
	@.venv-fuzz/bin/python -m tests.fuzz $(FUZZ)

.PHONY: roundtrips
roundtrips: setup ## Every type through both backends on three Airflows; writes the table of docs/types.md
	@UV="$(abspath $(UV))" $(RUN) -m tests.roundtrips

.PHONY: peers
peers: setup ## Push and pull what pandas, pyarrow, numpy, polars and hypothesis test themselves with (PEERS="--scale 0.1" for less)
	@$(RUN) -m tests.peers $(PEERS)

# The example has an environment of its own, as a package that somebody else wrote would.
.PHONY: examples
examples: setup ## Install the example codec into an environment of its own and run its tests
	@$(UV) venv --quiet --allow-existing --python $(PYTHON) .venv-examples
	@$(UV) pip install --quiet --python .venv-examples/bin/python --editable . --editable "examples/xcargo-codec-geopandas[test]"
	@cd examples/xcargo-codec-geopandas && ../../.venv-examples/bin/python -m pytest

.PHONY: bench
bench: setup ## Common IO and xcargo side by side (BENCH=--full: every value and size; BENCH=peers: Dagster, Prefect, … too)
	@UV="$(abspath $(UV))" $(RUN) -m benchmarks run $(BENCH)

.PHONY: build
build: setup ## Wheel and source distribution, tried in an empty environment of every Python (RELEASE=--airflow: with Airflow)
	@rm -rf dist
	@$(UV) build --quiet
	@UV="$(abspath $(UV))" $(RUN) -m tests.release $(RELEASE)

.PHONY: clean
clean: ## Remove environments, caches and the demo's state
	rm -rf .venv .venv-lowest-direct .venv-highest .venv-demo .venv-fuzz .venv-examples .venv-site site .fuzz .cache .matrix .demo dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
