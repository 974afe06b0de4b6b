# One command shows it working (demo), one tests everything (test), one checks style and types (check).
# Each builds .venv by itself and installs what it needs; a second time that takes no time.

VENV := .venv
PYTHON := $(VENV)/bin/python
STAMP := $(VENV)/.installed
PYTHON3 ?= python3
# Some hundred processes are started by the tests: none compiles what another has compiled.
unexport PYTHONDONTWRITEBYTECODE
DEVICES ?= 12
REPO ?= .
MINUTES ?= 60
SECONDS ?= 15
PORT ?= 3050
# Those of which no test needs a database or starts a process (tests/support/plugin.py).
QUICK := tests/unit clients/python/tests
BOARD := examples/board
CLIENT := clients/typescript

.DEFAULT_GOAL := help
.PHONY: help demo demo-live demo-board board docs wheel dist fast test check check-python check-typescript bench bench-peers overload soak bad-line mutants mutation mutation-typescript fmt clean \
        error-codes reference system-packages

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

demo: $(STAMP)  ## a repository's history replayed by devices that were offline (DEVICES=12 REPO=path)
	@DEVICES=$(DEVICES) REPO=$(REPO) $(PYTHON) -m examples.demo

demo-live: $(STAMP)  ## devices that type into the same records, live (DEVICES=2 SECONDS=15)
	@DEVICES=$(if $(filter file default,$(origin DEVICES)),2,$(DEVICES)) SECONDS=$(SECONDS) $(PYTHON) -m examples.live

demo-board: $(STAMP) board  ## a shared board in the browser, to try with the network off (PORT=3050)
	@$(VENV)/bin/syncd serve --demo --port $(PORT)

fast: $(STAMP)  ## the tests that need no database, in seconds
	@$(PYTHON) -m pytest -q -n 2 --hypothesis-profile=fast -m 'not soak and not alone and not waits' $(ARGS) $(QUICK)

# Each process of a part collects all that it is given, so those of few tests are given the files that name their mark,
# written out where it is used.
marked = $(shell grep -rlwE 'mark\.$(1)' tests clients/python/tests --include='test_*.py')

# Those that wait do so beside those that compute, and what they said is shown when both have ended.
BY_FILE := $(PYTHON) -m pytest -q --dist loadfile --no-loadscope-reorder
WAITED := $(VENV)/.waited

# Six processes load the tests at once, and each would translate all of them in a fresh clone.
COLLECTED := tests/__pycache__/.collected
$(COLLECTED): | $(STAMP)
	@$(PYTHON) -m pytest -q --collect-only $(QUICK) >/dev/null & quick=$$!; \
	    $(PYTHON) -m pytest -q --collect-only --ignore=tests/unit tests >/dev/null; wait $$quick; mkdir -p $(@D); touch $@

# Some tests ask for what they need when they run; all of them have it before the first begins.
ifdef ARGS
test: $(STAMP)
	@$(PYTHON) -m pytest -q $(ARGS)
else
test: $(STAMP) system-packages $(COLLECTED)  ## every test, against real PostgreSQLs (ARGS="-k name" for some)
	@$(BY_FILE) -n 3 -m 'waits and not soak' $(call marked,waits) >$(WAITED) 2>&1 & waiting=$$!; \
	    trap "kill $$waiting 2>/dev/null" EXIT INT TERM; \
	    $(BY_FILE) -n 3 -m 'not soak and not alone and not waits'; computed=$$?; \
	    wait $$waiting; waited=$$?; cat $(WAITED); exit $$((computed | waited))
	@$(BY_FILE) -n 2 -m 'alone and not soak' $(call marked,alone)
endif

check: check-python check-typescript  ## style, types and the direction of imports

check-python: $(STAMP)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

mutants: $(STAMP) $(CLIENT)/node_modules/.installed  ## each planted fault in a copy of the tree, and whether its test finds it (ARGS="words" for some)
	@$(PYTHON) -m tools.mutants $(ARGS)

mutation: $(VENV)/.mutation  ## small faults that a tool makes, and which no test notices (ARGS="core.clock" for some modules, TESTS="tests/unit/core", SAMPLE=150, SEED=1, MINUTES=60)
	@$(PYTHON) -m tools.mutation $(ARGS)

$(VENV)/.mutation: $(STAMP)
	@if command -v uv >/dev/null; then uv pip install --quiet --python $(PYTHON) -e '.[dev,mutation]'; \
	else $(PYTHON) -m pip install --quiet --disable-pip-version-check -e '.[dev,mutation]'; fi
	@touch $@

# Not in package-lock.json, so that nobody installs it who does not ask for it; version 10 needs Node 22.
STRYKER := 9.6.1

mutation-typescript: $(CLIENT)/node_modules/.mutation  ## such faults in the TypeScript client (ARGS="data clock" for some rooms or files)
	@node $(CLIENT)/scripts/mutation/run.js $(ARGS)

$(CLIENT)/node_modules/.mutation: $(CLIENT)/node_modules/.installed
	@cd $(CLIENT) && npm install --no-save --no-audit --no-fund --loglevel error \
	    @stryker-mutator/instrumenter@$(STRYKER)
	@touch $@

error-codes: $(STAMP)  ## docs/reference/errors.md and the clients' files, from syncd/core/error_codes.py
	@$(PYTHON) -m tools.error_codes

reference: $(STAMP)  ## docs/reference: the command line, addresses and metrics, from the code
	@$(PYTHON) -m tools.reference

check-typescript: $(CLIENT)/node_modules/.checked $(BOARD)/node_modules/.checked

bench: $(STAMP) bench-peers  ## measurements beside floors and peers, with the page of figures (ARGS="singles --quick" for one)
	@$(PYTHON) -m bench $(ARGS)

bench-peers: $(STAMP)  ## the servers that are measured beside it, into bench/peers; without npm or a registry they are absent
	-@cd bench/peers && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
	-@test -x bench/peers/.venv/bin/python || $(PYTHON) -m venv bench/peers/.venv
	-@bench/peers/.venv/bin/python -m pip install -q -r bench/peers/requirements.txt

overload: $(STAMP)  ## twice what a server can do, and a greedy user beside (MINUTES=10)
	@$(PYTHON) -m bench.overload --minutes $(if $(filter file default,$(origin MINUTES)),10,$(MINUTES))

soak: $(STAMP) system-packages  ## real clients while all fails that can fail, and what else takes long (MINUTES=60, SEED=n repeats a round)
	@SYNCD_SOAK=1 SOAK_MINUTES=$(MINUTES) $(PYTHON) -m pytest -q -x --timeout 0 -m 'soak or drawn' $(ARGS)

bad-line: $(STAMP) system-packages  ## tests of sync, live and the board over a line of 15 kB/s that breaks (ARGS="files" for others)
	@TEST_LINE=bad $(PYTHON) -m pytest -q --timeout 500 $(or $(ARGS),tests/client/test_against_server.py \
	    tests/client/test_live_against_server.py tests/browser/test_board.py)

docs: $(STAMP)  ## the documentation as a site: build/docs, which `syncd serve` serves at /docs
	@$(PYTHON) -m tools.docs

wheel: $(STAMP) board docs  ## dist/*.whl, with the board and the documentation
	@$(PYTHON) -m hatchling build -t wheel

dist: $(STAMP) board docs $(CLIENT)/node_modules/.installed  ## what is published: wheels, source archives and the npm package, each tried alone
	@$(PYTHON) -m tools.dist

fmt: $(STAMP)  ## put everything into the house's style
	$(VENV)/bin/ruff check --fix-only .
	$(VENV)/bin/ruff format .

clean:  ## remove what was built, but no data
	rm -rf $(VENV) dist build $(BOARD)/dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# uv when it is there, because it is quicker; pip from the standard library otherwise.
$(STAMP): pyproject.toml clients/python/pyproject.toml
	@command -v $(PYTHON3) >/dev/null || { echo "Python 3.11 or newer is needed: apt-get install python3 python3-venv"; exit 1; }
	@$(PYTHON3) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$(PYTHON3) is older than 3.11: make PYTHON3=python3.12"; exit 1; }
	@echo "building $(VENV)"
	@test -x $(PYTHON) || $(PYTHON3) -m venv $(VENV) 2>/dev/null || sh .ci/packages python3-venv
	@test -x $(PYTHON) || $(PYTHON3) -m venv $(VENV)
	@if command -v uv >/dev/null; then \
	    uv pip install --quiet --python $(PYTHON) -e '.[dev]' -e clients/python; \
	else \
	    $(PYTHON) -m pip install --quiet --disable-pip-version-check -e '.[dev]' -e clients/python; \
	fi
	@touch $@

# The board's page, which the server serves as files: Node is needed to build it, and never to serve it.
board: $(BOARD)/dist/index.html

%/node_modules/.installed: %/package-lock.json
	@sh .ci/node
	@cd $* && npm ci --no-audit --no-fund
	@sha256sum <$< | cut -d' ' -f1 | tr -d '\n' >$@

# All that tsc and biome read, the folders too: a file that goes is a change as well.
checked = $(wildcard $(1)/*.json $(1)/*.ts) $(shell find $(1)/src $(1)/test $(1)/scripts)

$(CLIENT)/node_modules/.checked: $(CLIENT)/node_modules/.installed $(call checked,$(CLIENT))
	@cd $(CLIENT) && npm run --silent check
	@touch $@

$(BOARD)/node_modules/.checked: $(BOARD)/node_modules/.installed $(call checked,$(BOARD)) $(shell find $(CLIENT)/src)
	@cd $(BOARD) && npm run --silent check
	@touch $@

$(BOARD)/dist/index.html: $(BOARD)/node_modules/.installed $(wildcard $(BOARD)/*.ts $(BOARD)/*.html $(BOARD)/public/* $(BOARD)/src/* $(BOARD)/src/ui/*) $(shell find $(CLIENT)/src)
	@cd $(BOARD) && npm run build

# The tests run against a second PostgreSQL, through PgBouncer, with NATS and in a Chromium. None of them is skipped for
# want of it.
system-packages: $(STAMP)
	@sh .ci/packages postgresql-15 pgbouncer nats-server curl git unzip zstd
	@sh .ci/chromium $(PYTHON)
