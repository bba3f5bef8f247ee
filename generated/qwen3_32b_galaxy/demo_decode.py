"""The smallest use of the model: no prefill, the tokens of a prompt go through the decode step one at a time, and then those it answers.

python -m PACKAGE.demo_decode --weights CHECKPOINT --prompt "..."
"""

import argparse
import sys

import torch

from . import model_config as cfg
from .backend import open_backend
from .generator import build_generator
from .text_demo import read_prompts, require_tokenizer
from .tokenizer import encode


def main(arguments=None):
    """Run the demo; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog=f"python -m {__package__}.demo_decode", description="Text from decode steps alone."
    )
    parser.add_argument("--weights", required=True, help="checkpoint: a folder, a .gguf file or a folder with one")
    parser.add_argument("--prompt", action="append", help="may be given several times", default=[])
    parser.add_argument("--max-new-tokens", type=int, default=32)
    options = parser.parse_args(arguments)
    tokenizer = require_tokenizer(options.weights)
    prompts = [encode(tokenizer, text) for text in read_prompts(options.prompt, None)]
    with open_backend() as (mesh_device, backend):
        print(f"{cfg.MODEL_NAME} on {cfg.TARGET}: {backend}")
        generator = build_generator(options.weights, mesh_device, tokenizer=tokenizer)
        for prompt, tokens in zip(prompts, run(generator, prompts, options.max_new_tokens)):
            print(f"\n{tokenizer.decode(prompt)}\n-> {tokenizer.decode(tokens, skip_special_tokens=True)}")
    return 0


def run(generator, prompts, max_new_tokens):
    """Greedy continuations of up to BATCH prompts (lists of ids): every user takes one token a step, of its prompt or of its answer."""
    page_table, kv_cache = generator.model.page_table(), generator.kv_cache
    tokens = [list(prompt) for prompt in prompts]
    done = [False] * len(prompts)
    position = 0
    while not all(done):
        fed = torch.tensor([0 if d else t[position] for t, d in zip(tokens, done)])
        positions = torch.tensor([-1 if d else position for d in done])
        logits = generator.decode_forward(fed, positions, page_table=page_table[: len(prompts)], kv_cache=kv_cache)
        position += 1
        for user, text in enumerate(tokens):
            if not done[user] and position == len(text):
                text.append(logits[user, 0].argmax().item())
                count = len(text) - len(prompts[user])
                done[user] = count >= max_new_tokens or text[-1] in generator.stop_tokens or position >= cfg.MAX_SEQ_LEN
    return [text[len(prompt) :] for text, prompt in zip(tokens, prompts)]


if __name__ == "__main__":
    sys.exit(main())
