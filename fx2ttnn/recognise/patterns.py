"""The pattern table: from ATen to the operations of a transformer.

A row says: this expression of captured ops is that operation. Rows are tried in order until none applies. What no row knows
stays the plain op it was. Nothing here knows a model: only maths.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fx2ttnn.graph.dead_code import without_dead_code
from fx2ttnn.graph.trace import refused
from fx2ttnn.ir import Graph, Op, Ref, TensorSpec
from fx2ttnn.recognise.match import A, Bindings, Node, const, either, match, second, sources_between, var

Accept = Callable[[Graph, Op, Bindings], dict[str, Any] | str]


@dataclass(frozen=True)
class Pattern:
    """`expression` becomes op `name` with those of `args` and `attrs` that were bound.

    `accept` sees the graph, the matched op and the bindings, and refuses or completes a match: it returns the attributes to add, or why not.
    """

    name: str
    expression: Node
    args: tuple[str, ...]
    attrs: tuple[str, ...] = ()
    accept: Accept | None = None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


x, y, w, b, cos, sin, gate, up, best = (var(n) for n in ("x", "y", "w", "b", "cos", "sin", "gate", "up", "best"))
eps, dim, half, size, end, shape = (const(n) for n in ("eps", "dim", "half", "size", "end", "shape"))
floor = const("floor")
factor, divisor, offset = (const(n, _is_number) for n in ("factor", "divisor", "offset"))
gain = either(A.add(w, offset), w)  # a norm's weight, or what is added to it
centred = A.sub(x, A.mean(x, (-1,), True))
heads_cos, heads_sin = A.unsqueeze(cos, 1), A.unsqueeze(sin, 1)


def _variance(of: Any) -> Node:
    return A.mean(A.pow(of, 2), (-1,), True)


def _over_root(value: Any, of: Any) -> Node:
    return A.mul(value, either(A.rsqrt(A.add(of, eps)), A.pow(A.add(of, eps), -0.5)))


def _given(**attrs: Any) -> Accept:
    """Accepts with these attributes."""
    return lambda graph, op, found: attrs


def _splits_heads(graph: Graph, op: Op, found: Bindings) -> dict[str, Any] | str:
    """A view from [B, S, H * D] to [B, S, H, D], then heads before tokens."""
    before, after = graph.specs[found["x"]].shape, graph.specs[op.outputs[0]].shape
    fits = len(before) == 3 and len(after) == 4 and after[1] * after[3] == before[2] and after[::2] == before[:2]
    return {"heads": after[1], "head_dim": after[3]} if fits else "no view of [B, S, H * D] as heads"


def _merges_heads(graph: Graph, op: Op, found: Bindings) -> dict[str, Any] | str:
    """A view from [B, S, H, D] to [B, S, H * D]."""
    before, after = graph.specs[found["x"]].shape, graph.specs[op.outputs[0]].shape
    fits = len(before) == 4 and len(after) == 3 and before[:2] == after[:2]
    return {"heads": before[2], "head_dim": before[3]} if fits else "no view of heads as [B, S, H * D]"


def _rotates_halves(graph: Graph, op: Op, found: Bindings) -> dict[str, Any] | str:
    """The second half comes first: x1, x2 -> x1 cos - x2 sin, x2 cos + x1 sin."""
    head_dim = graph.specs[found["x"]].shape[-1]
    fits = found["dim"] in (3, -1) and found["half"] * 2 == head_dim and found["end"] >= head_dim
    return {} if fits else "these are not the halves of a head"


def _rotates_back(graph: Graph, op: Op, found: Bindings) -> dict[str, Any] | str:
    """x1, x2 -> x1 cos + x2 sin, x2 cos - x1 sin: as above, if the halves change their names."""
    return why if (why := _rotates_halves(graph, op, found)) else {"pairs": "swapped halves"}


def _along_last_dim(graph: Graph, op: Op, found: Bindings) -> dict[str, Any] | str:
    rank = len(graph.specs[op.outputs[0]].shape)
    return {} if found.get("dim", -1) % rank == rank - 1 else "over another dim than the last"


def _is_vector_or_number(graph: Graph, op: Op, found: Bindings) -> dict[str, Any] | str:
    """A parameter with one number, or with one for each element of the last dim; tokens are [B, S, ..]."""
    spec, rank = graph.specs[found["w"]], len(graph.specs[op.outputs[0]].shape)
    known = found["w"] in graph.parameters and found["x"] not in graph.parameters and rank == 3
    return (
        {} if known and (spec.numel == 1 or not _is_vector(graph, op, found)) else "no parameter for tokens [B, S, ..]"
    )


def _is_row_of_numbers(graph: Graph, op: Op, found: Bindings) -> dict[str, Any] | str:
    """A parameter [N]; of its numbers those with the indices of each token are read."""
    return {} if found["w"] in graph.parameters and len(graph.specs[found["w"]].shape) == 1 else "no parameter [N]"


def _softplus(graph: Graph, op: Op, found: Bindings) -> dict[str, Any] | str:
    return {"function": "softplus"} if found["x"] not in graph.parameters else "of a parameter"


def _of_each_head(graph: Graph, op: Op, found: Bindings) -> dict[str, Any] | str:
    """x [B, S, H * D] seen as heads [B, S, H, D], and one gate [B, S, H] for each of them."""
    heads, fits = found["shape"], graph.specs[found["x"]].shape == graph.specs[op.outputs[0]].shape
    same = fits and heads[:3] == graph.specs[found["gate"]].shape
    return {"heads": heads[2]} if same else "not one gate for each head"


def _best_of_last_dim(graph: Graph, op: Op, found: Bindings) -> dict[str, Any] | str:
    return why if (why := _along_last_dim(graph, op, found)) else {"chosen": 1}


def _of_tokens(graph: Graph, op: Op, found: Bindings) -> dict[str, Any] | str:
    """Of numbers of each token, [B, S, ..]; heads and what rotates in them have more dims."""
    return (
        _along_last_dim(graph, op, found) if len(graph.specs[op.outputs[0]].shape) == 3 else "not of tokens [B, S, ..]"
    )


def _is_vector(graph: Graph, op: Op, found: Bindings) -> dict[str, Any] | str:
    """A parameter with one number for each element of the last dim."""
    columns = graph.specs[op.outputs[0]].shape[-1]
    fits = found["w"] in graph.parameters and graph.specs[found["w"]].numel == columns
    return {} if fits else "no parameter with a number for each column"


def _groups(graph: Graph, op: Op, found: Bindings) -> dict[str, Any] | str:
    """Scores [B, S, E] in groups of neighbours, [B, S, G, E / G]."""
    grouped = found["grouped_shape"]
    return {"groups": grouped[2], "best": found.get("best", 1)} if len(grouped) == 4 else "no groups of experts"


def _is_parameter(graph: Graph, op: Op, found: Bindings) -> dict[str, Any] | str:
    return {} if found["w"] in graph.parameters else f"{found['w']} is computed, not a parameter"


def _norms_last_dim(graph: Graph, op: Op, found: Bindings) -> dict[str, Any] | str:
    """Weight and bias, where there are any, are parameters with one number for each element of the last dim."""
    width = graph.specs[op.outputs[0]].shape[-1:]
    vectors = [found[name] for name in ("w", "b") if name in found]
    fits = all(v in graph.parameters and graph.specs[v].shape == width for v in vectors)
    return {} if fits and found.get("shape", width) == width else "not over the last dim, with vectors of its size"


def _norms_with_default(graph: Graph, op: Op, found: Bindings) -> dict[str, Any] | str:
    return _norms_last_dim(graph, op, found) or {"eps": found.get("eps", 1e-5)}  # torch's own default


def _rotates_a_part(graph: Graph, op: Op, found: Bindings) -> dict[str, Any] | str:
    """The first columns of each head rotate, the others pass."""
    head_dim = graph.specs[found["x"]].shape[-1]
    fits = found["dim"] in (3, -1) and found["end"] >= head_dim
    return {"rotated": found["size"]} if fits else "not the first columns of each head"


def _rotates_neighbours(graph: Graph, op: Op, found: Bindings) -> dict[str, Any] | str:
    """Columns 2 i and 2 i + 1 rotate together."""
    fits = found["dim"] in (3, -1) and found["end"] >= graph.specs[found["x"]].shape[-1]
    return {"pairs": "neighbours"} if fits else "these are not neighbours in a head"


def _whole_part(**attrs: Any) -> Node:
    """A rotation of the first `size` columns, with the others behind them."""
    rotated = A.rotary(A.slice(x, dim, 0, size), cos, sin, **attrs)
    return A.cat((rotated, A.slice(x, dim, size, end)), -1)


def _tanh_gelu() -> Node:
    """0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))), or x (1 + 0.044715 x x) within."""
    root = const("root", lambda n: math.isclose(n, math.sqrt(2 / math.pi), rel_tol=1e-8))
    inner = A.scale(A.add(x, A.scale(A.pow(x, 3), factor=0.044715)), factor=root)
    product = A.mul(A.scale(x, factor=root), A.add(A.mul(A.scale(x, factor=0.044715), x), 1))
    tanh = A.activation(either(inner, product), function="tanh")
    return A.mul(A.scale(x, factor=0.5), A.add(tanh, 1))


def _of_near_ones() -> Node:
    """What lies far below the best, as a part of its own size or of the best, is filled with a number."""
    far = A.gt(A.div(A.sub(best, x), A.clamp(A.abs(x), best)), const("bound", _is_number))
    return A.masked_fill(y, far, const("fill"))


def _clamped_swiglu() -> Node:
    """g sigmoid(alpha g) (u + 1), with g at most the limit and u within it on both sides."""
    low = A.clamp(gate, None, const("limit"))
    glu = A.glu(A.scale(low, factor=const("alpha")), low, activation="sigmoid")
    return A.mul(A.add(A.clamp(up, const("least"), const("limit")), 1), glu)


def _within_limit(graph: Graph, op: Op, found: Bindings) -> dict[str, Any] | str:
    return {"activation": "clamped_swiglu"} if found["least"] == -found["limit"] else "the limits differ"


XIELU = ("steep", "bent", "slope", "least")


def _xielu() -> Node:
    """x > 0: a x^2 + b x, else c (exp(min(x, e)) - 1 - x) + b x, with a and c of weights."""
    steep, bent, slope, least = map(var, XIELU)
    line = A.multiply_vector(x, slope)
    right = A.add(A.mul(A.mul(A.softplus(steep), x), x), line)
    left = A.add(A.mul(A.sub(A.expm1(A.min(x, least)), x), A.add(slope, A.softplus(bent))), line)
    return A.where(A.gt(x, 0), right, left)


def _of_numbers(function: str, *names: str) -> Accept:
    """Accepts where all of `names` are parameters of one number."""

    def accept(graph: Graph, op: Op, found: Bindings) -> dict[str, Any] | str:
        numbers = all(found[n] in graph.parameters and graph.specs[found[n]].numel == 1 for n in names)
        return {"function": function} if numbers else f"{', '.join(names)} are not parameters of one number"

    return accept


ACTIVATIONS: tuple[tuple[str, Any], ...] = (
    ("gelu", A.gelu(x)),
    ("gelu", A.gelu(x, approximate="none")),
    ("gelu_tanh", A.gelu(x, approximate="tanh")),
    ("gelu_tanh", _tanh_gelu()),
    ("relu_squared", A.square(A.activation(x, function="relu"))),
    ("relu_squared", A.pow(A.activation(x, function="relu"), 2)),
    *((name, getattr(A, name)(x)) for name in ("silu", "relu", "sigmoid", "tanh")),
)


def _layer_norms() -> list[Node]:
    """torch's own op with and without weight, bias, epsilon and a flag of CUDA's."""
    found = []
    for vectors in ((), (gain,), (gain, b)):
        both: tuple[Any, ...] = (*vectors, None, None)[:2]
        found += [A.layer_norm(x, shape, *rest) for rest in (vectors, (*both, eps), (*both, eps, const("flag")))]
    return found


def _topk() -> list[Node]:
    """The best of the last dim, in any order."""
    flags = (dim, True, const("sorted"))
    return [A.topk(x, const("chosen"), *flags[:n]) for n in range(len(flags) + 1)]


def _total(of: Any) -> Any:
    """A sum over the last dim, kept away from zero or not."""
    total = A.sum(of, (-1,), True)
    return either(A.add(total, eps), A.clamp(total, floor), A.clamp_min(total, floor), total)


def _of_groups() -> Node:
    """Groups of experts by the sum of their best; scores outside the best groups are filled with a number."""
    grouped = A.view(x, const("grouped_shape"))
    of_group = either(A.sum(A.topk(grouped, chosen=const("best")), (-1,)), A.max(grouped, -1))
    mask = A.scatter(A.zeros_like(of_group), -1, second(A.topk(of_group, chosen=const("kept"))), 1)
    marks = A.expand(A.unsqueeze(mask, -1), const("grouped_shape"))
    spread = either(A.view(marks, const("whole_shape")), A.concat_heads(marks))  # which is such a view too
    return A.masked_fill(x, A.bitwise_not(A.to(spread, "bool")), const("fill"))


PATTERNS: tuple[Pattern, ...] = (
    Pattern("layer_norm", _over_root(centred, _variance(centred)), ("x",), ("eps",)),
    Pattern("rms_norm", _over_root(x, _variance(x)), ("x",), ("eps",)),
    *(
        Pattern(norm, A.mul(gain, getattr(A, norm)(x, eps=eps)), ("x", "w"), ("eps", "offset"), _norms_last_dim)
        for norm in ("layer_norm", "rms_norm")
    ),
    *(
        Pattern("layer_norm", expression, ("x", "w", "b"), ("offset",), _norms_with_default)
        for expression in _layer_norms()
    ),
    Pattern(
        "rotary",
        A.add(
            A.mul(x, heads_cos),
            A.mul(A.cat((A.neg(A.slice(x, dim, half, end)), A.slice(x, dim, 0, half)), -1), heads_sin),
        ),
        ("x", "cos", "sin"),
        (),
        _rotates_halves,
    ),
    Pattern(
        "rotary",
        A.add(
            A.mul(x, heads_cos),
            A.mul(A.cat((A.slice(x, dim, half, end), A.neg(A.slice(x, dim, 0, half))), -1), heads_sin),
        ),
        ("x", "cos", "sin"),
        (),
        _rotates_back,
    ),
    Pattern(
        "rotary",
        A.add(
            A.mul(x, heads_cos),
            A.mul(
                A.flatten(A.stack((A.neg(A.slice(x, dim, 1, end, 2)), A.slice(x, dim, 0, end, 2)), -1), -2), heads_sin
            ),
        ),
        ("x", "cos", "sin"),
        (),
        _rotates_neighbours,
    ),
    Pattern("rotary", _whole_part(pairs=const("pairs")), ("x", "cos", "sin"), ("pairs",), _rotates_a_part),
    Pattern("rotary", _whole_part(), ("x", "cos", "sin"), (), _rotates_a_part),
    *(Pattern("activation", of, ("x",), (), _given(function=name)) for name, of in ACTIVATIONS),
    Pattern("activation", A.softplus(x), ("x",), (), _softplus),
    Pattern("activation", _xielu(), ("x", *XIELU), (), _of_numbers("xielu", *XIELU)),
    Pattern("glu", _clamped_swiglu(), ("gate", "up"), ("limit", "alpha"), _within_limit),
    Pattern("glu", A.mul(A.activation(gate, function=const("activation")), up), ("gate", "up"), ("activation",)),
    Pattern("scale", A.mul(x, factor), ("x",), ("factor",)),
    Pattern("scale", A.div(x, divisor), ("x",), (), lambda graph, op, found: {"factor": 1 / found["divisor"]}),
    Pattern("split_heads", A.transpose(A.view(x, shape), 1, 2), ("x",), (), _splits_heads),
    Pattern(
        "scale_heads",
        A.view(A.mul(A.view(x, shape), A.unsqueeze(gate, -1)), const("whole_shape")),
        ("x", "gate"),
        (),
        _of_each_head,
    ),
    Pattern("concat_heads", A.view(x, shape), ("x",), (), _merges_heads),
    Pattern("linear", A.linear(x, w), ("x", "w"), (), _is_parameter),
    Pattern("linear", A.linear(x, w, b), ("x", "w", "b"), (), _is_parameter),
    *(Pattern("topk", of, ("x",), ("chosen",), _along_last_dim) for of in _topk()),
    Pattern("topk", A.max(x, dim, True), ("x",), (), _best_of_last_dim),
    *(Pattern("softmax", of, ("x",), (), _along_last_dim) for of in (A.softmax(x, dim), A.softmax(x, dim, "float32"))),
    Pattern("gather", A.gather(x, dim, y), ("x", "y"), (), _along_last_dim),
    Pattern("renormalize", A.div(x, _total(x)), ("x",), ("eps", "floor")),
    Pattern("multiply_chosen", A.mul(x, A.index(w, (y,))), ("x", "y", "w"), (), _is_row_of_numbers),
    Pattern("sparse_mixer_mask", _of_near_ones(), ("y", "x", "best"), ("bound", "fill")),
    Pattern(
        "mask_selected",
        A.scatter(x, dim, y, const("fill", lambda n: n == -math.inf)),
        ("x", "y"),
        ("fill",),
        _along_last_dim,
    ),
    Pattern("concat", A.cat((x, y), dim), ("x", "y"), (), _of_tokens),
    Pattern("limit_to_groups", _of_groups(), ("x",), ("kept", "fill"), _groups),
    *(Pattern("add_vector", A.add(x, of), ("x", "w"), (), _is_vector) for of in (w, A.squeeze(w))),
    *(Pattern("multiply_vector", of, ("x", "w"), (), _is_vector_or_number) for of in (A.mul(x, w), A.mul(w, x))),
    Pattern("embedding", A.embedding(w, x), ("x", "w"), (), _is_parameter),
    Pattern("embedding", A.embedding(w, x, const("padding")), ("x", "w"), (), _is_parameter),
    Pattern("add", A.add(x, y), ("x", "y")),
)


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
            specs |= _new_spec(graph, new, op.outputs[0])
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
        if isinstance(extra, str):
            refused(pattern.name, op, extra)
            continue
        attrs = {name: found[name] for name in pattern.attrs if name in found} | extra
        args = tuple(found[name] for name in pattern.args if name in found)
        return [Op(pattern.name, args, op.outputs, attrs, op.module, sources_between(set(args), op, producers))]
    return None


def _new_spec(graph: Graph, op: Op, like: str) -> dict[str, TensorSpec]:
    """Specs of values that a rewrite introduced: same as value `like`."""
    return {out: graph.specs[like] for out in op.outputs if out not in graph.specs}
