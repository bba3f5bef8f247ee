"""report/index.html: one file that needs nothing from outside; every string of a model or config is escaped by the template."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from fx2ttnn.cost.calibration import grouped, spread
from fx2ttnn.errors import UserError
from fx2ttnn.report import text
from fx2ttnn.report.cases import Case, cases
from fx2ttnn.report.ceilings import ceilings
from fx2ttnn.report.costs import REST, SHARES, added, below_bound, by_op, shares, step
from fx2ttnn.report.data import Report
from fx2ttnn.report.diff import diff
from fx2ttnn.report.kinds import KINDS
from fx2ttnn.report.picture import picture
from fx2ttnn.report.roofline_plot import roofline_plot
from fx2ttnn.report.table import part_rows
from fx2ttnn.report.verified import counted, verifications
from fx2ttnn.shipped import shipped

TEMPLATES = Path(__file__).parent / "templates"


def write_page(report: Report, against: Report | None = None) -> Path:
    """Write the page into the package; the same report gives the same bytes."""
    path = report.package / "report" / "index.html"
    html = page(report, against)
    try:
        path.write_text(html, encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error
    return path


def page(report: Report, against: Report | None = None) -> str:
    """The page as text, with the differences to `against` if given."""
    shipped(TEMPLATES, "*.j2")
    script = (TEMPLATES / "script.js").read_text()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    found = cases(report.package)
    return (
        _environment()
        .get_template("index.html.j2")
        .render(
            title=report.title,
            report=report,
            graph=report.graph,
            coverage=report.coverage,
            check=report.check,
            verifications=verifications(report),
            counted=counted(report),
            modes={name: _mode(report, name, found) for name in report.graph["modes"]},
            figures=_figures(report),
            calibration=_calibration(),
            kinds=KINDS,
            shares=SHARES,
            diff=diff(against, report) if against else None,
            style=Markup((TEMPLATES / "style.css").read_text()),
            script=Markup(script),
            script_digest=digest,
        )
    )


def _environment() -> jinja2.Environment:
    """Escapes everything but our own style and script."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        undefined=jinja2.StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "seconds": text.seconds,
        "size": text.size,
        "gigabytes": text.gigabytes,
        "number": text.number,
        "shape": text.shape,
        "scaled": text.scaled,
    }
    environment.globals["plural"] = text.plural
    return environment


def _mode(report: Report, name: str, found: Mapping[str, tuple[Case, ...]]) -> dict[str, Any]:
    """What the page shows of one mode."""
    mode = report.graph["modes"][name]
    profiled = report.profile["modes"][name] if mode["planned"] else None
    taken = step(mode)
    parts = []
    for index, part in enumerate(mode["parts"]):
        prefix = f"{name}-{index}"
        parts.append(
            {
                "id": prefix,
                "name": part["name"],
                "count": part["count"],
                "seconds": part["seconds"],
                "shares": added(shares(node) for node in part["nodes"]),
                "picture": picture(part, prefix),
                "rows": part_rows(report, name, part, found),
            }
        )
    return {
        "data": mode,
        "parts": parts,
        "taken": taken,
        "bound_by": _bound_by(taken.bound_by),
        "by_op": by_op(mode),
        "totals": profiled["totals"] if profiled else {},
        "bounds": profiled["predicted"]["lower_bounds"] if profiled else [],
        "below": below_bound(mode),
        "ceilings": [ceilings(report, part) for part in mode["parts"] if part["layer"] and name == "decode"],
        "waterfalls": [_waterfall(part, mode["gap_us"]) for part in mode["parts"] if part["layer"]],
        "calls": sum(p["count"] for p in mode["parts"] for n in p["nodes"] for c in n["calls"]),
        "plot": roofline_plot(mode, report.profile),
    }


def _waterfall(part: Mapping[str, Any], gap: float) -> dict[str, Any]:
    """The device operations of a layer one after another, each with the gap before it."""
    ops: list[dict[str, Any]] = []
    for node in part["nodes"]:
        for op in (op for call in node["calls"] for op in call["device_ops"]):
            us = op["us"] + gap
            so_far = us + (ops[-1]["so_far"] if ops else 0.0)
            ops.append({**op, "us": us, "so_far": so_far, "module": node["module"]})
    return {"name": part["name"], "count": part["count"], "ops": ops}


def _calibration() -> list[dict[str, Any]]:
    """How far the formulas are from what was published, by kind of figure."""
    found = []
    for (group, held_out), ones in grouped().items():
        mean, rms = spread(ones)
        found.append({"group": group, "held_out": held_out, "count": len(ones), "mean": 100 * mean, "rms": 100 * rms})
    return found


def _bound_by(name: str) -> str:
    words = {
        "DRAM": "reading weights and cache from DRAM",
        "compute": "the matrix engine",
        "links": "the links between chips",
        REST: "start-up of ops, latency of collectives and padding",
    }
    return words.get(name, name)


def _figures(report: Report) -> list[Mapping[str, Any]]:
    """Every figure that a prediction or the plot rests on, once."""
    found: dict[str, Mapping[str, Any]] = {}
    for mode in report.profile["modes"].values():
        predicted = mode["predicted"]
        for bound in (predicted["step"] or {"rests_on": []}, *predicted["lower_bounds"]):
            found |= {figure["name"]: figure for figure in bound["rests_on"]}
    return [*found.values(), *(f for f in report.profile["machine"] if f["name"] not in found)]
