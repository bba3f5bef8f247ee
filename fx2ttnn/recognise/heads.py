"""Projections that read the same value and are split into heads become one: the query, key and value of an attention."""

from __future__ import annotations

from fx2ttnn.ir import Graph, Op, Ref, TensorSpec


def fuse_projections(graph: Graph) -> Graph:
    """Fuse linear ops that feed one attention into one `linear` with several weights and a `create_qkv_heads`.

    The fused output is [B, S, (Hq + 2 Hkv) D], queries first; a chip that holds some of the heads holds those of all three.
    """
    producers, users = graph.producers(), graph.users()
    replaced: dict[str, list[Op]] = {}
    dropped: set[str] = set()
    specs: dict[str, TensorSpec] = {}
    for attention in graph.ops:
        if attention.name != "attention":
            continue
        splits = [_origin(v, producers) for v in attention.args[:3]]
        linears = [producers.get(s.args[0]) if s else None for s in splits]
        if not all(linear is not None and linear.name == "linear" for linear in linears):
            continue
        query, key, value = linears
        same_input = len({linear.args[0] for linear in linears}) == 1
        biased = {len(linear.args) for linear in linears}
        only_split = all(len(users[linear.outputs[0]]) == 1 for linear in linears)
        if not (same_input and len(biased) == 1 and only_split) or len({id(linear) for linear in linears}) != 3:
            continue
        fused = Ref(f"{_stem(query)}_qkv")
        widths = tuple(graph.specs[linear.outputs[0]].shape[-1] for linear in linears)
        shape = graph.specs[query.outputs[0]].shape
        specs[fused] = TensorSpec((*shape[:-1], sum(widths)), graph.specs[query.outputs[0]].dtype)
        heads = tuple(s.attrs["heads"] for s in splits)
        module = _common(linear.module for linear in linears)
        weights = tuple(linear.args[1] for linear in linears)
        biases = tuple(linear.args[2] for linear in linears if len(linear.args) > 2)
        sources = tuple(s for linear in linears for s in linear.sources)
        last = max(linears, key=graph.ops.index)
        replaced[last.outputs[0]] = [
            Op(
                "linear",
                (query.args[0], weights, biases) if biases else (query.args[0], weights),
                (fused,),
                {"widths": widths, "units": heads},
                module,
                sources,
            ),
            Op(
                "create_qkv_heads",
                (fused,),
                tuple(s.outputs[0] for s in splits),
                {"heads": heads[0], "kv_heads": heads[1], "head_dim": splits[0].attrs["head_dim"]},
                module,
                tuple(s for split in splits for s in split.sources),
            ),
        ]
        dropped |= {v for op in (*linears, *splits) for v in op.outputs}
    ops = [new for op in graph.ops for new in (replaced.get(op.outputs[0], []) if op.outputs[0] in dropped else [op])]
    return graph.with_ops(_in_order(ops, graph), specs)


def _in_order(ops: list[Op], graph: Graph) -> tuple[Op, ...]:
    """The ops with each after those it reads: fusing moves heads behind ops that came between the projections."""
    made_by = {out: op for op in ops for out in op.outputs}
    done: dict[int, Op] = {}

    def visit(op: Op) -> None:
        if id(op) in done:
            return
        for value in op.inputs:
            if value in made_by:
                visit(made_by[value])
        done[id(op)] = op

    for op in ops:
        visit(op)
    return tuple(done.values())


def _origin(value: str, producers: dict[str, Op]) -> Op | None:
    """The `split_heads` that `value` comes from, through ops that keep heads apart."""
    op = producers.get(value)
    while op is not None and op.name in ("rms_norm", "rotary", "update_cache", "layer_norm"):
        index = op.outputs.index(value) if op.name == "update_cache" else 0
        value = op.args[index]
        op = producers.get(value)
    return op if op is not None and op.name == "split_heads" else None


def _stem(linear: Op) -> str:
    return linear.outputs[0]


def _common(modules) -> str:
    """The deepest module that holds all of `modules`."""
    parts = [m.split(".") for m in modules]
    shared = []
    for names in zip(*parts, strict=False):
        if len(set(names)) > 1:
            break
        shared.append(names[0])
    return ".".join(shared)
