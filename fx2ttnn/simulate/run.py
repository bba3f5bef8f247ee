"""Runs a package's tests in the simulator: one process for a file, since whatever the simulator refuses ends the process."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import fx2ttnn
from fx2ttnn.check.messages import without_colours
from fx2ttnn.check.mock import without_hardware
from fx2ttnn.check.package import Package, read_package
from fx2ttnn.errors import UserError
from fx2ttnn.simulate.environment import find_simulator, simulator_environment
from fx2ttnn.simulate.events import VARIABLE
from fx2ttnn.simulate.result import ERROR, HUNG, OUT_OF_TIME, PASSED, REFUSED, SKIPPED, WRONG, Run, Simulation

KINDS = ("ops", "modules", "model")
TIMEOUT = 3600.0  # seconds without the end of a test
TRACED = ("tests/model/test_generator.py", "tests/model/test_trace.py")  # traces need fast dispatch
READS = ("ttnn.to_torch", "ttnn.from_device")  # they wait for what was called before
_REFUSAL = re.compile(r"^(?:\[\d+\] )?ERROR: (\w+): (.*)$", re.M)  # the simulator's last words
_NUMBERS = re.compile(r"PCC|^(AssertionError: )?assert ", re.M)
Progress = Callable[[Run], None]


def simulate(
    package: Path,
    kinds: Sequence[str] = KINDS,
    only: str = "",
    simulator: Path | None = None,
    runtime: Path | None = None,
    timeout: float = TIMEOUT,
    quick: bool = False,
    progress: Progress = lambda run: None,
) -> Simulation:
    """Run the tests of `kinds` (ops, modules, model) whose file or name has `only` in it; `timeout` in seconds for a test.

    `quick`: modules and models are tried in one decode step and with the shortest prompt alone.

    Raises UserError where `package` is no package, or simulator or compiler are missing.
    """
    read = read_package(package)
    files = [f for kind in kinds for f in sorted((read.folder / "tests" / kind).glob("test_*.py"))]
    if not files:
        raise UserError(f"{read.folder} has no tests of {', '.join(kinds)}")
    library = find_simulator(read.target, simulator)
    own = {"FX2TTNN_BACKEND": "simulator", "FX2TTNN_QUICK": "1" if quick else ""}
    environments = {fast: simulator_environment(read.target, simulator, runtime, fast) | own for fast in (False, True)}
    runs = []
    for file in files:
        name = file.relative_to(read.folder).as_posix()
        if only not in name and only not in file.read_text():
            continue
        for run in _file(read, name, only, environments[name in TRACED], timeout):
            runs.append(run)
            progress(run)
    if not runs:
        raise UserError(f"{read.folder} has no test of {', '.join(kinds)} with {only!r} in its file's name or its own")
    version = importlib.metadata.version("ttnn")
    return Simulation(read.model, read.target.name, library.name, version, tuple(runs))


def _file(package: Package, file: str, only: str, environment: dict[str, str], timeout: float) -> Iterator[Run]:
    """All tests of a file, behind one that ended its process in a new one."""
    todo: list[str] | None = None
    while todo is None or todo:
        events, words = _process(package, file, only, todo, environment, timeout)
        collected: list[str] = next((e["tests"] for e in events if e["event"] == "collected"), [])
        runs = list(_runs(file, events, words, timeout))
        yield from runs
        done = {run.test.partition("::")[2] for run in runs}
        left = [test for test in collected if test not in done]
        if not runs and (left or words):  # it died before its first test
            yield Run(file, ERROR, 0.0, words)
            return
        todo = left


def _process(
    package: Package, file: str, only: str, todo: list[str] | None, environment: dict[str, str], timeout: float
) -> tuple[list[dict[str, Any]], str]:
    """The events of one process, the last being its end, and what it said last."""
    with tempfile.TemporaryDirectory(prefix="fx2ttnn-simulate-") as scratch:
        seen, log = Path(scratch) / "events", Path(scratch) / "log"
        seen.touch()
        path = package.folder / file
        selection = [f"{path}::{test}" for test in todo] if todo is not None else [str(path)]
        filtered = ["-k", only] if only and only not in file else []
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-s",
            "-q",
            "-p",
            "no:cacheprovider",
            "-p",
            "fx2ttnn.simulate.events",
        ]
        above = os.pathsep.join(filter(None, [str(Path(fx2ttnn.__path__[0]).parent), os.environ.get("PYTHONPATH", "")]))
        own = {VARIABLE: str(seen), "PYTHONPATH": above, "OMP_WAIT_POLICY": "PASSIVE"}
        with log.open("w") as out:
            process = subprocess.Popen(
                [*command, *filtered, *selection],
                env=without_hardware(os.environ) | environment | own,
                cwd=package.folder.parent,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            stopped = _watch(process, seen, timeout)
        events = [json.loads(line) for line in seen.read_text().splitlines(keepends=True) if line.endswith("\n")]
        text = without_colours(log.read_text(errors="replace"))
        refusal = _REFUSAL.findall(text)
        quiet = process.returncode in (0, 1, 5)  # pytest's own: passed, failed, nothing selected
        words = ": ".join(refusal[-1]) if refusal else "" if quiet else "\n".join(text.splitlines()[-3:])
        kind = "stopped" if stopped else "refused" if refusal else "exit"
        return [*events, {"event": kind, "at": time.time()}], words


def _watch(process: subprocess.Popen[bytes], events: Path, timeout: float) -> bool:
    """Wait for the end; True if it had to be ended, because no test ended for `timeout` seconds."""
    ended, since = 0, time.monotonic()
    try:
        while process.poll() is None:
            now = events.read_text().count('"event": "end"')
            if now != ended:
                ended, since = now, time.monotonic()
            if time.monotonic() - since > timeout:
                return True
            time.sleep(0.5)
        return False
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)  # it may hang in the simulator, and hear nothing else
            process.wait()


def _runs(file: str, events: Sequence[dict[str, Any]], words: str, timeout: float) -> Iterator[Run]:
    """A run for each test that ended, and for the one under way when the process ended."""
    test, started, call, called, computed = None, 0.0, "", 0.0, ""
    for event in events:
        kind, at = event["event"], event["at"]
        if kind == "start":
            test, started, call, computed = event["test"], at, "", ""
        elif kind == "call":
            call, called = event["name"], at
            computed = computed if call in READS else call
        elif kind == "end" and test is not None:
            outcome = {"passed": PASSED, "skipped": SKIPPED}.get(event["outcome"])
            message = event["message"]
            outcome = outcome or (WRONG if _NUMBERS.search(message) else ERROR)
            detail = "" if outcome == PASSED else message.splitlines()[0] if message else ""
            yield Run(
                f"{file}::{test}", outcome, round(at - started, 1), detail, event.get("pcc"), event.get("difference")
            )
            test = None
        elif kind in ("refused", "stopped", "exit") and test is not None:
            seconds = round(at - started, 1)
            if kind == "refused":
                yield Run(f"{file}::{test}", REFUSED, seconds, f"{words} (in {computed})" if computed else words)
            elif kind == "stopped":
                silent = call and at - called > timeout / 2
                detail = f"{call} did not return for {at - called:.0f} s" if silent else f"not done in {timeout:g} s"
                yield Run(f"{file}::{test}", HUNG if silent else OUT_OF_TIME, seconds, detail)
            else:
                yield Run(f"{file}::{test}", ERROR, seconds, words or "the process ended")
