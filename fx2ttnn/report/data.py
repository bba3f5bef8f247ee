"""The JSON files of a report: written when a package is compiled, read when it is shown."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fx2ttnn.errors import UserError
from fx2ttnn.lower.program import Program
from fx2ttnn.profile import profile
from fx2ttnn.profile.figures import figures
from fx2ttnn.profile.predicted import first_tokens
from fx2ttnn.report.graph import FORMAT, graph_json

# What the roofline plot draws of a target.
_MACHINE = (
    "dram_bandwidth",
    "dram_bandwidth_measured",
    "flops_lofi",
    "flops_hifi2",
    "flops_hifi3",
    "flops_hifi4",
    "channel_bandwidth",
    "links",
    "dram_bytes",
)


@dataclass(frozen=True)
class Report:
    """What the files in `package`/report hold. `check`, `tests` and `simulator` are None where nobody ran them."""

    package: Path
    coverage: dict[str, Any]
    graph: dict[str, Any]
    profile: dict[str, Any]
    provenance: list[dict[str, Any]]
    modules: list[dict[str, Any]]
    check: dict[str, Any] | None
    tests: dict[str, Any] | None
    simulator: dict[str, Any] | None = None

    @property
    def title(self) -> str:
        return f"{self.graph['model']} on {self.graph['target']}"


def write(package: Path, program: Program) -> None:
    """graph.json and profile.json of a program, beside the provenance that emission wrote, if it did."""
    folder = package / "report"
    folder.mkdir(parents=True, exist_ok=True)
    emitted = folder / "provenance.json"
    provenance = json.loads(emitted.read_text()) if emitted.exists() else []
    _write(folder / "graph.json", graph_json(program, provenance))
    _write(folder / "profile.json", profile_json(program))


def profile_json(program: Program) -> dict[str, Any]:
    """The profile of each mode, without the graph and the bounds of single ops, which graph.json has; and the machine's figures."""
    modes = {}
    lowered = {"decode": program.decode, "prefill": program.lengths[max(program.lengths)]}
    for mode, graph in lowered.items():  # prefill by its longest chunk
        plan = program.plans[mode]
        found = profile(plan.capture, plan.target, plan.precision, plan, graph).to_json()
        del found["graph"]
        for bound in found["predicted"]["lower_bounds"]:
            del bound["ops"]
        modes[mode] = found
    modes["prefill"]["predicted"]["first_tokens"] = [first.to_json() for first in first_tokens(program)]
    decode = program.plan
    machine = [vars(figure) for figure in figures(decode.target, *_MACHINE)]
    return {"format": FORMAT, "machine": machine, "matmul_rate": decode.precision.rate(decode.target), "modes": modes}


def _write(file: Path, data: dict[str, Any]) -> None:
    file.write_text(json.dumps(data, indent=1) + "\n")


def read(package: Path) -> Report:
    """The report of a package; UserError with what to do where there is none or it cannot be read."""
    graph = _needed(package, "graph.json")
    profiled = _needed(package, "profile.json")
    for name, data in (("graph.json", graph), ("profile.json", profiled)):
        if data.get("format") != FORMAT:
            raise UserError(f"{package / 'report' / name} is of another version of fx2ttnn: compile the model again")
    return Report(
        package=package,
        coverage=_needed(package, "coverage.json"),
        graph=graph,
        profile=profiled,
        provenance=_read(package / "report" / "provenance.json") or [],
        modules=_read(package / "report" / "modules.json") or [],
        check=_read(package / "report" / "check.json"),
        tests=_read(package / "report" / "tests.json"),
        simulator=_read(package / "report" / "simulator.json"),
    )


def _needed(package: Path, name: str) -> dict[str, Any]:
    found = _read(package / "report" / name)
    if not isinstance(found, dict):
        raise UserError(f"{package} holds no report of fx2ttnn (no report/{name}): compile a model first")
    return found


def _read(file: Path) -> Any:
    """None where there is no such file."""
    try:
        return json.loads(file.read_text())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {file}: {error}") from error
