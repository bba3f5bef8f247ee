"""From ATen ops to the operations of a transformer: linear, rms_norm, rotary, attention, …"""

from __future__ import annotations

from dataclasses import replace

from fx2ttnn.ir import Capture, Graph, Op, Ref, TensorSpec
from fx2ttnn.recognise.alibi import positions_in_columns
from fx2ttnn.recognise.complex_rotary import real_rotary
from fx2ttnn.recognise.experts import place_experts
from fx2ttnn.recognise.half_rotary import join_halves
from fx2ttnn.recognise.heads import fuse_projections
from fx2ttnn.recognise.heads_first import heads_first
from fx2ttnn.recognise.last_tile import take_last_tile
from fx2ttnn.recognise.match import match, sources_between
from fx2ttnn.recognise.norms_of_heads import norms_of_heads
from fx2ttnn.recognise.parts import split_linears
from fx2ttnn.recognise.patterns import PATTERNS, new_spec
from fx2ttnn.recognise.position_factors import multiply_by_positions
from fx2ttnn.recognise.repeated_heads import heads_once
from fx2ttnn.recognise.rotary import align_heads
from fx2ttnn.recognise.rows import separate_rows
from fx2ttnn.recognise.scaled_rotary import scale_tables
from fx2ttnn.recognise.scattered import scatter_last
from fx2ttnn.recognise.shared_keys import join_parts_of_heads
from fx2ttnn.recognise.simplify import simplify
from fx2ttnn.recognise.single_head import without_single_heads
from fx2ttnn.recognise.spelling import one_spelling
from fx2ttnn.recognise.tables import tabulate_positions
from fx2ttnn.recognise.transposed import transposed_weights
from fx2ttnn.recognise.written_experts import experts_of_stacks


def recognise(capture: Capture) -> Capture:
    """The capture with its graph in terms of transformer operations; ops that no pattern knows stay as they are."""
    graph = without_dead_code(heads_once(one_spelling(simplify(capture.graph))))
    graph = without_single_heads(real_rotary(graph))
    graph = tabulate_positions(without_dead_code(heads_first(graph)))
    graph = without_dead_code(experts_of_stacks(scatter_last(graph)))
    graph = without_dead_code(norms_of_heads(apply_patterns(transposed_weights(separate_rows(graph)))))
    graph = multiply_by_positions(scale_tables(join_halves(graph)), capture.max_seq_len)
    graph = without_dead_code(place_experts(without_dead_code(graph)))
    graph = without_dead_code(join_parts_of_heads(graph))
    graph = without_dead_code(split_linears(graph))
    graph = without_dead_code(align_heads(graph))
    graph = positions_in_columns(fuse_projections(graph))
    if graph.name == "prefill":
        graph = take_last_tile(graph)
    return replace(capture, graph=graph)


def apply_patterns(graph: Graph) -> Graph:
    """Rewrite with the pattern table until nothing changes."""
    changed = True
    while changed:
        graph, changed = _one_pass(graph)
    return without_dead_code(graph)


def _one_pass(graph: Graph) -> tuple[Graph, bool]:
    producers = graph.producers()
    ops: list[Op] = []
    specs: dict[str, TensorSpec] = {}
    changed = False
    for op in graph.ops:
        rewritten = _rewrite(graph, op, producers)
        changed |= rewritten is not None
        for new in rewritten or [op]:
            specs |= new_spec(graph, new, op.outputs[0])
            producers.update(dict.fromkeys(new.outputs, new))
            ops.append(new)
    return without_dead_code(graph.with_ops(tuple(ops), specs)), changed


def _rewrite(graph: Graph, op: Op, producers: dict[str, Op]) -> list[Op] | None:
    if not op.name.startswith("aten."):
        return None
    for pattern in PATTERNS:
        found = match(pattern.expression, Ref(op.outputs[0]), producers, {})
        if found is None:
            continue
        extra = pattern.accept(graph, op, found) if pattern.accept else {}
        if extra is None:
            continue
        attrs = {name: found[name] for name in pattern.attrs if name in found} | extra
        args = tuple(found[name] for name in pattern.args if name in found)
        return [Op(pattern.name, args, op.outputs, attrs, op.module, sources_between(set(args), op, producers))]
    return None


def without_dead_code(graph: Graph) -> Graph:
    """Drop ops whose results nobody reads. Cache updates are read by the attention that follows them."""
    live = set(graph.outputs)
    kept: list[Op] = []
    for op in reversed(graph.ops):
        if live & set(op.outputs):
            live |= set(op.inputs)
            kept.append(op)
    return graph.with_ops(tuple(reversed(kept)))
