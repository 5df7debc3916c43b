# `make demo` and `make test` work on a fresh machine: each makes and reuses .venv in this folder.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
OUT ?= outputs
WORKERS ?= $(shell nproc)

export OMP_NUM_THREADS = 1
export MKL_NUM_THREADS = 1

.PHONY: demo test lint format clean

demo: $(READY)
	$(BIN)/syncvis data synth $(OUT)/data/synthetic
	$(BIN)/syncvis data view $(OUT)/data/synthetic --out $(OUT)/contact_sheet.png
	$(BIN)/syncvis sweep run --scale smoke --workers $(WORKERS) --out $(OUT)
	$(BIN)/syncvis report --scale smoke --out $(OUT)
	@echo "Optuna  $(OUT)/optuna.db (one study per experiment)"
	@echo "W&B     $(BIN)/wandb leet $(OUT)/wandb (curves in the terminal, no account)"

test: $(READY)
	$(BIN)/python -m pytest -n $(WORKERS) $(PYTEST_ARGS)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --quiet --constraint constraints.txt --editable '.[dev]'
	touch $(READY)

clean:
	rm -rf $(OUT)
