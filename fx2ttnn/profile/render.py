"""A profile as tables for the terminal."""

from __future__ import annotations

from collections.abc import Callable

from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table

from fx2ttnn.profile import NOTE, Profile
from fx2ttnn.profile.census import Row
from fx2ttnn.profile.figures import Figure
from fx2ttnn.profile.roofline import EVEN, Roofline


def render(profile: Profile, rows: int = 20) -> tuple[RenderableType, ...]:
    """The tables of a profile, and what its predictions are; `rows` limits the census."""
    step = (_step(profile),) if profile.step else ()
    return (_totals(profile), _census(profile, rows), _rooflines(profile), *step, _rests_on(profile), NOTE)


def _totals(profile: Profile) -> Table:
    sizes = profile.totals
    title = f"{profile.model} on {profile.target}, {profile.precision}: batch {profile.batch}, max_seq_len {profile.max_seq_len}"
    table = Table(title=escape(title), show_header=False)
    lines = {
        "layers": str(sizes.layers),
        "parameters": f"{sizes.parameters / 1e9:.3f} billion",
        "parameters as bfloat16": _bytes(sizes.checkpoint_bytes),
        f"parameters at {profile.precision}": _spread(sizes.device_bytes, profile.chips),
        "KV cache per token": _bytes(sizes.cache_bytes_per_token),
        "KV cache, full": _spread(sizes.cache_bytes, profile.chips),
        "FLOPs per token, full cache": _flops(sizes.flops_per_token),
        "FLOPs per step": _flops(sizes.flops_per_step),
    }
    for name, text in lines.items():
        table.add_row(name, text)
    return table


def _census(profile: Profile, limit: int) -> Table:
    times = _times(profile)
    total = sum(times) or 1.0
    order = sorted(range(len(times)), key=lambda i: -times[i])[:limit]
    basis = "predicted time in a step" if profile.step else "least time in a step, spread evenly, measured bandwidth"
    shown = f"{len(order)} of {len(times)} distinct ops by {basis}, collectives not counted"
    table = Table(title="Op census", caption=f"{shown}; FLOPs and bytes are of one run over the whole mesh")
    table.add_column("op, module", overflow="fold")
    table.add_column("shapes", overflow="fold")
    for name in ("runs", "FLOPs", "bytes", "FLOP/B", "share"):
        table.add_column(name, justify="right", no_wrap=True)
    for index in order:
        table.add_row(*_census_cells(profile.census[index]), f"{times[index] / total:.1%}")
    return table


def _census_cells(row: Row) -> list[str]:
    more = f" and {len(row.modules) - 1} more" if len(row.modules) > 1 else ""
    shapes = [*map(_short, row.inputs), *(f"->{_short(spec)}" for spec in row.outputs)]
    text = [f"{row.op}\n{row.modules[0]}{more}", "\n".join(shapes)]
    return [
        *map(escape, text),
        str(row.count),
        _flops(row.work.flops),
        _bytes(row.work.bytes),
        f"{row.work.intensity:.1f}",
    ]


def _times(profile: Profile) -> list[float]:
    """Seconds of each census row in a step: predicted by the plan, or the least at measured bandwidth."""
    if profile.step:
        return [profile.step.of_row(row) for row in profile.census]
    even = next(r for r in profile.rooflines if r.split == EVEN and r.bandwidth == "measured")
    least = {op.value: op.count * op.seconds for op in even.ops}
    return [sum(least[value] for value in row.values) for row in profile.census]


def _rooflines(profile: Profile) -> Table:
    table = Table("", title="Roofline: predicted least step time, most tokens/s/user")
    for bound in profile.rooflines:
        table.add_column(f"{bound.split},\n{bound.bandwidth} DRAM", justify="right")
    lines: dict[str, Callable[[Roofline], str]] = {
        "DRAM": lambda bound: _time(bound.dram_seconds),
        "compute": lambda bound: _time(bound.compute_seconds),
        "links": lambda bound: _time(bound.link_seconds),
        "all overlaps": lambda bound: _time(bound.seconds),
        "no overlap": lambda bound: _time(bound.serial_seconds),
        "t/s/user": lambda bound: f"{bound.tokens_per_second_per_user:.1f}",
        "bound by": lambda bound: bound.bound_by,
    }
    for name, text in lines.items():
        table.add_row(name, *map(text, profile.rooflines))
    return table


def _step(profile: Profile) -> Table:
    step = profile.step
    assert step is not None
    speed = step.tokens_per_second_per_user
    title = f"Predicted step: {_time(step.seconds)},\n{speed:.1f} tokens/s/user, {speed * profile.batch:.0f} tokens/s"
    table = Table("op", title=title)
    table.add_column("predicted time", justify="right")
    table.add_column("share", justify="right")
    for name, seconds in step.by_op.items():
        table.add_row(escape(name), _time(seconds), f"{seconds / step.seconds:.1%}")
    return table


def _rests_on(profile: Profile) -> Table:
    table = Table("figure", "value", "source", title="The predictions rest on")
    found: dict[str, Figure] = {f.name: f for bound in profile.rooflines for f in bound.rests_on}
    found |= {f.name: f for f in profile.step.rests_on} if profile.step else {}
    for figure in found.values():
        table.add_row(figure.name, f"{figure.value:.4g}", escape(figure.source))
    return table


def _short(spec: str) -> str:
    return spec.removeprefix("float32").replace(" ", "")


def _time(seconds: float) -> str:
    return f"{seconds * 1e6:.1f} us" if seconds < 1e-3 else f"{seconds * 1e3:.2f} ms"


def _spread(size: float, chips: int) -> str:
    return f"{_bytes(size)}, {_bytes(size / chips)} a chip if spread evenly"


def _bytes(size: float) -> str:
    return _scaled(size, {"GB": 1e9, "MB": 1e6, "kB": 1e3, "B": 1})


def _flops(count: float) -> str:
    return _scaled(count, {"T": 1e12, "G": 1e9, "M": 1e6, "k": 1e3, "": 1})


def _scaled(value: float, units: dict[str, float]) -> str:
    """With the largest unit below the value: 34_000_000 -> `34.0 MB`."""
    if not value:
        return "-"
    unit = next((u for u, size in units.items() if value >= size), list(units)[-1])
    return f"{value / units[unit]:.3g} {unit}".rstrip()
