"""The process that runs a package's modules under the real ttnn on a mock mesh: `python -m fx2ttnn.check.runner JOB`.

It is expected to die: whatever it finds it appends at once to the events file, one JSON object a line, and
faulthandler writes the Python stack of a crash. process.py starts it, reads both and starts it again behind the module
that killed it.
"""

from __future__ import annotations

import faulthandler
import gc
import importlib.util
import json
import os
import re
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
import ttnn

from fx2ttnn.check import allocate, measure, mock_gaps, warnings
from fx2ttnn.check.locate import locate, package_frames
from fx2ttnn.check.messages import plain_message
from fx2ttnn.check.specs import Specs
from fx2ttnn.names import layer_of

NAME = "checked_package"  # the name under which the package is imported, whatever its folder is called
OPENING = -1  # in place of a module's number


class Runner:
    """One run over the modules of a job."""

    def __init__(self, job: dict[str, Any], say: Callable[..., None]):
        self._say = say
        self._folder = Path(job["folder"])
        self._modules: Sequence[dict[str, Any]] = job["modules"]
        self._provenance = job["provenance"]
        self._files = {f"{entry['file']}.py" for entry in self._modules}
        self._state = {k: torch.empty(v, dtype=torch.bfloat16, device="meta") for k, v in job["shapes"].items()}
        self._found: list[dict[str, Any]] = []
        self._warned: set[str] = set()
        self._warnings = warnings.Warnings(Path(job["log"]), self._warning)

    def run(self, todo: Sequence[int]) -> None:
        """Open the mesh and check the modules `todo`; says an event before and after each."""
        self._say(event="start", index=OPENING)
        opened = self._guarded(self._open)
        layers, prefix = (self._layers, self._prefix) if opened else ([], 0)
        self._say(event="opened", findings=self._found, layers=layers, prefix=prefix)
        if not opened:
            return
        gc.freeze()  # the libraries' objects stay, and need not be looked through after each module
        for index in todo:
            self._found = []
            self._say(event="start", index=index)
            self._say(event="module", index=index, **self._check(self._modules[index]), findings=self._found)
            gc.collect()  # a refused call may leave tensors in a cycle, and their L1 taken
        self._warnings.collect()
        self._say(event="semaphores", bytes=measure.semaphores(self._device))

    def _open(self) -> bool:
        _import_package(self._folder)
        ttnn.open_mesh_device = mock_gaps.opening(ttnn.open_mesh_device)
        self._cfg = importlib.import_module(f"{NAME}.model_config")
        mesh = importlib.import_module(f"{NAME}.mesh")
        weights = importlib.import_module(f"{NAME}.weights")
        model = importlib.import_module(f"{NAME}.model")
        self._layers = [c.__name__ for c in model.LAYER_CLASSES]
        self._prefix = _prefix(list(zip(self._layers, getattr(model, "LAYER_KINDS", self._layers), strict=True)))
        self._device = mesh.open_mesh()
        self._weights = weights.Weights(self._device, self._state)
        self._specs = Specs(self._device, self._cfg, mesh.to_mesh)
        return True

    def _check(self, entry: dict[str, Any]) -> dict[str, Any]:
        """Build one module, run it for what ttnn refuses, run it again for its L1."""
        report: dict[str, Any] = {"device_ops": None, "peak_l1_bytes": None, "weights_bytes": None, "cache_bytes": None}
        made = self._weights.resources.made if hasattr(self._weights, "resources") else {}
        # That of an earlier module: in a model it comes behind all that modules hold, and a prompt has it not.
        if "global_cb" in made:
            made.pop("global_cb").free()
        before, shared = measure.dram_in_use(self._device), len(made)
        unit = self._guarded(lambda: self._build(entry))
        if len(made) > shared:  # the first to ask for what all share: it is none of its weights
            unit = None
            gc.collect()
            before = measure.dram_in_use(self._device)
            unit = self._guarded(lambda: self._build(entry))
        if unit is None:
            return report
        report["weights_bytes"] = measure.dram_in_use(self._device) - before
        feed = self._feed_model if entry["path"] == "" else self._feed
        report["cache_bytes"] = self._guarded(lambda: self._cache_bytes(unit, entry, feed))
        forward = getattr(unit, entry["method"])

        def call(arguments: dict[str, Any]) -> Any:
            # Modules of one class may call their arguments otherwise.
            return forward(**arguments) if entry["path"] == "" else forward(*arguments.values())

        def accepted() -> list[str]:
            arguments = feed(unit, entry)
            with self._beside_prefetcher(unit, entry):
                output, trace = measure.captured(ttnn.graph.RunMode.NORMAL, lambda: call(arguments))
            for message in self._specs.mismatches(entry["outputs"], output):
                self._found.append({"kind": "mismatch", "message": message, "file": f"{entry['file']}.py"})
            return measure.device_ops(trace)

        def peak() -> int:
            # The inputs are made inside, so that they count.
            with self._beside_prefetcher(unit, entry):
                _, trace = measure.captured(ttnn.graph.RunMode.NO_DISPATCH, lambda: call(feed(unit, entry)))
            return measure.peak_l1(trace)

        report["device_ops"] = self._guarded(accepted)
        if report["device_ops"] is not None:
            report["peak_l1_bytes"] = self._guarded(peak, kind="measurement")
        return report

    def _beside_prefetcher(self, unit: Any, entry: dict[str, Any]) -> AbstractContextManager[None]:
        """What a decode step of a layer, or of a part of one, runs in: the prefetcher with its weights on their way."""
        if (
            not (self._folder / "prefetcher.py").exists()
            or entry["method"] != "decode_forward"
            or not layer_of(entry["path"])
        ):
            return nullcontext()
        prefetcher = importlib.import_module(f"{NAME}.prefetcher")
        layers = [unit.prefetched()] if hasattr(unit, "prefetched") else []
        global_cb = self._weights.resources.global_circular_buffer()
        return prefetcher.Prefetcher(self._device, global_cb, layers).running()

    def _build(self, entry: dict[str, Any]) -> Any:
        cls = getattr(importlib.import_module(f"{NAME}.{entry['file']}"), entry["class"])
        if entry["path"] == "":
            return cls(self._device, self._weights, num_layers=self._prefix)
        arguments = {name: self._specs.named(source) for name, source in entry.get("arguments", {}).items()}
        return cls(self._device, self._weights.at(entry["path"]), **arguments)

    def _cache_bytes(self, unit: Any, entry: dict[str, Any], feed: Callable[..., Any]) -> int:
        """DRAM that the KV cache of one module takes on a chip."""
        before = measure.dram_in_use(self._device)
        if entry["path"] == "":
            cache = unit.allocate_kv_cache()
        else:
            cache = [self._specs.make(spec) for spec in entry["inputs"] if spec["kind"] == "layer_state"]
        taken = measure.dram_in_use(self._device) - before
        del cache
        return taken

    def _feed(self, unit: Any, entry: dict[str, Any]) -> dict[str, Any]:
        """Arguments of a module's forward."""
        return {spec["name"]: self._specs.make(spec) for spec in entry["inputs"]}

    def _feed_model(self, unit: Any, entry: dict[str, Any]) -> dict[str, Any]:
        """Arguments of a forward of the model, made as a caller makes them; a chunk is the last that the cache has room for."""
        if entry["method"] == "prefill_forward":
            start = max(0, self._cfg.MAX_SEQ_LEN // entry["tokens"] - 1) * entry["tokens"]
            tokens = torch.zeros(min(entry["tokens"], self._cfg.MAX_SEQ_LEN), dtype=torch.int32)
            inputs = unit.prepare_prefill_inputs(tokens, start, self._cfg.BATCH - 1, unit.page_table())
        else:
            users = torch.zeros(self._cfg.BATCH, dtype=torch.int32)
            inputs = unit.prepare_decode_inputs(users, users, unit.page_table())
        return {**inputs, "kv_cache": unit.allocate_kv_cache()}

    def _guarded(self, work: Callable[[], Any], kind: str | None = None) -> Any:
        """What `work` gives; None and a finding if it raises."""
        try:
            return work()
        except Exception as error:
            self._found.append(self._finding(error, kind))
            traceback.clear_frames(error.__traceback__)  # they hold tensors, and with them L1
            return None

    def _warning(self, message: str, stack: list[tuple[str, int]]) -> None:
        """Say each kind of ttnn's warnings once, with the emitted line that drew it first."""
        kind = re.sub(r"\d+", "0", message)
        frames = package_frames(stack, self._folder)
        if kind in self._warned or not frames:
            return
        self._warned.add(kind)
        where = locate(frames, self._folder, self._files, self._provenance)
        self._say(event="warning", finding={"kind": "warning", "message": plain_message(message), **where})

    def _finding(self, error: Exception, kind: str | None) -> dict[str, Any]:
        stack = [(frame.filename, frame.lineno or 0) for frame in traceback.extract_tb(error.__traceback__)]
        frames = package_frames(stack, self._folder)
        text = str(error)
        by_ttnn = text.startswith("TT_") or "ttnn" in Path(stack[-1][0]).parts
        message = plain_message(text if by_ttnn else f"{type(error).__name__}: {text}")
        where = locate(frames, self._folder, self._files, self._provenance)
        return {"kind": kind or ("refusal" if by_ttnn else "error"), "message": message, **where}


def _prefix(kinds: Sequence[Any]) -> int:
    """How many of the first layers the model must have so that every kind of layer is among them."""
    return 1 + max((kinds.index(kind) for kind in set(kinds)), default=-1)


def _import_package(folder: Path) -> None:
    spec = importlib.util.spec_from_file_location(
        NAME, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    if spec is None or spec.loader is None:
        raise ImportError(f"cannot import {folder}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[NAME] = module
    spec.loader.exec_module(module)


def main(job_file: str) -> None:
    """Do the job of a file that process.py wrote."""
    job = json.loads(Path(job_file).read_text())
    with open(job["events"], "a") as events, open(job["stack"], "w") as stack:
        faulthandler.enable(stack, all_threads=False)

        def say(**event: Any) -> None:
            if event["event"] == "start":  # in the log, too: what follows belongs to this module
                print(f"{job['marker']}{event['index']}", flush=True)
            events.write(json.dumps(event) + "\n")
            events.flush()

        allocate.install()
        Runner(job, say).run(job["todo"])
        say(event="end")
        sys.stdout.flush()
        os._exit(0)  # nothing of a mock needs closing, and a fault at exit would say nothing of the package


if __name__ == "__main__":
    main(sys.argv[1])
