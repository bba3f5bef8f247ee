"""The recognised graph as a networkx graph: one layer of each structure spelled out."""

from __future__ import annotations

from typing import Any

import networkx as nx

from fx2ttnn.ir import Capture, Op
from fx2ttnn.plan.segments import layer_counts, without_folded
from fx2ttnn.precision import Precision
from fx2ttnn.profile.census import attributes, runs
from fx2ttnn.profile.work import Meter


def op_graph(capture: Capture, precision: Precision) -> nx.DiGraph:
    """A node for each op and each model input, named by its first value; an edge where one reads what another gives.

    A node's `count` is how often the op runs in one step; FLOPs and bytes are of one run. What reads a folded layer is connected
    to the layer that stands for it.
    """
    graph = without_folded(capture.graph)
    counts, meter = layer_counts(capture.graph), Meter(graph, precision, capture.users)
    result = nx.DiGraph(name=f"{capture.model_name} {graph.name}")
    made_by = {value: value for value in graph.inputs}
    for value in graph.inputs:
        result.add_node(value, op="input", module="", count=1, flops=0, bytes=0.0, attributes=[], parameters=[])
    for op in graph.ops:
        work = meter.work(op)
        result.add_node(
            op.outputs[0],
            op=op.name,
            module=op.module,
            count=runs(op, counts),
            flops=work.flops,
            bytes=work.bytes,
            attributes=list(attributes(op)),
            parameters=[graph.parameters[v] for v in op.inputs if v in graph.parameters],
        )
        made_by.update(dict.fromkeys(op.outputs, op.outputs[0]))
        _connect(result, op, made_by, {v: str(graph.specs[v]) for v in op.inputs})
    return result


def _connect(result: nx.DiGraph, op: Op, made_by: dict[str, str], specs: dict[str, str]) -> None:
    """Edges to `op` from those that make what it reads; an edge lists every value that passes along it."""
    for value in dict.fromkeys(op.inputs):
        if value in made_by:
            ends = (made_by[value], op.outputs[0])
            passing = result.edges[ends]["values"] if result.has_edge(*ends) else {}
            result.add_edge(*ends, values={**passing, str(value): specs[value]})


def node_link(graph: nx.DiGraph) -> dict[str, Any]:
    """networkx's node-link form, which `networkx.node_link_graph(data, edges="edges")` reads."""
    return nx.node_link_data(graph, edges="edges")


def to_dot(graph: nx.DiGraph) -> str:
    """Graphviz text: ops with module and count, edges with specs."""
    lines = [f"digraph {_quoted(graph.graph['name'])} {{", "  node [shape=box];"]
    for name, data in graph.nodes(data=True):
        times = f" x {data['count']}" if data["count"] > 1 else ""
        lines.append(f"  {_quoted(name)} [label={_quoted(data['op'] + times, data['module'])}];")
    for start, end, data in graph.edges(data=True):
        lines.append(f"  {_quoted(start)} -> {_quoted(end)} [label={_quoted(*data['values'].values())}];")
    return "\n".join([*lines, "}", ""])


def _quoted(*parts: str) -> str:
    """A DOT string of several lines."""
    escaped = [part.replace("\\", "\\\\").replace('"', '\\"') for part in parts if part]
    return '"' + "\\n".join(escaped) + '"'
