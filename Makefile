# Everything here needs only python3 (3.11 or newer), make and a package index.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO ?= demo
WORKERS ?= 2

.PHONY: install demo test test-slow lint requirements

install: $(VENV)/.installed

$(VENV)/.installed: requirements.txt pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $@

# Build shards, pretrain, fine-tune on real splice sites and predict, all on the embedded genome.
demo: install
	PATH="$(CURDIR)/$(BIN):$$PATH" bash examples/demo.sh $(DEMO)

test: install
	$(BIN)/python -m pytest -n $(WORKERS) -m "not slow"

test-slow: install
	$(BIN)/python -m pytest -m slow

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# Pin every package, for each supported Python, from pyproject.toml.
requirements: install
	$(BIN)/uv pip compile --universal --python-version 3.11 --extra dev --no-header --no-emit-index-url \
		--no-annotate --upgrade --output-file requirements.txt pyproject.toml
