"""What putting a checkpoint on the mesh costs in host memory and time, and that its cache survives kills and shows damage.

    python benchmarks/weight_streaming.py [--layers 3] [--folder DIR]

Makes a random bfloat16 checkpoint of the first layers of Qwen3-32B in safetensors shards, compiles the model for the Galaxy, and
builds as many layers of the emitted model on a mock Galaxy, whose "device" memory takes no memory of the host. Everything is
measured in this run, without network. Needs about 6 GB of disk for the checkpoint and twice 4 GB for the caches.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

MODEL, TARGET, KILLS = "qwen3-32b", "galaxy", 3
MIB = 1 << 20

# Builds the model of the package in a process of its own, and says what that took beyond the open mesh.
STREAM = """
import importlib, json, os, sys, threading, time
root, package, checkpoint, cache = sys.argv[1:]
sys.path[:0] = [root, os.path.dirname(package)]
from fx2ttnn import targets
from fx2ttnn.check.mock import mock_environment

os.environ.update(mock_environment(targets.load("galaxy")))
name = os.path.basename(package)
weights, model, mesh, reader = (importlib.import_module(f"{name}.{m}") for m in ("weights", "model", "mesh", "checkpoint"))
device = mesh.open_mesh()

def memory():
    'Anonymous memory of this process: all but mapped files.'
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("RssAnon"))

peak, running, read = memory(), True, []
start_memory = peak

def watch():
    global peak
    while running:
        peak = max(peak, memory())
        time.sleep(0.002)

tensor = reader.Checkpoint.__getitem__
reader.Checkpoint.__getitem__ = lambda self, name: read.append(name) or tensor(self, name)
thread = threading.Thread(target=watch, daemon=True)
thread.start()
print("start", flush=True)
start = time.perf_counter()
try:
    placed = weights.open_weights(device, checkpoint, None if cache == "none" else cache)
    built = next(c for n, c in vars(model).items() if n.endswith("ForCausalLM"))(device, placed)
    problem = None
except (weights.CacheError, weights.CheckpointError) as error:
    problem = f"{type(error).__name__}: {error}"
seconds = time.perf_counter() - start
running = False
thread.join()
print(json.dumps({"seconds": seconds, "peak": peak - start_memory, "read": len(read), "problem": problem}), flush=True)
os._exit(0)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description="Memory and time of weight streaming, and its cache under kills.")
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="Where the files go for the time of the run.")
    parser.add_argument("--seed", type=int, default=0, help="Of the kills' moments and the flipped byte.")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="weight_streaming_", dir=options.folder) as name:
        run(Path(name), options.layers, random.Random(options.seed))


def run(folder: Path, layers: int, chance: random.Random) -> None:
    """All measurements, printed."""
    package, checkpoint, whole, killed = (folder / name for name in ("package", "checkpoint", "whole", "killed"))
    command = [sys.executable, "-m", "fx2ttnn", "compile", MODEL, "--target", TARGET]
    subprocess.run([*command, "-o", str(package)], check=True, cwd=ROOT, capture_output=True)
    shorten(package, layers)
    layer_bytes, total = write_checkpoint(package, checkpoint)
    reading = read_files(checkpoint)
    print(f"checkpoint: {layers} layers of {layer_bytes / MIB:.0f} MiB, {total / MIB:.0f} MiB in all")
    print(f"plain reading of its files: {reading:.2f} s, {total / MIB / reading:.0f} MiB/s")

    streamed = {}
    for what, cache in (("into an empty cache", whole), ("from the cache", whole), ("without a cache", None)):
        streamed[what] = stream(package, checkpoint, cache)
        found = streamed[what]
        assert found["problem"] is None, found
        print(
            f"{what}: {found['seconds']:.1f} s, {total / MIB / found['seconds']:.0f} MiB/s of checkpoint, "
            f"{found['seconds'] / reading:.1f} x plain reading; {found['read']} tensors read; "
            f"peak {found['peak'] / MIB:.0f} MiB beyond the mapped files = {found['peak'] / layer_bytes:.2f} layers"
        )
    digests = digest_files(whole)

    for number in range(KILLS):
        left = 1 - entries(killed)[1] / entries(whole)[1]
        moment = chance.uniform(0.2, 0.7) * left * streamed["into an empty cache"]["seconds"]
        kill(package, checkpoint, killed, moment)
        print(
            f"kill -9 number {number + 1} after {moment:.1f} s: {entries(killed)[0]} of {entries(whole)[0]} entries are whole"
        )
    found = stream(package, checkpoint, killed)
    assert found["problem"] is None, found
    same = digest_files(killed) == digests
    print(
        f"started again: {found['seconds']:.1f} s, {found['read']} tensors read; all {len(digests)} files the same, byte for byte: {same}"
    )
    assert same

    damaged = chance.choice(sorted(killed.rglob("*.tensorbin")))
    position = flip_a_byte(damaged, chance)
    found = stream(package, checkpoint, killed)
    print(f"byte {position} of {damaged.name} flipped: {found['problem']}")
    assert found["problem"].startswith("CacheError") and damaged.name in found["problem"]


def shorten(package: Path, layers: int) -> None:
    """Let the package build `layers` layers only, placed as in the whole model."""
    for name, old, new in (
        ("checkpoint.json", r'"layers": \d+', f'"layers": {layers}'),
        ("model_config.py", r"NUM_LAYERS = \d+", f"NUM_LAYERS = {layers}"),
    ):
        text, count = re.subn(old, new, (package / name).read_text())
        assert count, f"{name} does not say how many layers there are"
        (package / name).write_text(text)


def write_checkpoint(package: Path, folder: Path) -> tuple[int, int]:
    """Random tensors, a shard for each layer and one for the rest; returns bytes of a layer and of all."""
    from safetensors.torch import save_file

    shards: dict[str, dict[str, list[int]]] = {}
    for entry in json.loads((package / "checkpoint.json").read_text())["tensors"]:
        for layer in range(entry.get("layers", 1)):
            name = entry["name"].replace("{layer}", str(layer))
            shard = f"layer{layer}.safetensors" if "{layer}" in entry["name"] else "rest.safetensors"
            shards.setdefault(shard, {})[name] = entry["shape"]
    folder.mkdir()
    torch.manual_seed(0)
    for shard, shapes in shards.items():
        save_file({name: torch.randn(shape).bfloat16() for name, shape in shapes.items()}, folder / shard)
    index = {"weight_map": {name: shard for shard, shapes in shards.items() for name in shapes}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    sizes = {file.name: file.stat().st_size for file in folder.glob("*.safetensors")}
    return sizes["layer0.safetensors"], sum(sizes.values())


def read_files(folder: Path) -> float:
    """Seconds to read the shards once, from the page cache where the machine holds them there, as the streaming finds them."""
    start = time.perf_counter()
    for file in folder.glob("*.safetensors"):
        with file.open("rb", buffering=0) as opened:
            while opened.read(16 * MIB):
                pass
    return time.perf_counter() - start


def start_stream(package: Path, checkpoint: Path, cache: Path | None) -> subprocess.Popen[str]:
    """The streaming process, just before it opens the checkpoint."""
    arguments = [str(ROOT), str(package), str(checkpoint), str(cache or "none")]
    process = subprocess.Popen([sys.executable, "-c", STREAM, *arguments], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if line.strip() == "start":
            return process
    raise RuntimeError(f"the streaming process ended early, with code {process.wait()}")


def stream(package: Path, checkpoint: Path, cache: Path | None) -> dict[str, Any]:
    """What the streaming process reports."""
    process = start_stream(package, checkpoint, cache)
    output, _ = process.communicate()
    return json.loads(output.splitlines()[-1])


def kill(package: Path, checkpoint: Path, cache: Path, moment: float) -> None:
    """Start the streaming and end it with SIGKILL after `moment` seconds."""
    process = start_stream(package, checkpoint, cache)
    time.sleep(moment)
    process.kill()
    process.communicate()
    assert process.returncode == -9, "it had ended before it was killed"


def entries(cache: Path) -> tuple[int, int]:
    """How many whole entries a cache has, and their bytes."""
    sizes = [file.with_suffix("").stat().st_size for file in cache.rglob("*.sha256") if file.name != "part.sha256"]
    return len(sizes), sum(sizes)


def digest_files(folder: Path) -> dict[str, str]:
    """Path below `folder` -> sha256 of each file."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            with path.open("rb") as opened:
                found[str(path.relative_to(folder))] = hashlib.file_digest(opened, "sha256").hexdigest()
    return found


def flip_a_byte(file: Path, chance: random.Random) -> int:
    """Change one byte of the file; returns where."""
    position = chance.randrange(file.stat().st_size)
    with file.open("r+b") as opened:
        opened.seek(position)
        byte = opened.read(1)[0]
        opened.seek(position)
        opened.write(bytes([byte ^ (1 << chance.randrange(8))]))
    return position


if __name__ == "__main__":
    os.environ.setdefault("TT_METAL_LOGGER_LEVEL", "FATAL")
    os.environ.setdefault("LOGURU_LEVEL", "WARNING")
    if shutil.disk_usage(tempfile.gettempdir()).free < 20e9:
        sys.exit("needs 20 GB of free disk: give another --folder")
    main()
