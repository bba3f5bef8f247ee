"""What the predicted time of an operation consists of: the busiest resource, and what no resource explains.

The rest is what the cost model adds to bytes over bandwidth and FLOPs over rate: starting ops, the latency of collectives, padding.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

REST = "start-up, latency, padding"
SHARES = ("DRAM", "compute", "links", REST)


@dataclass(frozen=True)
class Shares:
    """Predicted seconds by what takes them, in the order of `SHARES`."""

    by_name: Mapping[str, float]

    @property
    def seconds(self) -> float:
        return sum(self.by_name.values())

    @property
    def bound_by(self) -> str:
        """What takes most of the time."""
        return max(SHARES, key=lambda name: self.by_name[name]) if self.seconds else "nothing"

    def percent(self, name: str) -> float:
        return 100 * self.by_name[name] / self.seconds if self.seconds else 0.0


def shares(node: Mapping[str, Any], runs: int = 1) -> Shares:
    """Of a node of graph.json, for `runs` of it."""
    taken = node["taken"]
    return Shares({name: runs * taken["rest" if name == REST else name] for name in SHARES})


def added(parts: Iterable[Shares]) -> Shares:
    """Several operations, one after another."""
    found = dict.fromkeys(SHARES, 0.0)
    for part in parts:
        for name, value in part.by_name.items():
            found[name] += value
    return Shares(found)


def step(mode: Mapping[str, Any]) -> Shares:
    """Of a whole step: a mode of graph.json."""
    return added(shares(node, part["count"]) for part in mode["parts"] for node in part["nodes"])


def by_op(mode: Mapping[str, Any]) -> dict[str, Shares]:
    """Of a whole step by operation, the longest first."""
    found: dict[str, list[Shares]] = {}
    for part in mode["parts"]:
        for node in part["nodes"]:
            found.setdefault(node["op"], []).append(shares(node, part["count"]))
    sums = {name: added(parts) for name, parts in found.items()}
    return dict(sorted(sums.items(), key=lambda item: (-item[1].seconds, item[0])))


def below_bound(mode: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Nodes whose predicted time is less than their bytes or FLOPs take at least: the cost model leaves something out.

    What is joined with a later operation has no calls of its own.
    """
    nodes = (node for part in mode["parts"] for node in part["nodes"] if node["calls"])
    return [node for node in nodes if node["seconds"] < 0.99 * max(node["bound"].values())]
