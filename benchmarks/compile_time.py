"""How long compiling takes, against a plain `torch.export` of the same model, and against twice as many layers.

    python benchmarks/compile_time.py

Everything is measured in this run, on this machine, without network. Each figure is of a process of its own, from its start: Python
and all imports included, as a user waits for it. Peak memory is the largest resident set of the process or one of its children.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

MODEL, BATCH = "qwen3-32b", 32

# One token for each user, no cache, parameters on meta: the model's maths and nothing else.
EXPORT = """
import sys, torch
from transformers import AutoConfig, AutoModelForCausalLM
config = AutoConfig.from_pretrained(sys.argv[1])
with torch.device("meta"):
    model = AutoModelForCausalLM.from_config(config).eval()
ids = torch.zeros(int(sys.argv[2]), 1, dtype=torch.int64, device="meta")
with torch.no_grad():
    exported = torch.export.export(model, (), {"input_ids": ids, "use_cache": False})
print(len(exported.graph.nodes), "nodes")
"""

# The seconds each stage took, as the command itself runs them.
STAGES = """
import gc, json, sys, time
start = time.perf_counter()
gc.disable()
from pathlib import Path
from fx2ttnn import pipeline
marks = [("import", start)]
done = pipeline.compile_model(pipeline.Options(sys.argv[1]), None, lambda name: marks.append((name, time.perf_counter())))
marks.append(("emit", time.perf_counter()))
pipeline.write_package(done, Path(sys.argv[2]))
ends = [begin for _, begin in marks[1:]] + [time.perf_counter()]
print(json.dumps({name: end - begin for (name, begin), end in zip(marks, ends)}))
"""

# Runs a command and says what it took; a process of its own, so that the peak is of that command alone.
MEASURE = """
import json, resource, subprocess, sys, time
start = time.perf_counter()
done = subprocess.run(sys.argv[1:], capture_output=True, text=True)
seconds = time.perf_counter() - start
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
print(json.dumps([done.returncode, seconds, peak, done.stdout, done.stderr[-2000:]]))
"""


@dataclass(frozen=True)
class Run:
    """Wall time in seconds from the start of the process, and peak memory in bytes."""

    seconds: float
    peak: int
    stdout: str

    def __str__(self) -> str:
        return f"{self.seconds:6.2f} s, peak {self.peak / 1e9:.2f} GB"


def measure(*command: str) -> Run:
    """Run Python with `command`; SystemExit with its message where it fails."""
    outer = subprocess.run(
        [sys.executable, "-c", MEASURE, sys.executable, *command], capture_output=True, text=True, cwd=ROOT, check=True
    )
    code, seconds, peak, stdout, stderr = json.loads(outer.stdout)
    if code:
        raise SystemExit(f"{' '.join(command)[:200]} failed with {code}:\n{stderr}")
    return Run(seconds, peak, stdout)


def best(runs: int, *command: str) -> Run:
    """The fastest of `runs`: other load on the machine only ever adds."""
    return min((measure(*command) for _ in range(runs)), key=lambda run: run.seconds)


def with_layers(folder: Path, layers: int) -> str:
    """A model folder like the built-in model's, with that many layers."""
    from fx2ttnn import models

    fields = json.loads(models.config_path(MODEL).read_text())
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(fields | {"num_hidden_layers": layers}))
    return str(folder)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=2, help="runs of each; the fastest counts")
    runs = parser.parse_args().runs
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        twice = with_layers(folder / "twice", 128)
        compiled = best(runs, "-m", "fx2ttnn", "compile", MODEL, "-o", str(folder / "out"))
        double = best(runs, "-m", "fx2ttnn", "compile", twice, "-o", str(folder / "out_twice"))
        export = best(runs, "-c", EXPORT, with_layers(folder / "once", 64), str(BATCH))
        stages = json.loads(measure("-c", STAGES, MODEL, str(folder / "staged")).stdout)
    print(f"fx2ttnn compile {MODEL}, whole process:     {compiled}")
    for name, seconds in stages.items():
        print(f"  stage {name:10}                          {seconds:6.2f} s")
    print(f"torch.export of the same model, batch {BATCH}:   {export} ({export.stdout.strip()})")
    print(
        f"compile / export: {compiled.seconds / export.seconds:.2f} of the time, {compiled.peak / export.peak:.2f} of the memory"
    )
    print(f"fx2ttnn compile with 128 layers:               {double}")
    print(
        f"128 layers / 64 layers: {double.seconds / compiled.seconds:.2f} of the time, {double.peak / compiled.peak:.2f} of the memory"
    )
    print(f"fastest of {runs} runs each; this benchmark took {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
