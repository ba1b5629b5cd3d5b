.PHONY: demo test test-matrix check bench bench-hotpath bench-storage soak clean

PYTHON ?= python3
BIN := .venv/bin

demo: .venv/.installed
	@scripts/demo.sh

test: export PYTHONDONTWRITEBYTECODE =
test: .venv/.installed
	@scripts/install-debian-packages.sh
	@scripts/install-node-packages.sh
	@scripts/install-data-packages.sh
	$(BIN)/pytest -n 4 --dist worksteal

test-matrix: .venv/.installed
	@scripts/test-matrix.sh

check: .venv/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest -q tests/packaging/test_import_cost.py

bench: .venv/.installed
	for script in benchmarks/*/run.py; do $(BIN)/python $$script || exit 1; done

bench-hotpath: .venv/.installed
	$(BIN)/python benchmarks/hotpath/run.py --peers

bench-storage: .venv/.installed
	$(BIN)/python benchmarks/storage/run.py --peers

soak: .venv/.installed
	@scripts/install-debian-packages.sh
	@scripts/install-node-packages.sh
	@scripts/install-data-packages.sh
	$(BIN)/pytest -m soak --timeout 3600

.venv/.installed: pyproject.toml cli/pyproject.toml server/pyproject.toml constraints.txt
	@PYTHON="$(PYTHON)" scripts/install.sh

clean:
	rm -rf .venv .demo
