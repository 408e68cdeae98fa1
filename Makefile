# Everything happens in .venv with the versions of constraints.txt; nothing else on the machine is touched.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready

# Some machines forbid Python to keep what it compiled; the tests start hundreds of processes, and each would compile anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help install demo test lint bench clean

help:  ## Show the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $(READY)

install: $(READY)  ## Install patchwise and its development tools into .venv

demo: $(READY)  ## Index real photographs, search them, write demo-output/report.html
	$(BIN)/patchwise demo demo-output

# Two processes have two processors to share: threads that libraries start in each would only be in each other's way.
test: $(READY)  ## Run the whole test suite
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist worksteal

lint: $(READY)  ## Check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(READY)  ## Run every benchmark and rebuild docs/benchmarks.md
	$(BIN)/python benchmarks/run_all.py

clean:  ## Remove .venv and everything generated
	rm -rf $(VENV) demo-output dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis
