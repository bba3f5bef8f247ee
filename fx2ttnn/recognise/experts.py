"""A mixture of experts becomes a multilayer perceptron: all experts side by side, their columns weighted by a router.

Of a token that does not choose an expert the weight is zero, so that the sum over all experts is the sum over those it chose. The
columns of all experts form one dim: split over chips, each holds some of the experts, or a part of each, as the sizes ask.

`router(x [B, S, H], weight, bias)` -> logits [B, S, E]; `choose(logits)` -> weights [B, S, E], zero where an expert is not chosen. Its
attributes: `chosen`, how many are; `score`, softmax or sigmoid; `normalised`, whether the weights of the chosen add up to 1; `factor`.
`weigh(x [B, S, E I], weights [B, S, E])` scales the columns of each expert.
A linear's attribute `experts` says how the experts' weights become its matrix: see `as_matrix` in the emitted weights.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from fx2ttnn.ir import Graph, Op, Ref, TensorSpec
from fx2ttnn.recognise.match import A, base_name, const, either, match, var

top, scores, logits = var("top"), var("scores"), var("logits")


def _softmax(of: Any) -> Any:
    dim = const("dim", lambda value: value in (-1, 1))
    return either(A.softmax(of, dim), A.softmax(of, dim, const("dtype")))


_SHARE = A.div(top, A.sum(top, (-1,), True))
# What is chosen by, and the weights of the chosen, whose scores are `top`. A softmax over the chosen is the share in a softmax over all.
ROUTERS: tuple[tuple[Any, Any, dict[str, Any]], ...] = (
    (_softmax(logits), _SHARE, {"score": "softmax", "normalised": True}),
    (_softmax(logits), top, {"score": "softmax", "normalised": False}),
    (A.activation(logits, function="sigmoid"), _SHARE, {"score": "sigmoid", "normalised": True}),
    (A.activation(logits, function="sigmoid"), top, {"score": "sigmoid", "normalised": False}),
    (logits, _softmax(top), {"score": "softmax", "normalised": True}),
)


def place_experts(graph: Graph) -> Graph:
    """Replace each `experts` by a router and linears. One whose router or views are of no known form stays."""
    producers, users = graph.producers(), graph.users()
    parameters, specs = dict(graph.parameters), dict(graph.specs)
    made: dict[str, list[Op]] = {}
    for op in graph.ops:
        if op.name != "experts":
            continue
        router = _router(op, graph, producers)
        hidden, after = producers.get(op.args[0]), users.get(op.outputs[0], [])
        if router is None or hidden is None or not _is_view(hidden) or len(after) != 1 or not _is_view(after[0]):
            continue
        x = hidden.args[0]
        if graph.specs[x].shape != graph.specs[after[0].outputs[0]].shape or len(graph.specs[x].shape) != 3:
            continue
        block = _Block(op, x, after[0].outputs[0], parameters, specs)
        made[after[0].outputs[0]] = block.ops(router)
    ops = tuple(new for op in graph.ops for new in made.get(op.outputs[0], [op]))
    return replace(graph, ops=ops, parameters=parameters, specs=specs)


def _is_view(op: Op) -> bool:
    return op.name.startswith("aten.") and base_name(op.name) == "view"


def _router(op: Op, graph: Graph, producers: Mapping[str, Op]) -> tuple[Op, Op] | None:
    """The `router` and `choose` of `op`, on the tokens in rows that the experts read."""
    hidden, index, weights = op.args[:3]
    topk = producers.get(index)
    if topk is None or base_name(topk.name) != "topk" or topk.outputs[1] != index:
        return None
    scale = producers.get(weights)
    factor = 1.0
    if scale is not None and scale.name == "scale":
        factor, weights = scale.attrs["factor"], scale.args[0]
    for scored, weighted, attrs in ROUTERS:
        found = match(weighted, weights, producers, {"top": Ref(topk.outputs[0])})
        found = found and match(scored, topk.args[0], producers, {k: v for k, v in found.items() if k == "top"})
        linear = producers.get(found["logits"]) if found else None
        if linear is not None and linear.name == "linear" and linear.args[0] == hidden:
            sources = tuple(source for part in (topk, producers[weights]) for source in part.sources)
            known = {"chosen": topk.args[1], "factor": factor, **attrs}
            values = f"{index}_logits", f"{index}_routing"
            router = Op("router", linear.args, values[:1], {}, linear.module, linear.sources)
            return router, Op("choose", (Ref(values[0]),), values[1:], known, topk.module, sources)
    return None


@dataclass
class _Block:
    """Makes the ops of one `experts`: from `x` to `out`, both [B, S, H]. New values go into `parameters` and `specs`."""

    op: Op
    x: str
    out: str
    parameters: dict[str, str]
    specs: dict[str, TensorSpec]

    def ops(self, router: tuple[Op, Op]) -> list[Op]:
        """Router, gate and up, activation, weights, down; and the biases of down, each as often as its expert is chosen."""
        attrs, (_, _, _, up, down, *biases) = self.op.attrs, self.op.args
        self.experts, *sizes = self.specs[up].shape
        self.wide, self.hidden = reversed(sizes) if attrs["transposed"] else sizes
        routing = [self._value(part.outputs[0], self.experts) for part in router][-1]
        ops = [replace(router[0], args=(Ref(self.x), *router[0].args[1:])), router[1]]
        ops += self._inner(up, biases[0] if biases else None)
        inner = ops[-1].outputs[0]
        weighted = self._value(f"{self.out}_weighted", self.specs[inner].shape[-1])
        ops.append(self._op("weigh", (Ref(inner), Ref(routing)), weighted, {"experts": self.experts}))
        product = self._value(f"{self.out}_down", self.hidden) if biases else self.out
        form = {"experts": ("inputs", attrs["transposed"]), "part": _part(self.parameters[down])}
        ops.append(self._linear(weighted, down, None, product, (self.hidden, self.specs[weighted].shape[-1]), form))
        if biases:
            offset = self._value(f"{self.out}_bias", self.hidden)
            form = {"experts": ("inputs", False), "part": _part(self.parameters[biases[1]])}
            ops.append(self._linear(routing, biases[1], None, offset, (self.hidden, self.experts), form))
            ops.append(self._op("add", (Ref(product), Ref(offset)), self.out, {}))
        return ops

    def _inner(self, up: str, bias: str | None) -> list[Op]:
        """Up to what each expert's second product reads: [B, S, E I]."""
        attrs = self.op.attrs
        gate, activation = attrs.get("gate"), attrs["activation"]
        words = _part(self.parameters[up]).removesuffix("_proj").split("_")
        parts: list[str] = []
        for index in range(2 if gate else 1):
            rows = _rows(gate, index, self.wide, self.experts)
            width = self.experts * self.wide // (2 if gate else 1)
            value = self._value(f"{self.out}_{words[index]}", width)
            form = {"experts": ("outputs", attrs["transposed"]), "part": f"{words[index]}_proj"}
            form |= {"rows": (rows,)} if rows else {}
            parts.append(value)
            self._made.append(self._linear(self.x, up, bias, value, (width, self.hidden), form))
        out = self._value(f"{self.out}_inner", self.specs[parts[0]].shape[-1])
        known = {"activation": activation} if gate else {"function": activation}
        known |= {name: attrs[name] for name in ("limit", "alpha") if attrs.get(name) is not None}
        self._made.append(self._op("gated" if gate else "activation", tuple(map(Ref, parts)), out, known))
        return self._made

    def __post_init__(self) -> None:
        self._made: list[Op] = []

    def _value(self, name: str, width: int) -> str:
        shape = self.specs[self.x].shape
        self.specs[name] = TensorSpec((*shape[:-1], width), self.specs[self.x].dtype)
        return name

    def _linear(
        self, x: str, weight: str, bias: str | None, out: str, shape: tuple[int, int], form: dict[str, Any]
    ) -> Op:
        """A linear whose parameters are those of the experts as one matrix [N, K] and one vector [N]."""
        values = [Ref(f"{weight}_of_{out}")]
        self.parameters[values[0]] = self.parameters[weight]
        self.specs[values[0]] = replace(self.specs[weight], shape=shape)
        if bias is not None:
            values.append(Ref(f"{bias}_of_{out}"))
            self.parameters[values[1]] = self.parameters[bias]
            self.specs[values[1]] = replace(self.specs[bias], shape=shape[:1])
        return self._op("linear", (Ref(x), *values), out, form)

    def _op(self, name: str, args: tuple[Any, ...], out: str, attrs: Mapping[str, Any]) -> Op:
        return Op(name, args, (out,), attrs, self.op.module, self.op.sources)


def _rows(gate: str | None, index: int, wide: int, experts: int) -> tuple[int, int, int] | None:
    """Which rows of all experts' are those of gate (0) or up (1): see parts.py."""
    if gate is None:
        return None
    half = wide // 2
    return (index * half, (index + 1) * half, experts) if gate == "halves" else (index, index + 1, experts * half)


def _part(name: str) -> str:
    return name.rsplit(".", 1)[-1]
