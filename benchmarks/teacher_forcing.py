"""How often a package's next token is Hugging Face's best, or one of its five best, when both read the same text.

    python benchmarks/teacher_forcing.py PACKAGE CHECKPOINT [TOKENS] [--against PACKAGE]

The text is this project's own docs/architecture.md. Hugging Face's model reads it in float32. The package runs on what FX2TTNN_BACKEND names.
With `--against`, the same is said of a second package, and how often both choose the same token: what `--fidelity LoFi` changes, for one.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

TEXT = Path(__file__).parent.parent / "docs" / "architecture.md"
PROMPT = 32  # tokens that are given as a prompt; the rest is fed token by token


def main(packages: list[Path], checkpoint: Path, count: int) -> None:
    gguf = next(checkpoint.glob("*.gguf"), None)
    model = AutoModelForCausalLM.from_pretrained(
        checkpoint, dtype=torch.float32, **({"gguf_file": gguf.name} if gguf else {})
    ).eval()
    best = None
    chosen = []
    for package in packages:
        tokens, logits, backend = forced(package, checkpoint, count)
        if best is None:
            with torch.no_grad():
                best = model(torch.tensor([tokens])).logits[0, PROMPT - 1 : -1].topk(5).indices
        ours = logits.argmax(-1)
        top1, top5 = (ours == best[:, 0]).float().mean(), (ours[:, None] == best).any(1).float().mean()
        print(f"{package.name} on the {backend}, {count} tokens: top-1 {top1:.1%}, top-5 {top5:.1%} of Hugging Face's")
        chosen.append(ours)
    for package, ours in zip(packages[1:], chosen[1:], strict=True):
        same = (ours == chosen[0]).float().mean()
        print(f"{packages[0].name} and {package.name} choose the same token for {same:.1%} of {count}")


def forced(package: Path, checkpoint: Path, count: int) -> tuple[list[int], torch.Tensor, str]:
    """The text's tokens, the package's logits [count, vocabulary] for those behind the prompt, and what it ran on."""
    sys.path.insert(0, str(package.resolve().parent))
    build = importlib.import_module(f"{package.name}.generator").build_generator
    with importlib.import_module(f"{package.name}.backend").open_backend() as (device, backend):
        generator = build(checkpoint, device)
        tokens = generator.tokenizer(TEXT.read_text())["input_ids"][: PROMPT + count]
        fed = tokens[PROMPT:]
        _, logits = generator.generate(tokens[:PROMPT], count, next_input=fed, stop_tokens=(), return_logits=True)
    return tokens, logits, backend


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package", type=Path)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("tokens", type=int, nargs="?", default=256)
    parser.add_argument("--against", type=Path)
    asked = parser.parse_args()
    main([asked.package, *([asked.against] if asked.against else [])], asked.checkpoint, asked.tokens)
