"""What was done to verify a package, and what came of it: four statements, none of which implies another.

`report/check.json` is written by `fx2ttnn check`. `report/tests.json` says what a run of the package's tests gave:

    {"runs": {"emulator": {"tests/ops/test_linear.py::test_linear[lm_head]": "passed", ...}, "card": {...}}, "pcc": {...}}

with pytest's node ids, relative to the package, and outcomes; "pcc" has the least PCC of each test in the same form, "difference" the largest
difference as a part of the largest number. `report/simulator.json` is written by `fx2ttnn simulate`, which also knows what the simulator refused.
A file that is not there, or a run, means: not run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fx2ttnn.report.data import Report
from fx2ttnn.report.text import plural
from fx2ttnn.simulate.result import read_runs

NOT_RUN, DONE, PARTLY, FAILED = "not run", "yes", "in part", "no"
_GOOD = {"passed"}
_LACKING = "refused by the simulator"  # what the simulator lacks says nothing against the package


@dataclass(frozen=True)
class Verification:
    """`state`: yes, no, in part, not run. `detail` in words."""

    name: str
    state: str
    detail: str


def verifications(report: Report) -> tuple[Verification, ...]:
    """Accepted by ttnn's host code, equal to Hugging Face in emulation, ran on the vendor's kernels in simulation, ran on silicon."""
    return (
        _accepted(report),
        _tested(
            "equal to Hugging Face in emulation", outcomes(report, "emulator"), "pytest on a machine without a card"
        ),
        _tested("ran on the vendor's kernels, in simulation", outcomes(report, "simulator"), "run fx2ttnn simulate"),
        _tested("ran on silicon", outcomes(report, "card"), "pytest on the target"),
    )


def outcomes(report: Report, backend: str) -> Mapping[str, str]:
    """Outcome of each test on `emulator`, `simulator` or `card`; empty where it was not run or the file is not as described above."""
    found = {test: str(outcome) for test, outcome in _run(report, "runs", backend).items()}
    if backend == "simulator":
        found |= {test: run["outcome"] for test, run in read_runs(report.simulator).items()}
    return found


def measured(report: Report, name: str, backend: str) -> Mapping[str, float]:
    """What each test measured on a backend: its least `pcc`, or its largest `difference`."""
    found = {test: value for test, value in _run(report, name, backend).items() if isinstance(value, float)}
    if backend == "simulator":
        found |= {test: run[name] for test, run in read_runs(report.simulator).items() if run.get(name) is not None}
    return found


def _run(report: Report, name: str, backend: str) -> Mapping[str, Any]:
    runs = report.tests.get(name) if isinstance(report.tests, dict) else None
    run = runs.get(backend) if isinstance(runs, dict) else None
    return run if isinstance(run, dict) else {}


def _accepted(report: Report) -> Verification:
    name = "accepted by ttnn's host code"
    if report.check is None:
        return Verification(name, NOT_RUN, "no report/check.json: run fx2ttnn check")
    modules = report.check["modules"]
    accepted = sum(m["status"] == "accepted" for m in modules)
    detail = f"{accepted} of {plural(len(modules), 'method')} of modules: {report.check['statement']}"
    return Verification(name, DONE if report.check["ok"] else FAILED, detail)


def _tested(name: str, found: Mapping[str, str], how: str) -> Verification:
    """Yes only where nothing failed and both the modules' tests and the model's, which compare with Hugging Face, passed."""
    if not found:
        return Verification(name, NOT_RUN, f"no such run in report/tests.json: {how}")
    kinds = {kind: Counter(v for k, v in found.items() if k.startswith(f"tests/{kind}/")) for kind in _KINDS}
    told = [
        f"{kind}: " + ", ".join(f"{n} {outcome}" for outcome, n in sorted(c.items())) for kind, c in kinds.items() if c
    ]
    whole = kinds["modules"]["passed"] and kinds["model"]["passed"] and _LACKING not in found.values()
    bad = any(outcome not in {*_GOOD, _LACKING} for outcome in found.values())
    state = FAILED if bad else DONE if whole else PARTLY
    return Verification(name, state, "tests of " + "; ".join(told) if told else "no test of this package")


_KINDS = ("ops", "modules", "model", "serving")


def call_status(report: Report, mode: str, statement: list[Any] | None) -> str:
    """What the check says about one emitted call of a mode."""
    if report.check is None:
        return "not checked"
    if statement is None:
        return "not located"
    file, first, last = statement
    modules = report.check["modules"]
    for finding in (*report.check["findings"], *(f for m in modules for f in m["findings"])):
        if finding["file"] == file and finding["line"] is not None and first <= finding["line"] <= last:
            return str(finding["kind"])
    states = {m["status"] for m in modules if m["file"] == file and m["method"] == f"{mode}_forward"}
    return "accepted" if states == {"accepted"} else "not reached"


@dataclass(frozen=True)
class Counted:
    """Device operations of a layer or a whole step, counted by the check: `of` says of which."""

    of: str
    device_ops: int
    collectives: int


def counted(report: Report) -> list[Counted]:
    """Of a layer of each kind and of a whole step: decode, and prefill for the longest chunk."""
    check = report.check
    if check is None:
        return []
    longest = max((int(tokens) for tokens in check["prefill"]), default=0)
    found = []
    for layer in check["layers"]:
        mode = layer["method"].removesuffix("_forward")
        if mode == "decode" or layer["tokens"] == longest:
            found.append((f"one of {layer['count']} {layer['class_name']}, {mode}", layer["totals"]))
    if check["step"]:
        found.append(("a decode step", check["step"]))
    if longest:
        found.append((f"a prefill of {longest} tokens", check["prefill"][str(longest)]))
    return [Counted(of, totals["device_ops"], totals["collectives"]) for of, totals in found]
