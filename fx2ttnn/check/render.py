"""A check for the terminal."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from fx2ttnn.check.result import CheckResult, Finding, Totals

KIB = 1024


def render(result: CheckResult) -> RenderableType:
    """Modules, then findings, then totals."""
    parts: list[RenderableType] = [_modules(result)]
    parts += [_finding(finding, paths) for finding, paths in result.distinct_findings.items()]
    parts += [_finding(warning, ()) for warning in result.warnings]
    return Group(*parts, _totals(result), Text(result.statement, style="green" if result.ok else "bold red"))


def _modules(result: CheckResult) -> Table:
    table = Table(
        title=f"{result.model} on {result.target}: modules under ttnn, one chip's share", title_justify="left"
    )
    table.add_column("class")
    table.add_column("path")
    table.add_column("step")
    for column in ("count", "device ops", "collectives", "peak L1 KiB"):
        table.add_column(column, justify="right")
    table.add_column("status")
    for module in result.modules:
        table.add_row(
            Text(module.class_name),
            Text(module.path or "(the model)"),
            module.label,
            str(module.count),
            "–" if module.device_ops is None else str(len(module.device_ops)),
            "–" if module.collectives is None else str(module.collectives),
            "–" if module.peak_l1_bytes is None else f"{module.peak_l1_bytes / KIB:.0f}",
            Text(module.status, style="red" if module.findings else "green"),
        )
    return table


def _finding(finding: Finding, paths: tuple[str, ...]) -> Text:
    text = Text()
    place = finding.file or ""
    text.append(f"{finding.kind} ", style="bold red")
    text.append(f"{place}:{finding.line}" if finding.line else place, style="bold")
    for label, value in (("", finding.call), ("rule ", finding.rule), ("in ", ", ".join(paths))):
        if value:
            text.append(f"  {label}{value}", style="cyan")
    for line in finding.message.splitlines():
        text.append(f"\n    {line}")
    return text


def _totals(result: CheckResult) -> Text:
    lines = [
        f"{layer.count} x {layer.class_name}, {_step_name(layer.method, layer.tokens)}: {_ops(layer.totals)}"
        for layer in result.layers
    ]
    if result.step is not None:
        lines.append(f"whole decode step: {_ops(result.step)}")
    lines += [f"whole chunk of {tokens} tokens: {_ops(totals)}" for tokens, totals in result.prefill.items()]
    peaks = [m.peak_l1_bytes for m in result.modules if m.peak_l1_bytes is not None]
    if peaks:
        lines.append(f"peak L1: {max(peaks) / KIB:.0f} KiB of {result.l1_usable_bytes / KIB:.0f} KiB usable on a core")
    if result.l1_small_used_bytes:
        lines.append(
            f"semaphores of collectives: {result.l1_small_used_bytes} of {result.l1_small_bytes} bytes kept on a core"
        )
    if result.dram is not None:
        weights, cache = (f"{size / 1e9:.2f} GB" for size in (result.dram.weights_bytes, result.dram.cache_bytes))
        lines.append(
            f"DRAM on a chip: weights {weights}, KV cache {cache} of {result.dram_bytes / 1e9:.2f} GB"
            f" (batch {result.batch}, {result.max_seq_len} tokens); a cache of {result.fitting_tokens} tokens each would fit"
        )
    return Text("\n".join(lines))


def _ops(totals: Totals) -> str:
    return f"{totals.device_ops} device ops, {totals.collectives} of them collectives"


def _step_name(method: str, tokens: int) -> str:
    return "decode" if method == "decode_forward" else f"prefill of {tokens} tokens"
