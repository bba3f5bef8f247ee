"""Qwen3-32B at its real width on all 32 emulated chips: prompts, then decode steps, against Hugging Face's model, step by step.

    .venv/bin/python benchmarks/galaxy_logits.py [--precision accuracy] [--prompts 128 2048] [--steps 8] [--layers 2]

Random weights. Each prompt is another user's, and all decode together. Ends with exit code 1 where a PCC is below the package's.
Takes about 15 GB and, on two cores, tens of minutes for 2048 tokens.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from fx2ttnn import pipeline
from fx2ttnn.capture.trace import cache_argument


def main() -> int:
    """Compile, run, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--precision", default="performance")
    parser.add_argument("--prompts", type=int, nargs="+", default=[128, 2048])
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--model", default="qwen3-32b")
    parser.add_argument("--target", default="galaxy")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        length = -(-(max(options.prompts) + options.steps) // 64) * 64
        asked = pipeline.Options(
            options.model, options.target, max_seq_len=length, precision=options.precision, layers=options.layers
        )
        pipeline.write_package(pipeline.compile_model(asked), Path(folder) / "package")
        sys.path.insert(0, folder)
        return run(options)


def run(options: argparse.Namespace) -> int:
    """Print the PCC of every step; how many are too low."""
    part = lambda name: importlib.import_module(f"package.{name}")  # noqa: E731
    cfg, pcc, reference = part("model_config"), part("tests.pcc").pcc, part("tests.reference")
    model_file = part("model")
    reference.NUM_LAYERS = options.layers
    model_class = next(c for n, c in vars(model_file).items() if n.endswith("ForCausalLM") or n.endswith("LMHeadModel"))
    hf = reference.Reference()
    failed = 0

    def report(what: str, found: torch.Tensor, expected: torch.Tensor, started: float) -> None:
        nonlocal failed
        value = pcc(found, expected)
        failed += value < cfg.PCC
        same = "same" if found.argmax() == expected.argmax() else "another"
        print(f"{what}: PCC {value:.6f}, {same} top token, {time.time() - started:.0f} s", flush=True)

    with part("backend").open_backend() as (mesh_device, name):
        print(
            f"{cfg.MODEL_NAME} with {options.layers} layers on {cfg.TARGET}, {cfg.PRECISION}, PCC at least {cfg.PCC}; backend: {name}"
        )
        model = model_class(mesh_device, hf.weights(mesh_device))
        kv_cache, pages = model.allocate_kv_cache(), model.page_table()
        users = [
            User(hf.model, torch.randint(0, cfg.VOCAB_SIZE, (count + options.steps,)), count)
            for count in options.prompts
        ]
        for index, user in enumerate(users):
            started, expected = time.time(), user.next(user.count)
            for start, tokens in chunks(user.tokens[: user.count], cfg.PREFILL_LENGTHS):
                inputs = model.prepare_prefill_inputs(tokens, start, index, pages)
                logits = model.read_prefill_logits(model.prefill_forward(**inputs, kv_cache=kv_cache), tokens)
            report(f"prefill of {user.count} tokens", logits, expected, started)
        for step in range(options.steps):
            started = time.time()
            tokens = torch.zeros(cfg.BATCH, dtype=torch.int64)
            positions = torch.full((cfg.BATCH,), -1)
            for index, user in enumerate(users):
                tokens[index], positions[index] = user.tokens[user.count + step], user.count + step
            inputs = model.prepare_decode_inputs(tokens, positions, pages)
            found = model.read_logits(model.decode_forward(**inputs, kv_cache=kv_cache))
            for index, user in enumerate(users):
                report(f"step {step + 1} behind {user.count} tokens", found[index], user.next(1), started)
    return min(failed, 1)


class User:
    """One user's tokens and Hugging Face's cache for them."""

    def __init__(self, model: Any, tokens: torch.Tensor, count: int):
        from transformers import DynamicCache

        self.model, self.tokens, self.count, self.done = model, tokens, count, 0
        self.cache = DynamicCache()

    def next(self, count: int) -> torch.Tensor:
        """Logits behind the next `count` tokens, [vocabulary]."""
        ids = self.tokens[None, self.done : self.done + count]
        self.done += count
        with torch.no_grad():
            return (
                self.model(input_ids=ids, logits_to_keep=1, **{cache_argument(self.model): self.cache})
                .logits[0, -1]
                .float()
            )


def chunks(tokens: torch.Tensor, lengths: tuple[int, ...]) -> list[tuple[int, torch.Tensor]]:
    """(start, tokens) of each chunk of a prompt: the longest that are full, then the shortest that holds the rest."""
    size = max(lengths)
    return [(start, tokens[start : start + size]) for start in range(0, len(tokens), size)]


if __name__ == "__main__":
    sys.exit(main())
