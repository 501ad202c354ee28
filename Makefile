# Every target does its own set-up in .venv: Python 3.11+, make and pip are enough.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test serve lint bench clean

.venv/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "normgauge needs Python 3.11 or newer; run make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@# alone: timm's torchvision is built for one build of torch each, and the tests need only timm's models
	$(BIN)/pip install --quiet --constraint constraints.txt --no-deps timm
	touch $@

demo: .venv/.installed  ## the main job, end to end, on real data
	$(BIN)/normgauge demo

test: .venv/.installed
	$(BIN)/python -m pytest -n auto

serve: .venv/.installed
	$(BIN)/normgauge serve

lint: .venv/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: .venv/.installed
	$(BIN)/normgauge bench

clean:
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
