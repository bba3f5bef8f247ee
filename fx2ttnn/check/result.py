"""What a check found, as values."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fx2ttnn.check.device_ops import count_collectives

STATEMENT = "accepted by ttnn's host code on a mock {target}; not run on silicon"
NOT_ACCEPTED = {"refusal", "error", "crash", "timeout"}
MEANING = {
    "device_ops": "device operations in the order of execution, as ttnn's graph capture names them",
    "collectives": "those of the device operations that move data between chips (fx2ttnn/check/device_ops.py)",
    "peak_l1_bytes": (
        "bytes on the fullest core: tensors in L1 (the module's inputs included), circular buffers, dataflow buffers"
        " and scratchpads; peak_total of ttnn.graph.extract_resource_usage_per_core"
    ),
    "l1_small": "bytes of each core's L1 that the mesh is opened with for semaphores of collectives, and those that they take",
    "dram": "bytes of one chip: ttnn's allocator, bytes per bank times banks, so padding is included",
}


@dataclass(frozen=True)
class Finding:
    """Something that is not as it should be.

    `kind`: refusal (ttnn says no), error (the package's own Python fails), crash (the process died), timeout, mismatch (the
    output is not what was planned), memory (does not fit), measurement (accepted, but cannot be measured),
    warning (ttnn takes the call, and says what it thinks of it).
    `file` and `line` are the emitted line, `call` the ttnn call on it, `rule` the row of the rule table that made it.
    """

    kind: str
    message: str
    file: str | None = None
    line: int | None = None
    call: str | None = None
    rule: str | None = None


@dataclass(frozen=True)
class ModuleReport:
    """One method of a class of the package; None where it was not measured because the module was not accepted.

    Bytes: `peak_l1_bytes` on the fullest core, `weights_bytes` and `cache_bytes` in DRAM on one chip, for one instance.
    """

    path: str
    file: str
    class_name: str
    method: str
    tokens: int
    count: int
    is_layer: bool
    device_ops: tuple[str, ...] | None = None
    peak_l1_bytes: int | None = None
    weights_bytes: int | None = None
    cache_bytes: int | None = None
    findings: tuple[Finding, ...] = ()

    @property
    def label(self) -> str:
        """`decode`, or `prefill` with the length of the chunk."""
        mode = self.method.removesuffix("_forward")
        return mode if mode == "decode" else f"{mode} {self.tokens}"

    @property
    def collectives(self) -> int | None:
        return None if self.device_ops is None else count_collectives(self.device_ops)

    @property
    def status(self) -> str:
        """`accepted`, or the kinds of what was found."""
        return ", ".join(dict.fromkeys(f.kind for f in self.findings)) or "accepted"


@dataclass(frozen=True)
class Totals:
    """Device operations, and how many of them are collectives."""

    device_ops: int
    collectives: int


@dataclass(frozen=True)
class LayerTotals:
    """One decoder layer of a class that the model has `count` times, for a step of `tokens` of each user."""

    class_name: str
    method: str
    tokens: int
    count: int
    totals: Totals


@dataclass(frozen=True)
class Dram:
    """Bytes on one chip, over all layers, at the package's batch and max_seq_len."""

    weights_bytes: int
    cache_bytes: int

    @property
    def total_bytes(self) -> int:
        return self.weights_bytes + self.cache_bytes


@dataclass(frozen=True)
class CheckResult:
    """All modules of a package. `layers`, `step` and `dram` lack what could not be measured because of a refusal.

    `step` is a whole decode step, `prefill` a whole chunk by its number of tokens. `l1_usable_bytes` is without `l1_small_bytes`.
    """

    model: str
    target: str
    batch: int
    max_seq_len: int
    l1_usable_bytes: int
    dram_bytes: int
    modules: tuple[ModuleReport, ...]
    layers: tuple[LayerTotals, ...]
    step: Totals | None
    prefill: dict[int, Totals]
    dram: Dram | None
    findings: tuple[Finding, ...] = ()
    warnings: tuple[Finding, ...] = ()
    l1_small_bytes: int = 0
    l1_small_used_bytes: int | None = None

    @property
    def ok(self) -> bool:
        return not self.findings and not any(m.findings for m in self.modules)

    @property
    def statement(self) -> str:
        """What this check is worth, in words."""
        words = STATEMENT.format(target=self.target)
        if self.ok:
            return words
        found = {f.kind for f in self.distinct_findings}
        return f"not {words}" if found & NOT_ACCEPTED else f"{words}; but not as planned"

    @property
    def fitting_tokens(self) -> int | None:
        """Tokens that the cache could hold for each user of the batch, in whole pages, with the weights beside it."""
        if self.dram is None or not self.dram.cache_bytes:
            return None
        return int((self.dram_bytes - self.dram.weights_bytes) / self.dram.cache_bytes * self.max_seq_len) // 64 * 64

    @property
    def distinct_findings(self) -> dict[Finding, tuple[str, ...]]:
        """Each finding once, with the modules it was met in: a parent meets the findings of its children again."""
        found: dict[Finding, list[str]] = {f: [] for f in self.findings}
        for module in self.modules:
            for finding in module.findings:
                found.setdefault(finding, []).append(f"{module.path or module.class_name} ({module.label})")
        return {finding: tuple(paths) for finding, paths in found.items()}

    def to_json(self) -> dict[str, Any]:
        """Plain data; the same package gives the same data."""
        data = asdict(self)
        for report, module in zip(data["modules"], self.modules, strict=True):
            report |= {"collectives": module.collectives, "status": module.status}
        data["fitting_tokens"] = self.fitting_tokens
        if self.dram is not None:
            data["dram"]["total_bytes"] = self.dram.total_bytes
        return {"ok": self.ok, "statement": self.statement, "meaning": MEANING, **data}

    def write(self, path: Path) -> None:
        """Write `to_json` to a file."""
        path.write_text(json.dumps(self.to_json(), indent=1) + "\n")
