"""What part of a decoder layer each planned operation does, from how values flow between matmuls and attention; no name of a model or module is asked."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

from fx2ttnn.ops.table import COLLECTIVE, MATMUL, NORM

# In the order in which a layer does them.
PARTS = (
    "gather before attention",
    "norm before attention",
    "query, key, value",
    "sum of query, key, value",
    "heads",
    "norm of heads",
    "rotary",
    "cache",
    "attention",
    "heads together",
    "output",
    "sum of output",
    "norm behind attention",
    "residual behind attention",
    "gather before MLP",
    "norm before MLP",
    "routing",
    "gate and up",
    "sum of gate and up",
    "product",
    "gather of product",
    "down",
    "sum of down",
    "norm behind MLP",
    "residual behind MLP",
    "other",
)


def parts_of(part: Mapping[str, Any]) -> dict[str, str]:
    """One of `PARTS` for each node of a layer of graph.json, by its id. A layer without attention has but the parts of an MLP."""
    flow = _Flow(part["nodes"])
    return {key: flow.part(key) for key in flow.nodes}


class _Flow:
    """The nodes of a layer by id, and which of them come before which."""

    def __init__(self, nodes: list[Mapping[str, Any]]):
        self.nodes = {node["id"]: node for node in nodes}
        made_by = {value["value"]: node["id"] for node in nodes for value in node["outputs"]}
        self.reads = {n["id"]: {made_by[v["value"]] for v in n["inputs"] if v["value"] in made_by} for n in nodes}
        self.above: dict[str, set[str]] = {}  # all that a node depends on; nodes stand in order
        for key, reads in self.reads.items():
            self.above[key] = reads.union(*(self.above[read] for read in reads))

    def _kind(self, key: str) -> str:
        return self.nodes[key]["kind"]

    @cached_property
    def attention(self) -> str:
        return next((key for key, node in self.nodes.items() if node["op"] == "attention"), "")

    @cached_property
    def matmuls(self) -> dict[str, set[str]]:
        """Before attention, first behind it, of the others those that read none of the others, and those that do."""
        every = {key for key in self.nodes if self._kind(key) == MATMUL}
        behind = {key for key in every if self.attention in self.above[key]}
        # The projection of the heads: none stands between it and attention, and attention is all that it waits for.
        first = {key for key in behind if not behind & self.above[key] and self._only_attention(key)}
        # What the heads' projection reads besides attention, such as a gate of the heads, is projected beside the queries.
        before = every & self.above.get(self.attention, set()).union(*(self.above[key] for key in first)) - first
        rest = every - before - first
        deep = {key for key in rest if rest & self.above[key]}
        return {"query, key, value": before, "output": first, "gate and up": rest - deep, "down": deep}

    def _only_attention(self, key: str) -> bool:
        """Whether a node behind attention joins its result with nothing that came another way."""
        between = {k for k in self.above[key] if self.attention in self.above[k]}
        return all(self.nodes[k]["op"] != "add" for k in between)

    def _behind(self, key: str, name: str) -> bool:
        return bool(self.matmuls[name] & self.above[key])

    def _before(self, key: str, name: str) -> bool:
        return any(key in self.above[matmul] for matmul in self.matmuls[name])

    def _sum_of(self, key: str) -> str:
        """The matmul whose result a collective takes, itself or from other collectives."""
        if self._kind(key) != COLLECTIVE:
            return ""
        for read in self.reads[key]:
            for name, found in self.matmuls.items():
                if read in found:
                    return name
            if name := self._sum_of(read):
                return name
        return ""

    def part(self, key: str) -> str:
        """One of `PARTS`."""
        for name, found in self.matmuls.items():
            if key in found:
                return name
        if name := self._sum_of(key):
            return f"sum of {name}"
        if key == self.attention:
            return "attention"
        if key in self.above.get(self.attention, set()):
            return self._before_attention(key)
        if self.attention in self.above[key] and self._before(key, "output"):
            return "heads together"
        return self._rest(key)

    def _before_attention(self, key: str) -> str:
        kind, op = self._kind(key), self.nodes[key]["op"]
        if self._before(key, "query, key, value"):
            return {NORM: "norm before attention", COLLECTIVE: "gather before attention"}.get(kind, "other")
        named = {"rotary": "rotary", "update_cache": "cache"}
        return "norm of heads" if kind == NORM else named.get(op, "heads")

    def _rest(self, key: str) -> str:
        kind, adds = self._kind(key), self.nodes[key]["op"] == "add"
        if self._before(key, "down") and self._behind(key, "gate and up"):
            return "gather of product" if kind == COLLECTIVE else "product"
        if self._before(key, "gate and up"):
            return self._before_mlp(key)
        if self._before(key, "down"):
            return "routing"
        where = "MLP" if self._behind(key, "gate and up") else "attention"
        return f"norm behind {where}" if kind == NORM else f"residual behind {where}" if adds else "other"

    def _before_mlp(self, key: str) -> str:
        kind, adds = self._kind(key), self.nodes[key]["op"] == "add"
        if adds and self._behind(key, "output"):
            return "residual behind attention"
        added = any(self.nodes[k]["op"] == "add" for k in self.above[key] if self._behind(k, "output"))
        if kind == NORM and self._behind(key, "output") and not added:
            return "norm behind attention"
        return {NORM: "norm before MLP", COLLECTIVE: "gather before MLP"}.get(kind, "other")
