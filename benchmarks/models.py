"""The table of docs/models.md: built-in models on targets, each row measured here: compile, check, and every distinct layer emulated.

    .venv/bin/python benchmarks/models.py [--model qwen3-32b ...] [--target galaxy ...] [--again]

Rows that docs/models.json has are kept unless `--again`; it is written after each row, so a run can be stopped and gone on with.
A row takes one to ten minutes on two cores and, for the widest layers, about 15 GB.
"""

from __future__ import annotations

import argparse
import json
import re
import resource
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

from jinja2 import Environment

from fx2ttnn import models, targets
from fx2ttnn.emit.module_tests import snake

DOCS = Path(__file__).parents[1] / "docs"
ROWS, TABLE = DOCS / "models.json", DOCS / "models.md"
MODES = ("decode", "prefill")
CACHES = (4096, 2048, 1024, 256)  # tokens of each of 32 users; the first that fits the chips
TOKENS = 256  # of the cache of the package whose layers are emulated: prompts of 100 and of 128 tokens

TEMPLATE = """# Models and targets

Written by `benchmarks/models.py`, which measured every row on a machine without a card; it can be run again. Configurations are those of
`fx2ttnn/models/`; their sizes are the published ones, some written from memory.

- *cache*: tokens for each of 32 users (`fx2ttnn compile --max-seq-len`): of {{ caches }} the most that fit the chips.
- *coverage*: captured operations with ttnn calls, of decode and prefill (`fx2ttnn compile`, all layers).
- *check*: what ttnn's host code says on a mock mesh (`fx2ttnn check`), and device operations of one layer in a decode step.
- *PCC of a layer*: each distinct decoder layer at its real width on the emulator against Hugging Face's module with random weights, the
  least of three decode steps of 32 users / of prompts of 100 and 128 tokens; bfloat8_b weights (the package's own `tests/modules`, cache of {{ tokens }} tokens).
- *compile*: CPU seconds of the whole command, the start of Python and torch (4 s) included.

{% for line in lines -%}
{{ line }}
{% endfor %}
Models that are missing were not measured.{% if unfit %} These do not fit:
{% for row in unfit %}
- {{ row.model }} on {{ row.target }}: {{ row.refused }}
{%- endfor %}{% endif %}

Measured with {{ versions }}.
"""


def main() -> None:
    """Measure what is missing, and write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", nargs="+", choices=models.names(), default=models.names(), metavar="NAME")
    parser.add_argument("--target", nargs="+", choices=targets.names(), default=["n150", "t3k", "galaxy"])
    parser.add_argument("--again", action="store_true", help="measure rows again that are there")
    options = parser.parse_args()
    rows = json.loads(ROWS.read_text()) if ROWS.exists() else {}
    for target in options.target:
        for model in options.model:
            if options.again or f"{model} {target}" not in rows:
                rows[f"{model} {target}"] = row = measure(model, target)
                print(json.dumps(row), flush=True)
                ROWS.write_text(json.dumps(rows, indent=1, sort_keys=True) + "\n")
                TABLE.write_text(table(rows))
    TABLE.write_text(table(rows))


def measure(model: str, target: str) -> dict[str, Any]:
    """One row: what the commands printed and wrote for `model` on `target`."""
    row: dict[str, Any] = {"model": model, "target": target}
    config = json.loads(models.config_path(model).read_text())
    with tempfile.TemporaryDirectory(prefix="fx2ttnn_models_") as folder:
        package, short = Path(folder) / "package", Path(folder) / "short"
        for tokens in (n for n in CACHES if n <= config["max_position_embeddings"]):
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            done = _compile(model, target, tokens, package)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            if not re.search("max.seq.len", done.stderr):  # of the messages that fewer tokens would fit
                break
        row["seconds"] = round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 1)
        row["tokens"] = tokens
        if done.returncode == 2:
            return row | {"refused": " ".join(done.stderr.split()).removeprefix("fx2ttnn: ")}
        coverage = json.loads((package / "report" / "coverage.json").read_text())
        row |= {"family": config["model_type"], "percent": coverage["percent"]}
        if done.returncode:
            return row | {"unsupported": sorted({r["op"] for r in coverage["rows"] if r["problem"]})}
        _fx2ttnn("check", package)
        found = json.loads((package / "report" / "check.json").read_text())
        row |= {"ok": found["ok"], "layers": {c["class_name"]: c["totals"]["device_ops"] for c in _decode(found)}}
        if not row["layers"]:  # refused in each: there is nothing to count or to run
            return row | {"failed": []}
        _compile(model, target, TOKENS, short)
        return row | _emulated(short, list(row["layers"]))


def _decode(found: dict[str, Any]) -> Iterator[dict[str, Any]]:
    return (layer for layer in found["layers"] if layer["method"] == "decode_forward")


def _emulated(package: Path, classes: list[str]) -> dict[str, Any]:
    """PCC of decode and of prefill by class of a decoder layer, and the tests that failed."""
    manifest = json.loads((package / "report" / "modules.json").read_text())
    files = {unit["class"]: unit["file"] for unit in manifest}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    for name in classes:
        command += [f"{package.name}/tests/modules/test_{files[name]}.py::test_{snake(name)}_{m}" for m in MODES]
    done = subprocess.run(command, cwd=package.parent, capture_output=True, text=True)
    if done.returncode == -signal.SIGKILL:
        return {"failed": [], "killed": True}
    results = package / "report" / "tests.json"
    if not results.exists():
        return {"failed": [(done.stdout + done.stderr)[-300:]]}
    found = json.loads(results.read_text())
    pcc = {test.rpartition("::")[2]: value for test, value in found["pcc"].get("emulator", {}).items()}
    outcomes = found["runs"]["emulator"]
    return {
        "pcc": {name: [pcc.get(f"test_{snake(name)}_{mode}") for mode in MODES] for name in classes},
        "failed": [test for test, outcome in outcomes.items() if outcome != "passed"],
    }


def _compile(model: str, target: str, tokens: int, out: Path) -> subprocess.CompletedProcess[str]:
    return _fx2ttnn("compile", model, "--target", target, "--max-seq-len", tokens, "-o", out)


def _fx2ttnn(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "fx2ttnn", *map(str, arguments)], capture_output=True, text=True)


def table(rows: dict[str, dict[str, Any]]) -> str:
    """docs/models.md."""
    order = sorted(
        rows.values(), key=lambda row: (row.get("family", ""), row["model"], targets.load(row["target"]).chips)
    )
    lines = [
        "| model | family | target | cache | coverage | check, device ops | PCC of a layer, decode / prefill | compile, s |"
    ]
    lines += ["|---|---|---|---|---|---|---|---|"]
    lines += [_line(row) for row in order if "refused" not in row]
    versions = ", ".join(f"{name} {version(name)}" for name in ("ttnn", "transformers", "torch"))
    unfit = [row for row in order if "refused" in row]
    caches = ", ".join(map(str, CACHES))
    page = Environment().from_string(TEMPLATE)
    return page.render(lines=lines, unfit=unfit, caches=caches, tokens=TOKENS, versions=versions) + "\n"


def _line(row: dict[str, Any]) -> str:
    if "unsupported" in row:
        check, pcc = f"no package: {', '.join(row['unsupported'])}", "not run"
    else:
        operations = " / ".join(map(str, row["layers"].values()))
        check = f"{'accepted' if row['ok'] else 'refused'}, {operations}"
        pcc = "; ".join(
            " / ".join("not run" if v is None else f"{v:.5f}" for v in two) for two in row.get("pcc", {}).values()
        )
        pcc = "killed: more memory than the machine has" if row.get("killed") else pcc or "not run"
        pcc += " FAILED" if row["failed"] else ""
    tokens, percent, seconds = str(row["tokens"]), f"{row['percent']:.0f} %", f"{row['seconds']:.0f}"
    cells = (row["model"], row["family"], row["target"], tokens, percent, check, pcc, seconds)
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
