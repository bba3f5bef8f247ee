"""From a package to what ttnn says of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fx2ttnn.check import process
from fx2ttnn.check.package import Package, checkpoint_shapes, read_package
from fx2ttnn.check.result import CheckResult, Dram, Finding, LayerTotals, ModuleReport, Totals

PREFILL = "prefill_forward"  # with a word before it where short chunks have a method of their own
TIMEOUT = 120.0  # seconds for one module; a decoder layer of 30 operations takes less than one


def check(package: Path, timeout: float = TIMEOUT) -> CheckResult:
    """Run every module of an emitted package under ttnn on a mock of its target; `timeout` in seconds for each.

    Raises UserError where `package` is no package.
    """
    read = read_package(Path(package))
    outcome = process.run(read, checkpoint_shapes(read), timeout)
    modules = tuple(_report(read, number, outcome) for number in range(len(read.modules)))
    behind = outcome.layers[outcome.prefix :]
    decode = [m for m in modules if m.method == "decode_forward"]
    chunks = {n: [m for m in modules if m.method.endswith(PREFILL) and m.tokens == n] for n in _lengths(modules)}
    prefill = {n: totals for n, found in chunks.items() if (totals := _step(found, behind)) is not None}
    dram = _dram(decode, behind)
    return CheckResult(
        model=read.model,
        target=read.target.name,
        batch=read.batch,
        max_seq_len=read.max_seq_len,
        l1_usable_bytes=_usable(read),
        dram_bytes=read.target.dram_bytes,
        modules=modules,
        layers=tuple(t for found in (decode, *chunks.values()) for t in _layers(found, outcome.layers)),
        step=_step(decode, behind),
        prefill=prefill,
        dram=dram,
        findings=(*(Finding(**f) for f in outcome.findings), *_too_much_dram(read, dram)),
        warnings=tuple(Finding(**f) for f in outcome.warnings),
        l1_small_bytes=_l1_small(read),
        l1_small_used_bytes=outcome.semaphores,
    )


def _l1_small(package: Package) -> int:
    """Bytes of a core's L1 that mesh.py opens the mesh with for semaphores: none where one chip has no collectives."""
    return package.target.l1_small_bytes if package.target.chips > 1 else 0


def _usable(package: Package) -> int:
    return package.target.l1_usable_bytes - _l1_small(package)


def _lengths(modules: Sequence[ModuleReport]) -> list[int]:
    return sorted({m.tokens for m in modules if m.method.endswith(PREFILL)})


def _report(package: Package, number: int, outcome: process.Outcome) -> ModuleReport:
    entry = package.modules[number]
    found: dict[str, Any] = dict(outcome.reports.get(number, {}))
    findings = [Finding(**f) for f in found.pop("findings", [])]
    if number not in outcome.reports:
        findings.append(Finding("error", "not run: the mesh could not be opened"))
    peak = found.get("peak_l1_bytes")
    if peak is not None and peak > _usable(package):
        message = f"needs {peak} bytes of L1 on a core, of which {_usable(package)} are usable"
        findings.append(Finding("memory", message, f"{entry['file']}.py"))
    ops = found.pop("device_ops", None)
    return ModuleReport(
        path=entry["path"],
        file=f"{entry['file']}.py",
        class_name=entry["class"],
        method=entry["method"],
        tokens=entry["tokens"],
        count=entry["count"],
        is_layer=entry["class"] in outcome.layers,
        device_ops=None if ops is None else tuple(ops),
        findings=tuple(findings),
        **found,
    )


def _layers(modules: Sequence[ModuleReport], layers: Sequence[str]) -> list[LayerTotals]:
    by_class = {m.class_name: m for m in modules}
    found = []
    for name in dict.fromkeys(layers):
        module = by_class.get(name)
        if module is not None and module.device_ops is not None:
            totals = Totals(len(module.device_ops), module.collectives or 0)
            found.append(LayerTotals(name, module.method, module.tokens, layers.count(name), totals))
    return found


def _step(modules: Sequence[ModuleReport], behind: Sequence[str]) -> Totals | None:
    """The whole step: the model that was run has only the first layers; of those `behind` it each adds what one of its class does."""
    parts = _parts(modules, behind)
    if any(m is None or m.device_ops is None for m in parts):
        return None
    ops = [op for m in parts if m and m.device_ops for op in m.device_ops]
    return Totals(len(ops), sum((m.collectives or 0) for m in parts if m))


def _dram(modules: Sequence[ModuleReport], behind: Sequence[str]) -> Dram | None:
    """Likewise the memory: the model that was run, and for each further layer one of its class."""
    sizes = [(m.weights_bytes, m.cache_bytes) if m else (None, None) for m in _parts(modules, behind)]
    if any(weights is None or cache is None for weights, cache in sizes):
        return None
    return Dram(sum(weights or 0 for weights, _ in sizes), sum(cache or 0 for _, cache in sizes))


def _parts(modules: Sequence[ModuleReport], behind: Sequence[str]) -> list[ModuleReport | None]:
    """What makes up the whole model: the one that was run, and a module for each layer that it lacked."""
    by_class = {m.class_name: m for m in modules}
    model = next(m for m in modules if m.path == "")
    return [model, *(by_class.get(name) for name in behind)]


def _too_much_dram(package: Package, dram: Dram | None) -> list[Finding]:
    limit = package.target.dram_bytes
    if dram is None or dram.total_bytes <= limit:
        return []
    parts = f"weights {dram.weights_bytes}, KV cache {dram.cache_bytes}"
    return [Finding("memory", f"needs {dram.total_bytes} bytes of DRAM on a chip ({parts}), which has {limit}")]
