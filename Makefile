# a library may set another locale in the middle of a run
export PYTHONUTF8 := 1

PYTHON ?= python3
BIN := .venv/bin

.PHONY: install demo test test-all fuzz attacks kills lock lint docs clean

install: .venv/installed

.venv/installed: requirements.txt setup.cfg
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
	  { echo "error: $(PYTHON) is $$($(PYTHON) --version 2>&1); give make a Python 3.11, 3.12 or 3.13: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 2; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -r requirements.txt
	$(BIN)/python -m pip install --quiet --no-deps pysodmetrics==1.6.2  # a reference of the tests; it would downgrade numpy and OpenCV
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	touch $@

demo: install
	@$(BIN)/python -m experiments demo

test: install
	$(BIN)/python -m pytest -n 2 --dist loadscope -m "not slow" tests

test-all: install
	$(BIN)/python -m pytest tests
	LIGHTNING_SEG_FUZZ=300 $(BIN)/python -m pytest tests/fuzz

# each reader gets thousands of broken files, drawn anew
fuzz: install
	LIGHTNING_SEG_FUZZ=3000 $(BIN)/python -m pytest tests/fuzz

# the table of attacks, which goes to docs/security.md
attacks: install
	$(BIN)/python tools/attacks.py --slow --write

# ten random kills each of twelve commands, which must come to what one run comes to
kills: install
	$(BIN)/python tools/kills.py

# what requirements.txt needs in turn, with hashes; needs uv
lock:
	uv pip compile --universal --generate-hashes --no-header --no-emit-index-url --no-annotate \
	  --python-version 3.11 requirements.txt -o requirements.lock

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# the documentation, to docs/_build/html; needs no network once docs/requirements.txt is installed; DOCS_EXECUTE=0 leaves tutorials unexecuted
docs: install
	$(BIN)/python -m pip install --quiet -r docs/requirements.txt
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html

clean:
	rm -rf .venv docs/_build docs/reference/generated .pytest_cache .mypy_cache .ruff_cache
