# a library may set another locale in the middle of a run
export PYTHONUTF8 := 1

PYTHON ?= python3
BIN := .venv/bin

.PHONY: install demo test test-all lint clean

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

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache
