"""Random decoder configurations, each compiled: a whole package or a clean refusal, and nothing else.

    python benchmarks/random_models.py --draws 300 --seed 0
    python benchmarks/random_models.py --draws 1 --seed 17 --check --emulate -v

Draw number i has the seed `--seed` + i and depends on nothing else, so each row of the table is reproduced by its own seed (and by the
same `--target`, if one was given). Outcomes:

complete     a package was written
unsupported  the report names what has no ttnn calls (the command's exit code 3)
refused      one message (exit code 2)
CRASH        any other exception: a bug
REJECTED     `--check`: ttnn on a mock cluster refused something in a complete package: a bug
WRONG        `--emulate`: a test of the package's modules, of the model or of its generator failed: a bug
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import random
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

TARGETS = ("n150", "n300", "t3k", "galaxy")
GOOD = ("complete", "unsupported", "refused")
ACTIVATIONS = ("silu", "gelu", "gelu_pytorch_tanh", "relu", "gelu_new")
# Transformers refuses these where the heads do not divide the hidden size.
HIDDEN_DIVIDES = ("llama", "gemma2", "gemma3_text")
# In these the hidden size is what all heads have together, or each has a fixed share of it.
HIDDEN_IS_HEADS = ("gpt_neox", "stablelm", "starcoder2", "phi3", "olmo2", "cohere", "granite", "qwen2", "smollm3")


@dataclass(frozen=True)
class Draw:
    """One random model and what it is compiled for."""

    seed: int
    fields: dict[str, Any]
    target: str
    batch: int
    max_seq_len: int
    precision: str

    def __str__(self) -> str:
        f = self.fields
        heads = f"{f['num_attention_heads']}/{f.get('num_key_value_heads', '=')}"
        return (
            f"{f['model_type']:11} {self.target:6} hidden {f['hidden_size']} x {f['num_hidden_layers']}, heads {heads}"
            f" of {f.get('head_dim', '=')}, MLP {f['intermediate_size']}, vocabulary {f['vocab_size']}, batch {self.batch},"
            f" length {self.max_seq_len}, {self.precision}"
        )


@dataclass(frozen=True)
class Outcome:
    """What became of a draw; `message` is empty for a complete package, `detail` has the traceback of a crash."""

    draw: Draw
    kind: str
    message: str = ""
    detail: str = ""
    seconds: float = 0.0

    @property
    def good(self) -> bool:
        return self.kind in GOOD


def draw(seed: int, target: str | None = None, family: str | None = None, small: bool = False) -> Draw:
    """The draw of this seed. `small`: sizes that the emulator runs in seconds."""
    rng = random.Random(seed)
    name = rng.choice(sorted(_FAMILIES))
    target, name = rng.choice(TARGETS) if target is None else target, family or name
    batch = rng.choice((1, 32, rng.randint(2, 31)))
    length = rng.choice((32, 64, 128, 256, 512, rng.randint(32, 512)))
    fields = _sizes(rng, name, small)
    fields["max_position_embeddings"] = rng.choice((length, 512, 2048, 131072))
    fields |= _rope(rng, fields) | _FAMILIES[name](rng, fields)
    if rng.random() < 0.3:
        fields["tie_word_embeddings"] = rng.random() < 0.5
    precision = rng.choice(("performance", "accuracy"))
    if rng.random() < 0.1:
        fields["max_position_embeddings"] = max(16, length // 2)  # less than is asked for
    return Draw(seed, fields, target, batch, length, precision)


def _sizes(rng: random.Random, model_type: str, small: bool) -> dict[str, Any]:
    """The sizes that every family has. Mostly small; one model in five is as wide as real ones."""
    wide = rng.random() < 0.2 and not small
    heads = rng.choice((16, 32, 40, 64)) if wide else rng.choice((1, 2, 3, 4, 6, 7, 8, 8, 12, 14, 16))
    kv_heads = rng.choice([n for n in range(1, heads + 1) if heads % n == 0])
    head_dim = (
        rng.choice((64, 128)) if wide else rng.choice((32, 32, 64, 64, 64, 128, 128, rng.choice((40, 48, 80, 96, 112))))
    )
    hidden = heads * head_dim
    if model_type not in HIDDEN_IS_HEADS:
        hidden = 32 * (rng.randint(32, 160) if wide else rng.randint(1, 24))
    if model_type in HIDDEN_DIVIDES:
        hidden = -(-hidden // heads) * heads
        hidden = hidden if hidden % 32 == 0 else heads * 32
    inner = 32 * (rng.randint(32, 512) if wide else rng.randint(1, 48))
    vocabulary = rng.choice((512, rng.randint(40, 4000), rng.randint(40, 4000), 32 * rng.randint(1, 300)))
    if wide:
        vocabulary = rng.choice((32000, 49152, 151936, rng.randint(4000, 260000)))
    fields = {
        "model_type": model_type,
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": rng.randint(1, 3),
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "vocab_size": vocabulary,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    if model_type == "gpt_neox":
        del fields["num_key_value_heads"]
    return fields if model_type in HIDDEN_IS_HEADS else fields | {"head_dim": head_dim}


def _rope(rng: random.Random, fields: dict[str, Any]) -> dict[str, Any]:
    """Rotary embeddings of some kind, written as older checkpoints write them (`rope_scaling`) or newer (`rope_parameters`)."""
    theta, kind = (
        rng.choice((10000.0, 500000.0, 1000000.0)),
        rng.choice(("default",) * 3 + ("linear", "llama3", "yarn")),
    )
    if fields["model_type"] == "phi3":
        kind = "default"  # knows only longrope besides, which takes a factor for each column
    scaling: dict[str, Any] = {"rope_type": kind}
    if kind != "default":
        scaling["factor"] = rng.choice((2.0, 4.0, 8.0))
    if kind in ("llama3", "yarn"):
        scaling["original_max_position_embeddings"] = max(32, fields["max_position_embeddings"] // 4)
    if kind == "llama3":
        scaling |= {"low_freq_factor": 1.0, "high_freq_factor": 4.0}
    if fields["model_type"] == "gemma3_text":
        return {"rope_theta": theta, "rope_local_base_freq": 10000.0}
    if rng.random() < 0.5:
        return {"rope_parameters": {**scaling, "rope_theta": theta}}
    return {"rope_theta": theta} | ({"rope_scaling": scaling} if kind != "default" else {})


def _coin(rng: random.Random) -> bool:
    return rng.random() < 0.5


def _activation(rng: random.Random) -> str:
    """Mostly the family's usual kind."""
    return rng.choice(("silu", "silu", *ACTIVATIONS))


def _window(rng: random.Random) -> int | None:
    return rng.choice((None, 32, 64, rng.randint(1, 300)))


def _kinds(rng: random.Random, fields: dict[str, Any]) -> list[str]:
    return [rng.choice(("sliding_attention", "full_attention")) for _ in range(fields["num_hidden_layers"])]


def _llama(rng: random.Random, fields: dict[str, Any]) -> dict[str, Any]:
    return {
        "hidden_act": _activation(rng),
        "attention_bias": _coin(rng),
        "mlp_bias": rng.random() < 0.3,
        "rms_norm_eps": rng.choice((1e-5, 1e-6)),
    }


def _qwen2(rng: random.Random, fields: dict[str, Any]) -> dict[str, Any]:
    return {
        "hidden_act": _activation(rng),
        "use_sliding_window": _coin(rng),
        "sliding_window": 64,
        "max_window_layers": 1,
    }


def _qwen3(rng: random.Random, fields: dict[str, Any]) -> dict[str, Any]:
    return _qwen2(rng, fields) | {"attention_bias": _coin(rng)}


def _mistral(rng: random.Random, fields: dict[str, Any]) -> dict[str, Any]:
    return {"hidden_act": _activation(rng), "sliding_window": _window(rng)}


def _gemma2(rng: random.Random, fields: dict[str, Any]) -> dict[str, Any]:
    return {
        "hidden_activation": rng.choice(ACTIVATIONS),
        "sliding_window": _window(rng) or 4096,
        "layer_types": _kinds(rng, fields),
        "attn_logit_softcapping": rng.choice((None, 50.0)),
        "final_logit_softcapping": rng.choice((None, 30.0)),
        "query_pre_attn_scalar": rng.choice((fields["head_dim"], 256)),
        "attention_bias": _coin(rng),
    }


def _gemma3(rng: random.Random, fields: dict[str, Any]) -> dict[str, Any]:
    return _gemma2(rng, fields) | {"sliding_window": rng.choice((32, 512))}


def _phi3(rng: random.Random, fields: dict[str, Any]) -> dict[str, Any]:
    return {
        "hidden_act": _activation(rng),
        "sliding_window": _window(rng),
        "partial_rotary_factor": rng.choice((1.0, 0.5, 0.75)),
        "original_max_position_embeddings": fields["max_position_embeddings"],
    }


def _olmo2(rng: random.Random, fields: dict[str, Any]) -> dict[str, Any]:
    return {"hidden_act": _activation(rng), "attention_bias": _coin(rng)}


def _starcoder2(rng: random.Random, fields: dict[str, Any]) -> dict[str, Any]:
    return {"hidden_act": rng.choice(ACTIVATIONS), "use_bias": _coin(rng), "sliding_window": _window(rng)}


def _gpt_neox(rng: random.Random, fields: dict[str, Any]) -> dict[str, Any]:
    return {
        "hidden_act": rng.choice(ACTIVATIONS),
        "rotary_pct": rng.choice((0.25, 0.5, 1.0)),
        "use_parallel_residual": _coin(rng),
        "attention_bias": _coin(rng),
    }


def _stablelm(rng: random.Random, fields: dict[str, Any]) -> dict[str, Any]:
    return {
        "hidden_act": _activation(rng),
        "partial_rotary_factor": rng.choice((0.25, 0.5, 1.0)),
        "use_qkv_bias": _coin(rng),
        "qk_layernorm": rng.random() < 0.3,
        "use_parallel_residual": _coin(rng),
    }


def _cohere(rng: random.Random, fields: dict[str, Any]) -> dict[str, Any]:
    return {
        "hidden_act": _activation(rng),
        "logit_scale": rng.choice((0.0625, 1.0)),
        "use_qk_norm": _coin(rng),
        "attention_bias": _coin(rng),
    }


def _glm4(rng: random.Random, fields: dict[str, Any]) -> dict[str, Any]:
    return {
        "hidden_act": _activation(rng),
        "partial_rotary_factor": rng.choice((0.5, 1.0)),
        "attention_bias": _coin(rng),
    }


def _granite(rng: random.Random, fields: dict[str, Any]) -> dict[str, Any]:
    return {
        "hidden_act": _activation(rng),
        "embedding_multiplier": rng.choice((1.0, 12.0)),
        "residual_multiplier": rng.choice((1.0, 0.22)),
        "logits_scaling": rng.choice((1.0, 8.0)),
        "attention_multiplier": rng.choice((1.0, 0.015625)),
        "attention_bias": _coin(rng),
        "mlp_bias": _coin(rng),
    }


def _smollm3(rng: random.Random, fields: dict[str, Any]) -> dict[str, Any]:
    layers = range(fields["num_hidden_layers"])
    return {
        "hidden_act": _activation(rng),
        "no_rope_layers": [int(_coin(rng)) for _ in layers],
        "layer_types": ["full_attention" for _ in layers],
        "use_sliding_window": False,
        "attention_bias": _coin(rng),
        "mlp_bias": _coin(rng),
    }


def _experts(rng: random.Random) -> tuple[int, int]:
    number = rng.choice((2, 3, 4, 8, 16, 60, 64))
    return number, rng.randint(1, min(number, 8))


def _qwen3_moe(rng: random.Random, fields: dict[str, Any]) -> dict[str, Any]:
    number, chosen = _experts(rng)
    return _qwen3(rng, fields) | {
        "num_experts": number,
        "num_experts_per_tok": chosen,
        "moe_intermediate_size": 32 * rng.randint(1, 24),
        "norm_topk_prob": _coin(rng),
        "decoder_sparse_step": rng.choice((1, 1, 2)),
        "mlp_only_layers": rng.choice(([], [0])),
    }


def _mixtral(rng: random.Random, fields: dict[str, Any]) -> dict[str, Any]:
    number, chosen = _experts(rng)
    return _mistral(rng, fields) | {"num_local_experts": number, "num_experts_per_tok": chosen}


_FAMILIES = {
    "llama": _llama,
    "qwen2": _qwen2,
    "qwen3": _qwen3,
    "mistral": _mistral,
    "gemma2": _gemma2,
    "gemma3_text": _gemma3,
    "phi3": _phi3,
    "olmo2": _olmo2,
    "starcoder2": _starcoder2,
    "gpt_neox": _gpt_neox,
    "stablelm": _stablelm,
    "cohere": _cohere,
    "glm4": _glm4,
    "granite": _granite,
    "smollm3": _smollm3,
    "qwen3_moe": _qwen3_moe,
    "mixtral": _mixtral,
}


def outcome_of(drawn: Draw, folder: Path, check: bool = False, emulate: bool = False) -> Outcome:
    """Compile a draw below `folder`; a complete package is written, and checked and tested if asked for."""
    start = time.perf_counter()
    try:
        kind, message = _compiled(drawn, folder)
        if kind == "complete" and check:
            kind, message = _checked(folder / "package")
        if kind == "complete" and emulate:
            kind, message = _emulated(folder / "package")
        return Outcome(drawn, kind, message, seconds=time.perf_counter() - start)
    except Exception as error:
        message = f"{type(error).__name__}: {error}"
        return Outcome(drawn, "CRASH", message, traceback.format_exc(), time.perf_counter() - start)


def _compiled(drawn: Draw, folder: Path) -> tuple[str, str]:
    from fx2ttnn import pipeline
    from fx2ttnn.errors import UserError

    model = folder / f"random_{drawn.seed}"
    model.mkdir(parents=True)
    (model / "config.json").write_text(json.dumps(drawn.fields))
    options = pipeline.Options(str(model), drawn.target, drawn.batch, drawn.max_seq_len, drawn.precision)
    try:
        compiled = pipeline.compile_model(options)
        if compiled.complete:
            pipeline.write_package(compiled, folder / "package")
            return "complete", ""
    except UserError as error:
        if not str(error).strip():
            raise ValueError("a refusal without a message") from error
        return "refused", str(error).replace(f"{model}/config.json", "config.json")
    problems = [f"{row.mode} {row.op}: {row.problem}" for row in compiled.coverage.rows if row.problem]
    if not problems:
        raise ValueError("not complete, but the report names no problem")
    compiled.coverage.write(folder / "report")
    return "unsupported", problems[0] + (f" (and {len(problems) - 1} more)" if problems[1:] else "")


def _checked(package: Path) -> tuple[str, str]:
    from fx2ttnn.check import check
    from fx2ttnn.check.result import CheckResult

    result: CheckResult = check(package)
    return ("complete", "") if result.ok else ("REJECTED", json.dumps(result.to_json())[:3000])


def _emulated(package: Path) -> tuple[str, str]:
    tests = [str(package / "tests" / part) for part in ("modules", "model")]
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests]
    environment = os.environ | {"OMP_WAIT_POLICY": "PASSIVE"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=package.parent, env=environment)
    return ("complete", "") if done.returncode == 0 else ("WRONG", done.stdout[-3000:] + done.stderr[-1000:])


def main() -> int:
    """Draw, compile, print; 1 if anything but a package or a clean refusal came out."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--draws", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0, help="the seed of the first draw; the next has the next")
    parser.add_argument("--target", choices=TARGETS, help="all draws for this machine")
    parser.add_argument("--family", choices=sorted(_FAMILIES), help="all draws of this model type")
    parser.add_argument("--small", action="store_true", help="no model as wide as real ones")
    parser.add_argument("--check", action="store_true", help="run packages under ttnn on a mock cluster")
    parser.add_argument(
        "--emulate", action="store_true", help="run the packages' tests of modules and model on the emulator"
    )
    parser.add_argument("--seconds", type=float, default=float("inf"), help="no further draw after so many seconds")
    parser.add_argument("-v", "--verbose", action="store_true", help="print each configuration")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    start, found = time.perf_counter(), []
    for seed in range(args.seed, args.seed + args.draws):
        if time.perf_counter() - start > args.seconds:
            break
        drawn = draw(seed, args.target, args.family, args.small)
        with tempfile.TemporaryDirectory(prefix="fx2ttnn_random_") as folder:
            outcome = outcome_of(drawn, Path(folder), args.check, args.emulate)
        found.append(outcome)
        print(f"{seed:6} {outcome.kind:11} {outcome.seconds:5.1f} s  {drawn}", flush=True)
        if args.verbose or not outcome.good:
            print(f"       {json.dumps(drawn.fields)}")
        for text in filter(None, (outcome.message, outcome.detail)):
            print("       " + text.replace("\n", "\n       "), flush=True)
    counts = collections.Counter(outcome.kind for outcome in found)
    print(f"\n{len(found)} draws in {time.perf_counter() - start:.0f} s: ", end="")
    print(", ".join(f"{count} {kind}" for kind, count in counts.most_common()))
    if bad := [outcome for outcome in found if not outcome.good]:
        print("bugs, by seed: " + ", ".join(f"{o.draw.seed} ({o.kind}, {o.draw.fields['model_type']})" for o in bad))
    return 1 if bad else 0


if __name__ == "__main__":
    raise SystemExit(main())
