# Two commands do everything: `make demo` and `make test`. Both set up .venv first.
PYTHON := .venv/bin/python
export LOGURU_LEVEL ?= WARNING
export TT_METAL_LOGGER_LEVEL ?= FATAL

export OMP_WAIT_POLICY ?= PASSIVE

.PHONY: demo generated test test-fast lint benchmark setup

demo: setup  ## compile Qwen3-32B for the Galaxy, check it on a mock Galaxy, show the report
	.venv/bin/fx2ttnn compile qwen3-32b --target galaxy -o build/qwen3_32b_galaxy
	.venv/bin/fx2ttnn check build/qwen3_32b_galaxy
	.venv/bin/fx2ttnn report build/qwen3_32b_galaxy

test: setup  ## the whole test suite, a file at a time on two cores: the emitted suites take as long as all else
	$(PYTHON) -m pytest -q -n 2 --dist loadfile

test-fast: setup
	$(PYTHON) -m pytest -q -m "not slow"

lint: setup
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy fx2ttnn

generated: setup  ## the checked-in example, after a change of rules or templates
	.venv/bin/fx2ttnn compile qwen3-32b --target galaxy -o generated/qwen3_32b_galaxy
	.venv/bin/fx2ttnn check generated/qwen3_32b_galaxy

benchmark: setup
	$(PYTHON) benchmarks/compile_time.py

setup: .venv/ready

.venv/ready: pyproject.toml setup.sh
	./setup.sh
