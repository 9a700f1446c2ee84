# Everything is installed into .venv, at the versions of constraints.txt.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-slow gpu docs bench notebooks

demo: .venv/installed-cpu,formats
	$(BIN)/spmem demo --out out

test: .venv/installed-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/pyright
	$(BIN)/lint-imports
	$(BIN)/pytest --numprocesses auto --dist loadfile --durations 20

# What takes long: notebooks, distributions, several processes, every damaged byte.
test-slow: .venv/installed-dev
	$(BIN)/pytest -m slow --numprocesses auto --dist worksteal --durations 20

docs: .venv/installed-dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# Executes the text sources and writes the .ipynb beside them, two or three minutes.
notebooks: .venv/installed-dev
	$(BIN)/python notebooks/execute.py

bench: .venv/installed-dev
	for script in benchmarks/*.py; do $(BIN)/python $$script || exit 1; done

# With the first Python that has CUDA, which may be the machine's own: nothing is installed, the checkout is the package.
gpu:
	@for python in $(BIN)/python $(PYTHON); do \
		if $$python -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' 2>/dev/null; then \
			PYTHONPATH=.$${PYTHONPATH:+:$$PYTHONPATH} exec $$python benchmarks/gpu.py; fi; done; \
	echo "no CUDA device: no torch of $(BIN)/python or $(PYTHON) finds one; nothing to do"

.venv/installed-%: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[$*]'
	$(BIN)/spmem warm
	touch $@
