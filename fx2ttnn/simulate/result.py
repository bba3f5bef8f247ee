"""What running a package's tests in the simulator gave, as values."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

PASSED, WRONG, REFUSED, HUNG, OUT_OF_TIME = "passed", "wrong numbers", "refused by the simulator", "hung", "out of time"
ERROR, SKIPPED = "error", "skipped"
STATEMENT = "ran on the vendor's kernels, in simulation: no speed, no races, not silicon"
FILE = Path("report/simulator.json")


@dataclass(frozen=True)
class Run:
    """One test. `seconds` of wall time, with compiling kernels; least PCC and largest difference where it compared numbers.

    `detail` is what was said where it did not pass: of a refusal the simulator's category and words, of what hung the ttnn call.
    """

    test: str
    outcome: str
    seconds: float
    detail: str = ""
    pcc: float | None = None
    difference: float | None = None


@dataclass(frozen=True)
class Simulation:
    """All tests that were run, of a package for `target` on `simulator` (the name of its file)."""

    model: str
    target: str
    simulator: str
    ttnn: str
    runs: tuple[Run, ...]

    @property
    def ok(self) -> bool:
        """Whether no test gave wrong numbers, hung, failed or ran out of time; what the simulator lacks is not the package's fault."""
        return all(run.outcome in (PASSED, REFUSED) for run in self.runs)

    def count(self) -> Counter[str]:
        """How many tests had each outcome."""
        return Counter(run.outcome for run in self.runs)

    def write(self, package: Path) -> None:
        """Into report/simulator.json, beside earlier runs of other tests; tests.json gets the outcomes of this backend."""
        path = package / FILE
        before = json.loads(path.read_text())["runs"] if path.exists() else []
        now = {run.test for run in self.runs}
        kept = [run for run in before if run["test"] not in now]
        data = asdict(self) | {"runs": sorted([*kept, *map(asdict, self.runs)], key=lambda run: run["test"])}
        path.write_text(json.dumps({"statement": STATEMENT, **data}, indent=1) + "\n")


def read_runs(data: Any) -> dict[str, dict[str, Any]]:
    """The runs of a report/simulator.json by test; none of a file that is not there or not as written."""
    runs = data.get("runs") if isinstance(data, dict) else None
    return {run["test"]: run for run in runs or [] if isinstance(run, dict) and "test" in run}
