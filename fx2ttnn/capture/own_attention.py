"""Attention in a model's own code: found in the graph, proved by trying it on numbers, and made the op that the interface gives.

What lies between a cache and the first op that brings its keys and values together is a function of the queries, the cache
and the positions. Whatever its steps are, it is attention if it gives the numbers of attention: no form of a mask, a
scale or a softmax is known here, so none is assumed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from fx2ttnn.errors import CaptureError
from fx2ttnn.graph import interpret
from fx2ttnn.graph.aten import base_name
from fx2ttnn.ir import Graph, Op, Ref, TensorSpec
from fx2ttnn.ops import TABLE

Form = dict[str, Any]  # the attributes of an `attention` op
_NO_SLOPE = 1e-6  # what rounding may make of none
MANY = 256  # tokens of a prompt whose scores fill much memory
_EPSILON = 2.0**-21  # how far float32 numbers may be off, as a part of them, after a few operations


@dataclass(frozen=True)
class Written:
    """Attention as a model writes it out: `ops`, from the queries `q` and the cache that `update` gives to `out`."""

    graph: Graph
    update: Op
    q: str
    ops: tuple[Op, ...]
    last: Op

    @property
    def out(self) -> str:
        return self.last.outputs[0]

    def shape(self, value: str) -> tuple[int, ...]:
        return self.graph.specs[value].shape

    @property
    def sizes(self) -> tuple[int, int, int, int, int]:
        """Users, tokens, heads of the queries, and the widths of a key and of a value."""
        (batch, tokens), (*_, width) = self.shape("position_ids"), self.shape(self.update.outputs[0])
        heads = math.prod(self.shape(self.q)) // (batch * tokens * width)
        return batch, tokens, heads, width, self.shape(self.update.outputs[1])[-1]

    def error(self, why: str) -> CaptureError:
        where = self.last.module or "the model"
        return CaptureError(f"{where}: attention in the model's own code is not supported: {why}")


def written_attentions(graph: Graph) -> list[Written]:
    """Every attention that reads a cache of the graph. Raises CaptureError where a cache is read for something else."""
    return [_find(graph, op) for op in graph.ops if op.name == "update_cache"]


def _find(graph: Graph, update: Op) -> Written:
    """Follows keys and values to where they meet."""
    free = _of_positions(graph)
    keys, values = ({output} for output in update.outputs)
    queries: dict[str, None] = {}
    for op in graph.ops[graph.ops.index(update) + 1 :]:
        reads_keys, reads_values = (bool(side.intersection(op.inputs)) for side in (keys, values))
        if not (reads_keys or reads_values):
            continue
        queries |= dict.fromkeys(v for v in op.inputs if v not in keys | values | free)
        if reads_keys and reads_values:
            if len(queries) == 1:
                q = next(iter(queries))
                return Written(graph, update, q, _between(graph, op, {q, *update.outputs}), op)
            break
        (keys if reads_keys else values).update(op.outputs)
    written = Written(graph, update, "", (), update)
    raise written.error("keys, values and one tensor of queries do not meet in one product")


def _of_positions(graph: Graph) -> set[str]:
    """Values that depend on nothing but the positions."""
    free = {"position_ids", *graph.constants}
    for op in graph.ops:
        if free.issuperset(op.inputs) and op.name not in ("update_cache", "layer"):
            free.update(op.outputs)
    return free


def _between(graph: Graph, last: Op, stop: set[str]) -> tuple[Op, ...]:
    """The ops that make the output of `last` of the values `stop`, in order."""
    needed, found = set(last.outputs), []
    for op in reversed(graph.ops):
        if needed.intersection(op.outputs) and not stop.intersection(op.outputs):
            found.append(op)
            needed.update(op.inputs)
    return tuple(reversed(found))


def form_of(written: Written) -> Form:
    """Scale, cap, window and slopes of an attention of one user's one token, the last that the cache has room for.

    Raises CaptureError if there is no such form, or it gives other numbers.
    """
    length = written.shape(written.update.outputs[0])[2]
    places = torch.arange(length, dtype=torch.float32)[:, None].expand(written.shape(written.update.outputs[1]))
    form: Form = {"scaling": _scaling(written)}
    slopes = _slopes(written, form["scaling"])
    if any(slopes):
        form["slopes"] = slopes
    # With equal scores the weights of what is seen are equal, so that places have the mean of the first and the last seen.
    mean = _run(written, *_undoing(written, form), places).flatten()[0].item()
    window = min(length, round(2 * (length - 1 - mean)) + 1) if math.isfinite(mean) else length
    form |= {"sliding_window": window if 0 < window < length else None, "softcap": _softcap(written)}
    form = {name: value for name, value in form.items() if value is not None}
    check_form(written, form)
    return form


def _slopes(written: Written, scaling: float) -> tuple[float, ...]:
    """By how much the score of a key grows with its position, in each head, where queries say nothing.

    The first slopes are those between the last two keys, whose weights no other key can hide. Undone, they leave an error that shows
    between keys further apart.
    """
    heads, length = written.sizes[2], written.shape(written.update.outputs[0])[2]
    values = torch.zeros(written.shape(written.update.outputs[1]))
    slopes = torch.zeros(heads, dtype=torch.float64)
    for distance in sorted({1, 16, length - 1}) if scaling and values.shape[-1] > 1 else ():
        if not 0 < distance < length:
            continue
        values[...] = 0
        values[:, :, -1, 0] = values[:, :, -1 - distance, 1] = 1  # so that the result is the weights of these two keys
        weights = _run(written, *_undoing(written, {"scaling": scaling, "slopes": slopes.tolist()}), values)
        last, other = weights.reshape(heads, -1).double().log()[:, :2].T
        slopes += torch.where((last - other).isfinite(), (last - other) / distance, 0)
    return tuple(float(f"{slope:.7g}") if abs(slope) > _NO_SLOPE else 0.0 for slope in slopes.tolist())


def _undoing(written: Written, form: Form) -> tuple[torch.Tensor, torch.Tensor]:
    """Queries and keys whose products undo the slopes, so that the scores of all keys are equal; zeros where there are none."""
    q, k = (torch.zeros(written.shape(value)) for value in (written.q, written.update.outputs[0]))
    if slopes := form.get("slopes"):
        k[..., 0] = torch.arange(1 - k.shape[2], 1)
        _heads_first(written, q)[..., 0] = -torch.tensor(slopes)[:, None] / form["scaling"]
    return q, k


def check_form(written: Written, form: Form) -> None:
    """Raises CaptureError unless it gives the numbers of an `attention` op of this form, for equal scores and for others."""
    batch, tokens, heads, _, width = written.sizes
    past = written.shape(written.update.outputs[0])[2] - tokens
    if math.prod(written.shape(written.out)) != batch * tokens * heads * width:
        raise written.error("what keys and values make together is not one row of a head for each token")
    random = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(written.shape(name), generator=random) for name in (written.q, *written.update.outputs))
    spread = 10 / (form["scaling"] * math.sqrt(q.shape[-1])) if form["scaling"] else 0.0
    steepest = max(map(abs, form.get("slopes", (0.0,))))
    rounding = _EPSILON * steepest * k.shape[2]  # of the bias, as the model computes it
    equal = _undoing(written, form)
    if tokens > MANY:
        # A case takes seconds, so one stands for all: its scores differ so little that each key counts.
        free = slice(1 if "slopes" in form else 0, None)  # where nothing undoes slopes
        for side, numbers in zip(equal, (q * spread / 10, k), strict=True):
            side[..., free] = numbers[..., free]
        cases = [(*equal, 1e-5)]
    else:
        cases = [(*equal, 3e-6), (torch.zeros_like(q), k, 3e-6), (q * spread, k, 1e-4)]
    for queries, keys, tolerance in cases:
        found = _run(written, queries, keys, v)
        tensors = {"q": _heads_first(written, queries), "k": keys, "v": v}
        run = interpret.Run(written.graph, {"position_ids": _positions(written)}, {}, tensors)
        op = Op("attention", (Ref("q"), Ref("k"), Ref("v")), ("out",), form)
        wanted = _as_written(written, TABLE["attention"].compute(run, op, [tensors[arg] for arg in op.args]))
        error = (found - wanted).abs().max()
        if not error <= (tolerance + rounding) * v.abs().max():  # also where it is not a number
            raise written.error(
                f"on {tokens} tokens after {past} others it gives other numbers than softmax(scale * q k^T + slope * (j - i)) v in which"
                " each token i sees itself and those before it, all or the last of them, with a slope for each head or none (ALiBi);"
                " a bias that grows otherwise with the distance, or that is rounded, is not supported"
            )


def _run(written: Written, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """What the model's own ops give for these queries and this cache."""
    graph = written.graph
    values = dict(zip((written.q, *written.update.outputs), (q, k, v), strict=True))
    made = {output for op in written.ops for output in op.outputs} | {*values, "position_ids", *graph.constants}
    if unknown := [graph.parameters.get(name, name) for op in written.ops for name in op.inputs if name not in made]:
        raise written.error(f"it reads {unknown[0]}")
    try:
        return interpret.run_ops(graph, written.ops, {"position_ids": _positions(written)}, values)[written.out]
    except Exception as error:
        raise written.error(f"it cannot be tried on numbers: {str(error).splitlines()[0]}") from error


def _positions(written: Written) -> torch.Tensor:
    batch, tokens, *_ = written.sizes
    length = written.shape(written.update.outputs[0])[2]
    return torch.arange(length - tokens, length).expand(batch, tokens)


def _numbers(written: Written) -> Iterator[tuple[Op, float]]:
    """The numbers by which scores, or keys, are multiplied, in order."""
    scores = set(written.update.outputs[:1])
    for op in written.ops:
        if not scores.intersection(op.inputs):
            continue
        scores.update(op.outputs)
        name = base_name(op)
        if name in ("mul", "div", "mul_", "div_"):
            number = next((n for n in map(_number_of(written), op.args) if n is not None), None)
            if number is not None:
                yield op, number if name.startswith("mul") else 1 / number
        elif name in ("baddbmm", "baddbmm_"):
            yield op, op.attrs.get("alpha", 1)
        elif name == "scaled_dot_product_attention":
            scale = op.attrs.get("scale")
            yield op, written.sizes[3] ** -0.5 if scale is None else scale
        elif name == "tanh":
            yield op, 1.0


def _number_of(written: Written) -> Callable[[Any], float | None]:
    """Gives the number that an argument is: one of Python, or a tensor of one element that depends on nothing."""
    graph, free = written.graph, _of_positions(written.graph) - {"position_ids"}

    def number(arg: Any) -> float | None:
        if not isinstance(arg, Ref):
            return float(arg) if isinstance(arg, int | float) else None
        if arg not in free or graph.specs[arg].numel != 1:
            return None
        if arg in graph.constants:
            return graph.constants[arg].item()
        ops = _between(graph, graph.producers()[arg], set())
        return interpret.run_ops(graph, ops, {"position_ids": _positions(written)}, {})[arg].item()

    return number


def _scaling(written: Written) -> float:
    return math.prod(number for _, number in _numbers(written))


def _softcap(written: Written) -> float | None:
    """The number behind a tanh of the scores."""
    numbers = [(base_name(op), number) for op, number in _numbers(written)]
    behind = [numbers[i + 1][1] for i, (name, _) in enumerate(numbers[:-1]) if name == "tanh"]
    return behind[0] if behind else None


def _heads_first(written: Written, q: torch.Tensor) -> torch.Tensor:
    """The queries as [B, H, S, D]."""
    batch, tokens, heads, width, _ = written.sizes
    if _tokens_last(q.shape, tokens, width):
        return q.reshape(batch, heads, tokens, width)
    return q.reshape(batch, tokens, heads, width).transpose(1, 2)


def _as_written(written: Written, out: torch.Tensor) -> torch.Tensor:
    """What attention gives, [B, S, H, D], as the model's own code gives it."""
    _, tokens, *_, width = written.sizes
    if _tokens_last(written.shape(written.out), tokens, width):
        out = out.transpose(1, 2)
    return out.reshape(written.shape(written.out))


def _tokens_last(shape: tuple[int, ...], tokens: int, width: int) -> bool:
    """Whether tokens come behind heads: [B, H, S, D], [B * H, S, D], …; else they come before: [B, S, H, D], …"""
    return tuple(shape[-2:]) == (tokens, width)


def as_ops(written: Written, form: Form, graph: Graph) -> Graph:
    """The graph with one `attention` op in place of what the model writes out; what it replaces is left to be dropped."""
    batch, tokens, heads, width, value_width = written.sizes
    q, out, module, sources = (
        Ref(written.q),
        written.out,
        written.last.module,
        tuple(source for op in written.ops for source in op.sources),
    )
    dtype = graph.specs[out].dtype
    ops: list[Op] = []
    specs: dict[str, TensorSpec] = {}

    def add(name: str, args: tuple[Any, ...], shape: tuple[int, ...], output: str, attrs: Form | None = None) -> Ref:
        ops.append(Op(name, args, (output,), attrs or {}, module, sources))
        specs[output] = TensorSpec(shape, dtype)
        return Ref(output)

    def swapped(value: Ref, shape: tuple[int, ...], output: str) -> Ref:
        return add("aten.transpose.int", (value, 1, 2), (shape[0], shape[2], shape[1], shape[3]), output)

    by_head, by_token = (batch, heads, tokens, width), (batch, tokens, heads, width)
    if _tokens_last(written.shape(q), tokens, width):
        q = add("aten.view.default", (q, by_head), by_head, f"{out}_query")
    else:
        q = swapped(add("aten.view.default", (q, by_token), by_token, f"{out}_rows"), by_token, f"{out}_query")
    attended = (batch, tokens, heads, value_width)
    value = add("attention", (q, *map(Ref, written.update.outputs)), attended, f"{out}_heads", form)
    if _tokens_last(written.shape(out), tokens, value_width):
        value = swapped(value, attended, f"{out}_swapped")
    add("aten.view.default", (value, written.shape(out)), written.shape(out), out)
    place = graph.ops.index(written.last)
    return graph.with_ops((*graph.ops[:place], *ops, *graph.ops[place + 1 :]), specs)
