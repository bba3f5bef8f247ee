"""Runs runner.py, and lives on when it does not."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fx2ttnn
from fx2ttnn.check.locate import locate, package_frames
from fx2ttnn.check.messages import last_words
from fx2ttnn.check.mock import mock_environment, without_hardware
from fx2ttnn.check.package import Package

OPENING = -1
MARKER = "=== fx2ttnn.check module "
POLL_SECONDS = 0.1
GRACE_SECONDS = 5.0


@dataclass
class Outcome:
    """What the processes said: the class of every layer, findings that belong to no module, reports by module number.

    `prefix`: how many of the first layers the model had that was run;
    `warnings`: ttnn's, each kind once; `semaphores`: bytes of L1 that they take on each core.
    """

    layers: list[str] = field(default_factory=list)
    prefix: int = 0
    findings: list[dict[str, Any]] = field(default_factory=list)
    reports: dict[int, dict[str, Any]] = field(default_factory=dict)
    warnings: list[dict[str, Any]] = field(default_factory=list)
    semaphores: int | None = None


def run(package: Package, shapes: dict[str, list[int]], timeout: float) -> Outcome:
    """Check all modules; a module that kills its process is reported, and the others go on in a new one.

    `timeout` is in seconds for each module.
    """
    outcome = Outcome()
    with tempfile.TemporaryDirectory(prefix="fx2ttnn-check-") as scratch:
        while True:
            todo = [n for n in range(len(package.modules)) if n not in outcome.reports]
            if not todo or not _once(package, shapes, todo, timeout, Path(scratch), outcome):
                return outcome


def _once(
    package: Package, shapes: dict[str, list[int]], todo: list[int], timeout: float, scratch: Path, outcome: Outcome
) -> bool:
    """One process; False where another would come no further."""
    job = {
        "folder": str(package.folder),
        "modules": list(package.modules),
        "provenance": list(package.provenance),
        "shapes": shapes,
        "todo": todo,
        "events": str(scratch / "events"),
        "stack": str(scratch / "stack"),
        "marker": MARKER,
        "log": str(scratch / "log"),
    }
    (scratch / "job").write_text(json.dumps(job))
    (scratch / "events").write_text("")
    outcome.findings = []  # what was found while opening is found again
    with (scratch / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "fx2ttnn.check.runner", str(scratch / "job")],
            env=_environment(package),
            cwd=scratch,  # ttnn writes into the current folder
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            timed_out = _watch(process, scratch / "events", timeout)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
    current, ended = OPENING, False
    for event in _events(scratch / "events"):
        kind = event.pop("event")
        if kind == "start":
            current = event["index"]
        elif kind == "opened":
            outcome.layers, outcome.prefix, outcome.findings = event["layers"], event["prefix"], event["findings"]
        elif kind == "module":
            outcome.reports[event.pop("index")] = event
        elif kind == "warning":
            told = {warning["message"] for warning in outcome.warnings}  # by a process that died since
            outcome.warnings += [event["finding"]] if event["finding"]["message"] not in told else []
        elif kind == "semaphores":
            outcome.semaphores = event["bytes"]
        ended = ended or kind == "end"
    if ended:
        return False
    finding = _death(package, scratch, current, process.returncode, timeout if timed_out else None)
    if current == OPENING:
        outcome.findings = [finding]
        return False
    outcome.reports[current] = {"findings": [finding]}
    return True


def _environment(package: Package) -> dict[str, str]:
    env = {k: v for k, v in without_hardware(os.environ).items() if k != "TTNN_CONFIG_OVERRIDES"}
    env |= mock_environment(package.target) | {"TT_METAL_LOGGER_LEVEL": "warning"}
    path = [str(Path(fx2ttnn.__path__[0]).parent), env.get("PYTHONPATH", "")]
    return env | {"PYTHONPATH": os.pathsep.join(filter(None, path)), "PYTHONDONTWRITEBYTECODE": "1"}


def _watch(process: subprocess.Popen[bytes], events: Path, timeout: float) -> bool:
    """Wait for the end of the process; True if it had to be ended because it said nothing for `timeout` seconds."""
    size, since = 0, time.monotonic()
    while process.poll() is None:
        if events.stat().st_size != size:
            size, since = events.stat().st_size, time.monotonic()
        if time.monotonic() - since > timeout:
            process.send_signal(signal.SIGABRT)  # faulthandler then writes where it was
            try:
                process.wait(GRACE_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            return True
        time.sleep(POLL_SECONDS)
    return False


def _events(path: Path) -> list[dict[str, Any]]:
    """The events that were written whole."""
    return [json.loads(line) for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]


def _death(package: Package, scratch: Path, current: int, code: int, timeout: float | None) -> dict[str, Any]:
    """The finding for a process that died, or was ended after `timeout` seconds."""
    if timeout is not None:
        kind, message = "timeout", f"no answer within {timeout:g} s"
    elif code < 0:
        kind, message = "crash", f"the process died of {signal.Signals(-code).name}"
    else:
        kind, message = "crash", f"the process ended by itself with code {code}"
    log = (scratch / "log").read_text(errors="replace").split(f"{MARKER}{current}\n")[-1]
    words = last_words(log)
    stack = _crash_stack((scratch / "stack").read_text(errors="replace") if (scratch / "stack").exists() else "")
    files = {f"{entry['file']}.py" for entry in package.modules}
    where = locate(package_frames(stack, package.folder), package.folder, files, package.provenance)
    return {"kind": kind, "message": f"{message}; its last words: {words}" if words else message, **where}


def _crash_stack(text: str) -> list[tuple[str, int]]:
    """(file, line) of the stack that faulthandler wrote, outermost first."""
    frames = re.findall(r'File "([^"]+)", line (\d+)', text)
    return [(file, int(line)) for file, line in reversed(frames)]
