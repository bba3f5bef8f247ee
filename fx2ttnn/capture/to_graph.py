"""From an FX graph of ATen ops to an `ir.Graph`."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any

import torch
from torch import fx

from fx2ttnn.capture.trace import MODULE, Trace
from fx2ttnn.errors import CaptureError
from fx2ttnn.ir import Graph, Op, Ref, TensorSpec

# They steer autograd and autocast while a model runs; in a traced float32 graph they do nothing.
_CONTEXT_CALLS = {"_set_grad_enabled", "_enter_autocast", "_exit_autocast"}
# Where a tensor lies in the host's memory is no matter of the graph.
_PLACEMENT_KWARGS = {"device", "layout", "pin_memory", "memory_format", "non_blocking"}


def to_graph(trace: Trace, weights: Mapping[str, TensorSpec], name: str = "decode") -> Graph:
    """`weights` are the tensors of the checkpoint. Raises CaptureError for what a functional graph cannot hold."""
    return _Converter(trace, weights).convert(name)


class _Converter:
    def __init__(self, trace: Trace, weights: Mapping[str, TensorSpec]) -> None:
        self._trace = trace
        self._weights = weights
        self._values: dict[fx.Node, Any] = {}  # a Ref, or a tuple of them
        self._specs: dict[str, TensorSpec] = {}
        self._parameters: dict[str, str] = {}
        self._constants: dict[str, torch.Tensor] = {}
        self._by_identity: dict[int, Ref] = {}
        self._memory: dict[str, str] = {}  # a view -> the value whose memory it shows
        self._done: set[fx.Node] = set()
        self._ops: list[Op] = []

    def convert(self, name: str) -> Graph:
        inputs, outputs = [], []
        for node in self._trace.graph.graph.nodes:
            if node.op == "placeholder":
                inputs.append(self._input(node))
            elif node.op == "get_attr":
                self._values[node] = self._tensor(node)
            elif node.op == "call_function":
                self._call(node)
                self._done.add(node)
            elif node.op == "output":
                outputs = [self._value(node.args[0])]
        tables = (self._specs, self._parameters, self._constants)
        return Graph(name, tuple(inputs), tuple(map(str, outputs)), tuple(self._ops), *tables)

    def _input(self, node: fx.Node) -> str:
        name = node.name.removesuffix("_1")
        self._values[node] = self._new(name, node.meta["val"])
        return name

    def _new(self, name: str, tensor: torch.Tensor) -> Ref:
        self._specs[name] = spec_of(tensor)
        return Ref(name)

    def _tensor(self, node: fx.Node) -> Ref:
        """The value of one of the model's tensors, or of a constant made in its forward; each has one value."""
        tensor = _attribute(self._trace.graph, str(node.target))
        if id(tensor) not in self._by_identity:
            path = self._trace.tensors.get(id(tensor))
            if path is None and isinstance(tensor, torch._subclasses.FakeTensor):
                raise CaptureError(f"{node.meta.get(MODULE)}: tensor {node.target} is no parameter of the model")
            ref = self._new(path.replace(".", "_") if path else f"constant_{len(self._constants)}", tensor)
            if path in self._weights:
                self._parameters[ref] = str(path)
            else:
                self._constants[ref] = tensor.detach()
            self._by_identity[id(tensor)] = ref
        return self._by_identity[id(tensor)]

    def _call(self, node: fx.Node) -> None:
        target = node.target
        if target is operator.getitem:
            source, index = node.args
            self._values[node] = self._values[source][index]  # type: ignore[index]
        elif isinstance(target, torch._ops.OpOverload):
            self._values[node] = self._op(node, target)
        elif getattr(target, "__name__", "") not in _CONTEXT_CALLS:
            raise CaptureError(f"{node.meta.get(MODULE)}: call of {target} is not supported")

    def _op(self, node: fx.Node, target: torch._ops.OpOverload) -> Any:
        module = node.meta.get(MODULE, "")
        args, attrs = self._arguments(node, target)
        outputs = self._outputs(node)
        name, args, attrs = _own_op(node, target, args, attrs)
        if name == "aten.copy_.default":
            return self._write(node, args[0], args[1], module)
        if target._schema.is_mutable:
            name = self._functional(node, target, args, module)
        if name == "layer":
            module = f"{attrs['like'].rpartition('.')[0]}.{attrs['index']}"
        flat = outputs if isinstance(outputs, tuple) else (outputs,)
        self._ops.append(Op(name, args, tuple(map(str, flat)), attrs, module, (node.name,)))
        if any(r.alias_info and not r.alias_info.is_write for r in target._schema.returns):
            viewed = self._ops[-1].inputs[0]
            self._memory.update(dict.fromkeys(map(str, flat), self._memory.get(viewed, viewed)))
        return outputs

    def _arguments(self, node: fx.Node, target: torch._ops.OpOverload) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Positional arguments, and the named ones that say something. Tensors are always positional."""
        args = list(map(self._value, node.args))
        named = {k: self._value(v) for k, v in node.kwargs.items() if k not in _PLACEMENT_KWARGS and v is not None}
        schema = target._schema.arguments
        last = max((i for i, a in enumerate(schema) if isinstance(named.get(a.name), Ref | tuple)), default=-1)
        for argument in schema[len(args) : last + 1]:
            args.append(named.pop(argument.name, argument.default_value))
        return tuple(args), named

    def _value(self, arg: Any) -> Any:
        """An FX argument as the IR holds it."""
        if isinstance(arg, fx.Node):
            return self._values[arg]
        if isinstance(arg, list | tuple):
            return tuple(map(self._value, arg))
        if isinstance(arg, torch.dtype):
            return str(arg).removeprefix("torch.")
        return arg if arg is None or isinstance(arg, bool | int | float | str) else str(arg)

    def _outputs(self, node: fx.Node) -> Any:
        value = node.meta["val"]
        if isinstance(value, torch.Tensor):
            return self._new(node.name, value)
        return tuple(self._new(f"{node.name}_{i}", tensor) for i, tensor in enumerate(value))

    def _functional(self, node: fx.Node, target: torch._ops.OpOverload, args: tuple[Any, ...], module: str) -> str:
        """The out-of-place name of an in-place op; from here on the value it wrote to is its result."""
        name = _name(target)
        namespace, op, overload = name.split(".")
        old, new = args[0], Ref(node.name)
        if not op.endswith("_") or old in self._stored() or self._seen_elsewhere(node, old, {old}):
            raise _part_written(module, name)
        self._rename(old, new)
        return f"{namespace}.{op[:-1]}.{overload}"

    def _write(self, node: fx.Node, written: Ref, source: Ref, module: str) -> Ref:
        """`written.copy_(source)`: a scatter into what `written` is a slice of, for each slice on the way to a whole tensor.

        From here on the tensor written to is the result; returns what `written` then is.
        """
        if self._specs[written].dtype != self._specs[source].dtype:
            raise _part_written(module, _name(node.target))  # type: ignore[arg-type]
        if self._specs[written].shape != self._specs[source].shape:
            shape = self._specs[written].shape
            source = self._append("aten.expand.default", (source, shape), f"{node.name}_source", written, node)
        if self._written_whole(written, source):
            buffer = next(tensor for tensor, ref in self._by_identity.items() if ref == written)
            self._by_identity[buffer] = source
            self._rename(written, source)
            return source
        producers = {value: op for op in self._ops for value in op.outputs}
        whole, result, views = written, source, []
        while self._memory.get(whole, whole) != whole:
            view = producers[whole]
            views.append(view)
            if view.name not in _SCATTERS:
                raise _part_written(module, _name(node.target))  # type: ignore[arg-type]
            whole = view.args[0]
            arguments = (whole, result, *view.args[1:])
            result = self._append(_SCATTERS[view.name], arguments, f"{node.name}_{whole}", whole, node)
        known = {whole, *(view.outputs[0] for view in views)}
        if whole in self._stored() or self._seen_elsewhere(node, whole, known):
            raise _part_written(module, _name(node.target))  # type: ignore[arg-type]
        self._rename(whole, result)
        base = result
        for view in reversed(views):  # what was written to shows what is there now
            old = view.outputs[0]
            base = self._append(view.name, (base, *view.args[1:]), f"{node.name}_{old}_now", old, node)
            self._memory[base] = result
            self._rename(old, base)
        return source

    def _written_whole(self, old: Any, source: Any) -> bool:
        """Whether a buffer that no checkpoint holds gets its whole value before anything reads it: it carries nothing over steps."""
        same = isinstance(source, Ref) and self._specs[source] == self._specs[old]
        return old in self._constants and same and not any(old in op.inputs for op in self._ops)

    def _append(self, name: str, args: tuple[Any, ...], out: str, like: str, node: fx.Node) -> Ref:
        """A new op whose result has the spec of `like`."""
        self._ops.append(Op(name, args, (out,), {}, node.meta.get(MODULE, ""), (node.name,)))
        self._specs[out] = self._specs[like]
        return Ref(out)

    def _rename(self, old: str, new: Ref) -> None:
        """From here on `new` stands for what `old` was."""
        for node, value in self._values.items():
            self._values[node] = tuple(new if v == old else v for v in value) if isinstance(value, tuple) else value
            if value == old:
                self._values[node] = new

    def _stored(self) -> set[str]:
        return {*self._parameters, *self._constants}

    def _seen_elsewhere(self, node: fx.Node, written: str, known: set[str]) -> bool:
        """Whether a later op reads the memory of `written` under a name that is not `known`, and so would miss what is written."""
        memory = self._memory.get(written, written)
        if memory in self._stored():
            return True
        others = {v for v in self._specs if v not in known and self._memory.get(v, v) == memory}
        holders = [n for n, value in self._values.items() if isinstance(value, Ref) and value in others]
        return any(user is not node and user not in self._done for holder in holders for user in holder.users)


def _part_written(module: str, name: str) -> CaptureError:
    return CaptureError(f"{module}: {name} writes into part of a tensor, which a functional graph cannot hold")


# A view of part of a tensor, and what writes that part.
_SCATTERS = {"aten.slice.Tensor": "aten.slice_scatter.default", "aten.select.int": "aten.select_scatter.default"}

# The tensors among the arguments of fx2ttnn's own ops.
_TENSORS = {
    "attention": ["q", "k", "v", "sinks"],
    "own_positions": ["position_ids"],
    "update_cache": ["k", "v"],
    "experts": ["hidden", "index", "weights", "up", "down", "up_bias", "down_bias"],
    "uncaptured": ["inputs"],
    "layer": ["hidden"],
}


def _own_op(
    node: fx.Node, target: torch._ops.OpOverload, args: tuple[Any, ...], attrs: dict[str, Any]
) -> tuple[str, tuple[Any, ...], dict[str, Any]]:
    """Name, arguments and attributes; those of fx2ttnn's own ops have names instead of places."""
    if target.namespace != "fx2ttnn":
        return _name(target), args, attrs
    name = target._opname
    places = {a.name: arg for a, arg in zip(target._schema.arguments, args, strict=False)}
    tensors = _TENSORS[name]
    # The length of the cache, and what a module gives that is not captured, is in the specs of the outputs.
    named = {k: v for k, v in places.items() if k not in (*tensors, "max_seq_len", "shape", "dtype") and v is not None}
    return name, tuple(places[t] for t in tensors if places.get(t) is not None), named


def _name(target: torch._ops.OpOverload) -> str:
    return f"{target.namespace}.{target._opname}.{target._overloadname}"


def spec_of(tensor: torch.Tensor) -> TensorSpec:
    """Shape and dtype of a tensor."""
    return TensorSpec(tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."))


def _attribute(module: Any, path: str) -> Any:
    for part in path.split("."):
        module = getattr(module, part)
    return module
