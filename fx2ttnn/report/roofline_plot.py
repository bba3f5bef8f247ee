"""The roofline plot of a step: what each operation is predicted to reach on a chip, under what the chip could do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import ceil, floor, log10
from typing import Any

from fx2ttnn.report.text import cut, scaled, seconds

WIDTH, HEIGHT = 800, 430
LEFT, RIGHT, TOP, BOTTOM = 88, 236, 16, 48
LABEL_HEIGHT = 15
LABELS = 14
_RATES = ("flops_lofi", "flops_hifi2", "flops_hifi3", "flops_hifi4")


@dataclass(frozen=True)
class Point:
    """Operations that are alike, on one chip. `reached` FLOP/s in the predicted time, `roof` at most."""

    name: str
    kind: str
    runs: int
    flops: float
    dram_bytes: float
    seconds: float

    @property
    def intensity(self) -> float:
        return self.flops / self.dram_bytes

    @property
    def reached(self) -> float:
        return self.flops / self.seconds


class _Scale:
    """Logarithmic axes."""

    def __init__(self, x: tuple[int, int], y: tuple[int, int]):
        self.decades_x, self.decades_y = x, y

    def x(self, value: float) -> float:
        low, high = self.decades_x
        return LEFT + (log10(value) - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        low, high = self.decades_y
        return HEIGHT - BOTTOM - (log10(value) - low) / (high - low) * (HEIGHT - TOP - BOTTOM)


def roofline_plot(mode: Mapping[str, Any], profiled: Mapping[str, Any]) -> dict[str, Any] | None:
    """Everything the template draws; None where no operation computes on what it reads from DRAM. `profiled` is profile.json."""
    points = _points(mode)
    if not points:
        return None
    machine = {figure["name"]: figure["value"] for figure in profiled["machine"]}
    bandwidth, rate = machine["dram_bandwidth_measured"], machine[profiled["matmul_rate"]]
    ridge = rate / bandwidth
    lowest = min(p.reached for p in points)
    x = (
        floor(log10(min(*(p.intensity for p in points), 1.0))),
        ceil(log10(max(*(p.intensity for p in points), 3 * ridge))),
    )
    scale = _Scale(x, (floor(log10(lowest)), ceil(log10(machine["flops_lofi"]))))
    return {
        "width": WIDTH,
        "height": HEIGHT,
        "frame": {"left": LEFT, "right": WIDTH - RIGHT, "top": TOP, "bottom": HEIGHT - BOTTOM},
        "x_ticks": [{"at": _px(scale.x(10.0**n)), "text": f"{10.0**n:g}"} for n in range(x[0], x[1] + 1)],
        "y_ticks": [
            {"at": _px(scale.y(10.0**n)), "text": scaled(10.0**n, "FLOP/s")}
            for n in range(scale.decades_y[0], scale.decades_y[1] + 1)
        ],
        "roofs": _roofs(machine, profiled["matmul_rate"], scale),
        "points": _drawn(points, mode["step_seconds"], bandwidth, rate, scale),
        "left_out": _left_out(mode),
    }


def _points(mode: Mapping[str, Any]) -> list[Point]:
    """One for all operations that have the same name, work and time; the longest in a step first."""
    found: dict[tuple, Point] = {}
    for part in mode["parts"]:
        for node in part["nodes"]:
            if node["flops"] and node["dram_bytes"] and node["seconds"]:
                leaf = node["module"].rsplit(".", 1)[-1]
                key = (node["op"], node["flops"], node["dram_bytes"], node["seconds"])
                before = found.get(key)
                name = f"{node['op']} {leaf}" if before is None else f"{before.name}, {leaf}"
                runs = part["count"] + (before.runs if before else 0)
                found[key] = Point(name, node["kind"], runs, node["flops"], node["dram_bytes"], node["seconds"])
    return sorted(found.values(), key=lambda p: (-p.runs * p.seconds, p.name))


def _roofs(machine: Mapping[str, float], used: str, scale: _Scale) -> list[dict[str, Any]]:
    """Bandwidths rise, rates are level; those that the predictions use are drawn solid."""
    best = max(machine[name] for name in _RATES)
    low_x, high_x = (10.0**n for n in scale.decades_x)
    low_y = 10.0 ** scale.decades_y[0]
    roofs = []
    for name, words in (("dram_bandwidth_measured", "DRAM as measured"), ("dram_bandwidth", "DRAM, data sheet")):
        start = max(low_x, low_y / machine[name])
        end = best / machine[name]
        roofs.append(
            {
                "x1": _px(scale.x(start)),
                "y1": _px(scale.y(start * machine[name])),
                "x2": _px(scale.x(end)),
                "y2": _px(scale.y(best)),
                "text": f"{words}, {scaled(machine[name], 'B/s')}",
                "used": name == "dram_bandwidth_measured",
                "level": False,
            }
        )
    for name in _RATES:
        roofs.append(
            {
                "x1": _px(scale.x(machine[name] / machine["dram_bandwidth"])),
                "y1": _px(scale.y(machine[name])),
                "x2": _px(scale.x(high_x)),
                "y2": _px(scale.y(machine[name])),
                "text": f"{name.removeprefix('flops_')}, {scaled(machine[name], 'FLOP/s')}",
                "used": name == used,
                "level": True,
            }
        )
    return roofs


def _drawn(points: list[Point], step: float, bandwidth: float, rate: float, scale: _Scale) -> list[dict[str, Any]]:
    """Circles by share of the step, a line up to the roof, and labels beside the plot that keep clear of each other."""
    drawn = []
    for number, p in enumerate(points):
        share = p.runs * p.seconds / step if step else 0.0
        roof = min(p.intensity * bandwidth, rate)
        drawn.append(
            {
                "x": _px(scale.x(p.intensity)),
                "y": _px(scale.y(min(p.reached, roof))),
                "roof": _px(scale.y(roof)),
                "radius": _px(3 + 14 * share**0.5),
                "kind": p.kind,
                "label": cut(p.name, 36) if number < LABELS else "",
                "title": (
                    f"{p.name}, {p.runs} runs: {p.intensity:.3g} FLOP for each byte of DRAM, predicted"
                    f" {scaled(p.reached, 'FLOP/s')} of at most {scaled(roof, 'FLOP/s')} on a chip"
                    f"{' (more than there is: the predicted time is too low)' if p.reached > roof else ''},"
                    f" {seconds(p.seconds)} a run, {100 * share:.1f} % of the step"
                ),
            }
        )
    labelled = sorted((d for d in drawn if d["label"]), key=lambda d: float(d["y"]))
    for d, y in zip(labelled, _apart([float(d["y"]) for d in labelled]), strict=True):
        d["label_y"] = _px(y)
    return drawn


def _apart(wanted: Iterable[float]) -> list[float]:
    """Heights near the wanted ones, in order, a line apart, within the plot."""
    found: list[float] = []
    for y in wanted:
        found.append(max(y, found[-1] + LABEL_HEIGHT) if found else max(y, TOP + LABEL_HEIGHT / 2))
    limit = HEIGHT - BOTTOM - LABEL_HEIGHT / 2
    for index in range(len(found) - 1, -1, -1):
        found[index] = min(found[index], limit)
        limit = found[index] - LABEL_HEIGHT
    return found


def _left_out(mode: Mapping[str, Any]) -> int:
    """Operations that the plot cannot show: they compute nothing, or read nothing from DRAM."""
    return sum(not (n["flops"] and n["dram_bytes"] and n["seconds"]) for p in mode["parts"] for n in p["nodes"])


def _px(value: float) -> str:
    return f"{value:.1f}"
