# make run    the whole chain on the demo data
# make test   style, types, and the tests except the slow ones, one process per core
# make lab    JupyterLab on the whole project, with a start page that links notebooks, sessions and reports
# make soak   every fault at every step of the chain; then the service under made-up requests for 10 minutes
# make audit  the locked versions compared with the published advisories
# make hashes requirements.hashes again, after a change of requirements.lock
# make docs   the documentation, in build/site; warnings are errors
# make setup  a .venv with the locked versions and this project in it; every other target does it first

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=

.PHONY: setup run test lint lab docs soak audit hashes clean

setup: $(VENV)/.ready

$(VENV)/.ready: requirements.hashes pyproject.toml
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'ecgkit needs Python 3.11 or newer: make PYTHON=python3.11')"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-deps --require-hashes --requirement requirements.hashes
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

run: setup
	$(BIN)/ecgkit run $(ARGS)

test: lint
	OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile -m "not slow" $(ARGS)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	! git grep -nE '^(<{7}|>{7}|\|{7})( |$$)'  # marks of a merge that was not finished

lab: setup
	$(BIN)/python -m ecgkit.workflow.start_page .
	$(BIN)/jupyter lab --notebook-dir . --LabApp.default_url=/lab/tree/start.ipynb

soak: setup
	$(BIN)/python tests/soak_faults.py
	$(PYTHON) -m venv build/soak
	build/soak/bin/pip install --quiet "schemathesis>=4"
	$(BIN)/python tests/soak.py build/soak/bin/schemathesis $(ARGS)

audit: setup
	$(PYTHON) -m venv build/audit
	build/audit/bin/pip install --quiet pip-audit
	$(BIN)/python tests/audit.py build/audit/bin/pip-audit

hashes:
	$(PYTHON) -m venv build/hashes
	build/hashes/bin/pip install --quiet uv
	build/hashes/bin/python tests/hash_lock.py build/hashes/bin/uv

docs: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

clean:
	rm -rf $(VENV) build .pytest_cache .ruff_cache .mypy_cache
