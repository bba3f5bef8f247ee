"""Text for prompts from the command line or a JSON file.

python -m PACKAGE.text_demo --weights CHECKPOINT --prompt "..." [--prompt "..."] [--prompts FILE.json]
"""

import argparse
import json
import sys
import time
from pathlib import Path

from . import model_config as cfg
from .backend import CARD, open_backend
from .generator import build_generator
from .tokenizer import NoTokenizer, encode, load_tokenizer
from .weights import CheckpointError

BAD_INPUT = 2


def main(arguments=None, name="text_demo"):
    """Run the demo; returns the exit code: 2 for bad input, with one message that begins with `name`."""
    try:
        return run(parse(arguments))
    except (CheckpointError, NoTokenizer, OSError, ValueError, BadInput) as error:
        print(f"{name}: {error}", file=sys.stderr)
        return BAD_INPUT


class BadInput(Exception):
    """Something is wrong with what the user gave."""


def parse(arguments):
    """The options."""
    parser = argparse.ArgumentParser(
        prog=f"python -m {__package__}.text_demo", description=f"Text of {cfg.MODEL_NAME} on {cfg.TARGET}."
    )
    parser.add_argument("--weights", required=True, help="checkpoint: a folder, a .gguf file or a folder with one")
    parser.add_argument("--prompt", action="append", default=[], help="may be given several times")
    parser.add_argument("--prompts", help='JSON file: a list of strings or of objects {"prompt": ...}')
    parser.add_argument(
        "--batch", type=int, help=f"repeat the prompts until there are so many (users at a time: {cfg.BATCH})"
    )
    parser.add_argument("--max-new-tokens", type=int, default=64)
    parser.add_argument("--temperature", type=float, default=0.0, help="0: always the best token")
    parser.add_argument("--top-k", type=int)
    parser.add_argument("--top-p", type=float)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--raw", action="store_true", help="no chat template")
    parser.add_argument("--cache", help="folder for converted weights, used again by later starts")
    parser.add_argument("--no-trace", action="store_true", help="run every step call by call")
    return parser.parse_args(arguments)


def run(options):
    """Generate and print."""
    texts = read_prompts(options.prompt, options.prompts)
    if options.batch:
        texts = [texts[n % len(texts)] for n in range(options.batch)]
    tokenizer = require_tokenizer(options.weights)
    prompts = [encode(tokenizer, text, chat=not options.raw) for text in texts]
    for text, prompt in zip(texts, prompts):
        if len(prompt) > cfg.MAX_SEQ_LEN:
            raise BadInput(f"a prompt has {len(prompt)} tokens, the package takes {cfg.MAX_SEQ_LEN}: {text[:40]!r} ...")
    with open_backend() as (mesh_device, backend):
        print(f"{cfg.MODEL_NAME} on {cfg.TARGET}, backend: {backend}", flush=True)
        generator = build_generator(
            options.weights, mesh_device, tokenizer=tokenizer, trace=not options.no_trace, cache=options.cache
        )
        clock = Clock()
        answers = generator.generate(
            prompts,
            options.max_new_tokens,
            temperature=options.temperature,
            top_k=options.top_k,
            top_p=options.top_p,
            seed=options.seed,
            on_token=clock.token,
        )
        for text, answer in zip(texts, answers):
            print(f"\n> {text}\n{tokenizer.decode(answer, skip_special_tokens=True)}")
        print(f"\n{clock}")
        if backend != CARD:
            print(f"times of the {backend}: no measure of the hardware")
    return 0


class Clock:
    """Time to the first token of each prompt, and tokens a second behind it."""

    def __init__(self):
        self.start = time.perf_counter()
        self.times = {}

    def token(self, prompt, token):
        """One has come."""
        self.times.setdefault(prompt, []).append(time.perf_counter())

    def __str__(self):
        first = [times[0] - self.start for times in self.times.values()]
        rates = [(len(times) - 1) / (times[-1] - times[0]) for times in self.times.values() if len(times) > 1]
        if not first:
            return "no tokens"
        text = f"time to first token {min(first):.3f} s (first user) to {max(first):.3f} s (last user)"
        return text if not rates else f"{text}, {sum(rates) / len(rates):.2f} tokens/s/user"


def read_prompts(given, file):
    """Prompts of the command line, then those of a JSON file."""
    prompts = list(given)
    if file:
        try:
            entries = json.loads(Path(file).read_text())
            prompts += [entry["prompt"] if isinstance(entry, dict) else str(entry) for entry in entries]
        except (ValueError, KeyError, TypeError) as error:
            raise BadInput(f'{file} is no JSON list of strings or of objects with a "prompt": {error!r}') from error
    if not prompts:
        raise BadInput("no prompt: give --prompt or --prompts")
    return prompts


def require_tokenizer(path):
    """The checkpoint's tokenizer; FileNotFoundError where there is no checkpoint."""
    if not Path(path).exists():
        raise FileNotFoundError(f"there is no checkpoint at {path}")
    return load_tokenizer(path)


if __name__ == "__main__":
    sys.exit(main())
