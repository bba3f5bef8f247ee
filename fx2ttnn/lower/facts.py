"""What a row may ask: how each value of a plan lies on the mesh, the sizes of the model, and the vocabulary."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

from fx2ttnn.ir import Op, Ref
from fx2ttnn.lower.expressions import ExpressionError, evaluate
from fx2ttnn.lower.rules import Rule, RuleError
from fx2ttnn.lower.values import Memory, Tensor
from fx2ttnn.lower.vocabulary import DRAM, Vocabulary
from fx2ttnn.names import layer_of
from fx2ttnn.plan import Plan
from fx2ttnn.plan.gates import gates

BLOCK_SIZE = 64  # tokens of a page of the KV cache, as vLLM serves Galaxy (docs/sources.md, Galaxy demo)


class Facts:
    """The words of a plan's rows, and the device tensors of its values before it is known where on a chip they lie."""

    def __init__(self, plan: Plan, user_axes: tuple[str | int, ...] = ("R", "R")):
        self.plan, self.gates = plan, gates(plan.graph)
        self.scope: Mapping[str, Any] = Vocabulary(plan.target, plan.precision, plan.mode).scope() | {
            "parts": self.parts,
            "axis_of": lambda x, dim: x.axes_of(dim)[0],
            "mesh": plan.target.mesh_shape,
            "block_size": BLOCK_SIZE,
            "max_seq_len": plan.capture.max_seq_len,
            "batch": plan.capture.batch,
            "users": plan.capture.users,
            "read_soon": self.read_soon,
            "where_read": self.where_read,
            "summands": self.summands,
            "with_axes": _with_axes,
            "pages_per_user": -(-plan.capture.max_seq_len // BLOCK_SIZE),
            "rank": lambda x: len(plan.graph.specs[self.value_of(x)].shape),
            "user_axes": user_axes,
        }

    def value_of(self, x: Tensor) -> str:
        """The planned value that tensor `x` holds."""
        return x.name

    def planned(self, value: str, dtype: str | None = None, layout: str = "TILE", memory: Memory = DRAM) -> Tensor:
        """The device tensor of a planned value; its dtype is that of activations where none is given."""
        order = self.plan.orders[value]
        axes = tuple(a if isinstance(a, str) else order.index(a) for a in self.plan.placements[value].axes)
        shape = self.plan.device_shape(value)
        return Tensor(value, shape, dtype or self.plan.precision.activations, layout, memory, axes)

    def operands(self, op: Op, rule: Rule) -> dict[str, Any]:
        """The scope of a row: the op's arguments under the names that the row gives them, its attributes, what it gives."""
        planned = [self.planned(v) for v in op.outputs]
        scope = dict(self.scope) | {"op": _Attributes(op.attrs), "result": planned[0], "results": planned}
        scope["beside"] = self.beside(op)
        if op.outputs[0] in self.gates:
            scope["precision"] = self.plan.precision.of_gates()
        for position, name in enumerate(rule.operands):
            scope[name] = self.operand(op.args[position] if position < len(op.args) else None)
        return scope

    def operand(self, argument: Any) -> Any:
        """The device tensor of an argument that is a computed value; weights, lists and constants as they are."""
        if isinstance(argument, Ref) and argument in self.plan.orders and argument not in self.plan.graph.parameters:
            return self.planned(argument)
        return argument

    def unfit(self, op: Op, rule: Rule, scope: Mapping[str, Any]) -> str | None:
        """What `rule` wants and `op` is not: a computed value in place of a weight or a number, or a condition."""
        weights = {*rule.parameters, *rule.shared}
        for name, argument in zip(rule.operands, op.args, strict=False):
            if name not in weights and argument is not None and not isinstance(scope[name], Tensor):
                return (
                    f"{name} to be computed, not {'a weight' if isinstance(argument, Ref | tuple) else repr(argument)}"
                )
        return next((text for text in rule.when if not self.evaluate(text, scope, rule)), None)

    def evaluate(self, text: str, scope: Mapping[str, Any], rule: Rule) -> Any:
        """Value of an expression of `rule`; RuleError with file and line where it has none."""
        try:
            return evaluate(text, scope)
        except (ExpressionError, AttributeError, TypeError, KeyError, IndexError, ZeroDivisionError) as error:
            raise RuleError(f"{rule.where}: {text!r}: {error}") from error

    def read_soon(self, result: Tensor) -> bool:
        """Whether nothing reads a planned result behind the next operation of its kind: it may lie in one of two places that are taken in turn."""
        ops = self.plan.graph.ops
        made = next(place for place, op in enumerate(ops) if result.name in op.outputs)
        readers = [place for place, op in enumerate(ops) if result.name in op.inputs]
        kind = ops[made].name, self.plan.device_shape(result.name)
        between = (op for op in ops[made + 1 : max(readers, default=made)] if op.name == kind[0])
        others = sum(self.plan.device_shape(op.outputs[0]) == kind[1] for op in between)
        return result.name not in (*self.plan.graph.outputs, *self.plan.read_by_folded) and others < 2

    def beside(self, op: Op) -> bool:
        """Whether `op` runs beside the prefetcher: it is of a layer."""
        return self.plan.target.prefetching and self.plan.mode == "decode" and layer_of(op.module) is not None

    def where_read(self, result: Tensor, otherwise: Memory) -> Memory:
        """Where what reads a planned result wants it, if that is matmuls of prefetched weights alone."""
        readers = self._readers(result)
        for_matmuls = bool(readers) and all(
            op.name in ("linear", "router_logits") and self.beside(op) for op in readers
        )
        return self.scope["on_ring"](result.width) if for_matmuls else otherwise

    def summands(self, result: Tensor) -> str:
        """Type in which a matmul leaves its result: that of sums where chips send it to each other at once, in one operation."""
        readers = self._readers(result)
        sums = [op for op in readers if op.name in ("all_reduce", "all_reduce_create_qkv_heads")]
        precision = self.plan.precision
        in_one = readers == sums and all(
            self.scope["sum_in_one"](result, op.attrs["axis"], precision.sums) for op in sums
        )
        return precision.sums if sums and in_one else precision.activations

    def _readers(self, result: Tensor) -> list[Op]:
        """The operations that read a planned result."""
        return self.plan.graph.users().get(result.name, [])

    def parts(self, x: Tensor, dim: int) -> int:
        """Number of chips that share device dim `dim` of `x`."""
        return self.count(x.axes_of(dim))

    def count(self, axes: tuple[int, ...]) -> int:
        """Number of chips along mesh axes."""
        return prod(self.plan.target.mesh_shape[axis] for axis in axes)


class _Attributes(dict[str, Any]):
    """Attributes of an op; one that it lacks is none."""

    def __missing__(self, name: str) -> None:
        return None


def _with_axes(axes: tuple[str | int, ...], axis: int, entry: str | int) -> tuple[str | int, ...]:
    return tuple(entry if i == axis else a for i, a in enumerate(axes))
