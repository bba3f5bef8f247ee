"""The device operations of a report's step, priced for any number of users and tokens: what graph.json holds of them, and the figures of its target."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

from fx2ttnn import targets
from fx2ttnn.cost.calls import CacheRead, Load
from fx2ttnn.cost.kernels import LINKS, Kernels
from fx2ttnn.errors import UserError
from fx2ttnn.report.data import Report


@dataclass(frozen=True)
class StepOp:
    """A device operation of a part of graph.json: its node and call, its microseconds by what takes them, and those before it."""

    name: str
    node: Mapping[str, Any]
    call: Mapping[str, Any]
    parts: Mapping[str, float]
    gap: float
    measured: bool
    reads_cache: bool

    @property
    def kernel_us(self) -> float:
        return sum(self.parts.values())

    @property
    def us(self) -> float:
        """With the gap before it."""
        return self.gap + self.kernel_us

    @property
    def collective(self) -> bool:
        """Whether it sends to other chips."""
        return LINKS in self.parts

    @property
    def streams_weights(self) -> bool:
        """Whether it is a matmul with a weight of the model."""
        return self.name.startswith("Matmul") and any(t["parameters"] for t in self.call["inputs"])

    @property
    def shape(self) -> tuple[int, ...]:
        """On a chip: [rows, columns in, columns out] of a matmul, else what the call reads first, as the plan has it."""
        if self.name.startswith("Matmul"):
            *rows, deep = self.call["inputs"][0]["shape"]
            return (prod(rows), deep, self.call["outputs"][0]["shape"][-1])
        inputs = self.node["inputs"] or self.node["outputs"]
        return tuple(inputs[0].get("local", inputs[0]["shape"]))

    @property
    def dtype(self) -> str:
        """Of a matmul's weight, else of what the call reads first."""
        inputs = self.call["inputs"]
        return inputs[min(len(inputs) - 1, self.name.startswith("Matmul"))]["dtype"] if inputs else ""


class StepOps:
    """Prices the device operations of one report under `load`; UserError where a step has no room for it."""

    def __init__(self, report: Report, load: Load):
        decode = report.graph["modes"]["decode"]
        for what, asked, room in (
            ("users", load.users, decode["users"]),
            ("tokens of each", load.context, decode["max_seq_len"]),
        ):
            if asked > room:
                raise UserError(f"{report.package} has room for {room} {what}, not for {asked}: compile it for more")
        self.report, self.load = report, load
        self.kernels = Kernels(targets.load(report.graph["target"]))

    def of_part(self, part: Mapping[str, Any], gap: float) -> Iterator[StepOp]:
        """In order, of one run of the part."""
        nodes = {node["id"]: node for node in part["nodes"]}
        for node in part["nodes"]:
            for call in node["calls"]:
                first = next((nodes[member] for member in call["members"] if member in nodes), node)
                for op in call["device_ops"]:
                    parts = op["parts"]
                    if op["cache"]:
                        parts = CacheRead(**op["cache"]).kernel(self.kernels, self.load).parts
                    yield StepOp(op["name"], first, call, parts, gap, op["measured"], bool(op["cache"]))

    def of_step(self) -> Iterator[tuple[Mapping[str, Any], int | None, StepOp]]:
        """Of a whole decode step and of sampling: the part, which of the model's layers it stands for there, and the operation."""
        decode = self.report.graph["modes"]["decode"]
        layers: dict[str, list[Mapping[str, Any]]] = {}
        for part in decode["parts"]:
            layers.setdefault(part["name"], []).append(part)
        order: list[tuple[Mapping[str, Any], int | None]] = []
        for part in decode["parts"]:
            if not part["layer"]:
                order.append((part, None))
            elif part is layers[decode["order"][0]][0]:  # all layers, where the first of them begins
                order += [(one, number) for number, name in enumerate(decode["order"]) for one in layers[name]]
        for mode in self.report.graph["modes"].values():
            found = order if mode is decode else [] if mode["planned"] else [(part, None) for part in mode["parts"]]
            for part, number in found:
                yield from ((part, number, op) for op in self.of_part(part, mode["gap_us"]))
