"""How often a package's next token is Hugging Face's best, or one of its five best, when both read the same text.

    python benchmarks/teacher_forcing.py PACKAGE CHECKPOINT [TOKENS]

The text is this project's own docs/architecture.md. Hugging Face's model reads it in float32. The package runs on what FX2TTNN_BACKEND names.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

TEXT = Path(__file__).parent.parent / "docs" / "architecture.md"
PROMPT = 32  # tokens that are given as a prompt; the rest is fed token by token


def main(package: Path, checkpoint: Path, count: int) -> None:
    sys.path.insert(0, str(package.resolve().parent))
    build = importlib.import_module(f"{package.name}.generator").build_generator
    gguf = next(checkpoint.glob("*.gguf"), None)
    model = AutoModelForCausalLM.from_pretrained(
        checkpoint, dtype=torch.float32, **({"gguf_file": gguf.name} if gguf else {})
    ).eval()
    with importlib.import_module(f"{package.name}.backend").open_backend() as (device, backend):
        generator = build(checkpoint, device)
        tokens = generator.tokenizer(TEXT.read_text())["input_ids"][: PROMPT + count]
        prompt, fed = tokens[:PROMPT], tokens[PROMPT:]
        _, logits = generator.generate(prompt, len(fed), next_input=fed, stop_tokens=(), return_logits=True)
    with torch.no_grad():
        wanted = model(torch.tensor([tokens])).logits[0, PROMPT - 1 : -1]
    ours, best = logits.argmax(-1), wanted.topk(5).indices
    top1, top5 = (ours == best[:, 0]).float().mean(), (ours[:, None] == best).any(1).float().mean()
    print(f"{package.name} on the {backend}, {len(fed)} tokens: top-1 {top1:.1%}, top-5 {top5:.1%} of Hugging Face's")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 256)
