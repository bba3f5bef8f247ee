"""A mixture of experts becomes a multilayer perceptron: all experts side by side, their columns weighted by a router.

Of a token that does not choose an expert the weight is zero, so that the sum over all experts is the sum over those it chose. The
columns of all experts form one dim: split over chips, each holds some of the experts, or a part of each, as the sizes ask.

What a router computes is what its model wrote, one op for each step: `router_logits(x [B, S, H], weight, bias)` -> logits [B, S, E], scores,
`topk` of them, their share (see patterns.py). `scatter_routing(index, weights)`, both [B, S, K] -> weights [B, S, E], zero where an expert is
not chosen. `scale_by_routing(x [B, S, E I], weights [B, S, E])` scales the columns of each expert, `scale_both_by_routing` those of two values.
Experts may be `weighed` at their "inputs": then the outputs of their first product are, which is linear.
A linear's attributes `experts` and `transposed` say how the experts' weights become its matrix: see `as_matrix` in the emitted weights.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from fx2ttnn.graph.trace import refused
from fx2ttnn.ir import Graph, Op, Ref, TensorSpec
from fx2ttnn.names import common_module


def place_experts(graph: Graph) -> Graph:
    """Replace each `experts` by linears. One that reads rows, or whose choice no linear makes from hidden states, stays."""
    graph = _softmax_of_the_chosen(graph)
    producers = graph.producers()
    parameters, specs = dict(graph.parameters), dict(graph.specs)
    made: dict[str, list[Op]] = {}
    for op in graph.ops:
        routing = _routing(op, graph, producers) if op.name == "experts" else None
        if routing is None or len(graph.specs[op.args[0]].shape) != 3 or any("transposed" in r.attrs for r in routing):
            if op.name == "experts":
                refused(
                    "place_experts", op, "tokens are in rows, or no linear with an output for each expert chooses them"
                )
            continue
        spread, placed = _placed(op, routing, graph)
        made |= {part.outputs[0]: [part] for part in placed}
        made[op.outputs[0]] = _Block(op, parameters, specs).ops(spread)
    ops = tuple(new for op in graph.ops for new in made.get(op.outputs[0], [op]))
    return replace(graph, ops=ops, parameters=parameters, specs=specs)


def _placed(experts: Op, routing: list[Op], graph: Graph) -> tuple[Op, list[Op]]:
    """The `scatter_routing` of the experts, and the steps before it, all of one module if a module has them and their parameters alone."""
    logits = routing[0].outputs[0]
    spread = Op(
        "scatter_routing",
        (*experts.args[1:3], Ref(logits)),
        (f"{experts.outputs[0]}_routing",),
        {},
        "",
        routing[-1].sources,
    )
    owners = [graph.parameters[v].rpartition(".")[0] for op in routing for v in op.inputs if v in graph.parameters]
    gate = common_module([*(op.module for op in routing), *owners])
    mixed = f"{experts.module}.".startswith(f"{gate}.")
    steps = [op if mixed and op.name == "linear" else replace(op, module=gate) for op in routing]
    return replace(spread, module=gate), [
        replace(op, name="router_logits") if op.name == "linear" else op for op in steps
    ]


def _routing(experts: Op, graph: Graph, producers: Mapping[str, Op]) -> list[Op] | None:
    """What decides which experts are chosen and their weights, from a linear with an output for each of them on; None if that is not all."""
    found: dict[str, Op] = {}
    todo = list(experts.args[1:3])
    while todo:
        op = producers.get(todo.pop())
        if op is None or not (op.module and op.inputs):
            return None
        if op.outputs[0] not in found:
            found[op.outputs[0]] = op
            todo += [] if op.name == "linear" else [v for v in op.inputs if v not in graph.parameters]
    count = graph.specs[experts.args[3]].shape[0]
    widths = [graph.specs[value].shape[-1] for value, op in found.items() if op.name == "linear"]
    return sorted(found.values(), key=graph.ops.index) if widths == [count] else None


def _softmax_of_the_chosen(graph: Graph) -> Graph:
    """The shares of the best in a softmax of all are a softmax of the best: fewer numbers, and no sum."""
    producers, users = graph.producers(), graph.users()
    changed: dict[str, Op] = {}
    for op in graph.ops:
        topk = producers.get(op.args[0]) if op.name == "renormalize" and not op.attrs else None
        if topk is None or topk.name != "topk" or topk.outputs[0] != op.args[0]:
            continue
        softmax = producers.get(topk.args[0])
        if (
            softmax is not None
            and softmax.name == "softmax"
            and users[softmax.outputs[0]] == [topk]
            and users[op.args[0]] == [op]
        ):
            changed[topk.outputs[0]] = replace(topk, args=softmax.args, sources=softmax.sources + topk.sources)
            changed[op.outputs[0]] = replace(op, name="softmax")
    return graph.with_ops(tuple(changed.get(op.outputs[0], op) for op in graph.ops))


@dataclass
class _Block:
    """Makes the ops of one `experts`, from and to [B, S, H]. New values go into `parameters` and `specs`."""

    op: Op
    parameters: dict[str, str]
    specs: dict[str, TensorSpec]

    def ops(self, spread: Op) -> list[Op]:
        """Gate and up, activation, weights, down; and the biases of down, each as often as its expert is chosen."""
        attrs, (_, _, _, up, down, *biases) = self.op.attrs, self.op.args
        self.experts, *sizes = self.specs[up].shape
        self.wide, self.hidden = reversed(sizes) if attrs["transposed"] else sizes
        routing = self._value(spread.outputs[0], self.experts)
        ops = [replace(spread, attrs={"experts": self.experts})]
        at_inputs = attrs.get("weighed") == "inputs"
        weighted = self._inner(up, biases[0] if biases else None, routing if at_inputs else None)
        if not at_inputs:
            (weighted,) = self._weigh([weighted], routing, [f"{self.out}_weighted"])
        ops += self._made
        product = self._value(f"{self.out}_down", self.hidden) if biases else self.out
        form = {"experts": "inputs", **self._stored, "part": _part(self.parameters[down])}
        ops.append(self._linear(weighted, down, None, product, (self.hidden, self.specs[weighted].shape[-1]), form))
        if biases:
            offset = self._value(f"{self.out}_bias", self.hidden)
            form = {"experts": "inputs", "part": _part(self.parameters[biases[1]])}
            ops.append(self._linear(routing, biases[1], None, offset, (self.hidden, self.experts), form))
            ops.append(self._op("add", (Ref(product), Ref(offset)), self.out, {}))
        return ops

    def _inner(self, up: str, bias: str | None, routing: str | None) -> str:
        """Up to what each expert's second product reads: [B, S, E I]. Given `routing`, weighed as soon as there are columns of experts."""
        attrs = self.op.attrs
        gate, activation = attrs.get("gate"), attrs["activation"]
        words = _part(self.parameters[up]).removesuffix("_proj").split("_")
        parts: list[str] = []
        for index in range(2 if gate else 1):
            rows = _rows(gate, index, self.wide, self.experts)
            width = self.experts * self.wide // (2 if gate else 1)
            value = self._value(f"{self.out}_{words[index]}", width)
            form = {"experts": "outputs", **self._stored, "part": f"{words[index]}_proj"}
            form |= {"rows": (rows,)} if rows else {}
            parts.append(value)
            self._made.append(self._linear(self.x, up, bias, value, (width, self.hidden), form))
        if routing is not None:
            parts = self._weigh(parts, routing, [f"{part}_weighted" for part in parts])
        out = self._value(f"{self.out}_inner", self.specs[parts[0]].shape[-1])
        known = {"activation": activation} if gate else {"function": activation}
        known |= {name: attrs[name] for name in ("limit", "alpha") if attrs.get(name) is not None}
        self._made.append(self._op("glu" if gate else "activation", tuple(map(Ref, parts)), out, known))
        return out

    def _weigh(self, values: list[str], routing: str, outs: list[str]) -> list[str]:
        """Appends the products of values [B, S, E I], one or two, and the weights of each expert, [B, S, E]."""
        for value, out in zip(values, outs, strict=True):
            self._value(out, self.specs[value].shape[-1])
        name = "scale_by_routing" if len(values) == 1 else "scale_both_by_routing"
        op = self._op(name, (*map(Ref, values), Ref(routing)), outs[0], {"experts": self.experts})
        self._made.append(replace(op, outputs=tuple(outs)))
        return outs

    def __post_init__(self) -> None:
        self.x, self.out = self.op.args[0], self.op.outputs[0]
        self._made: list[Op] = []
        self._stored = {"transposed": True} if self.op.attrs["transposed"] else {}

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
