"""The values that pass between stages: immutable, printable as text.

A `Graph` is a list of `Op`s in execution order over named values. The same classes serve after capture (op names are ATen
overloads such as `aten.mul.Tensor`), after recognise (`linear`, `rms_norm`, `attention`) and after plan (collectives are
ops like any other, and every value has a `Placement`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any, NamedTuple


class Ref(str):
    """The name of a value, where an op's argument may also be a plain string."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"%{self}"


@dataclass(frozen=True)
class TensorSpec:
    """Logical shape and dtype (a torch dtype's name, such as `float32` or `int64`) of a value on the whole mesh."""

    shape: tuple[int, ...]
    dtype: str = "float32"

    @property
    def numel(self) -> int:
        return prod(self.shape)

    def __str__(self) -> str:
        return f"{self.dtype}[{', '.join(map(str, self.shape))}]"


REPLICATED, PARTIAL = "R", "P"


class Placement(NamedTuple):
    """How a value lies on the mesh, one entry per mesh axis.

    `"R"`: every chip along the axis holds the same; `"P"`: the value is the sum over the axis; an int: that dim of the value
    is split over the axis. A dim split over both axes is split over axis 0 first. (A named tuple: planning hashes and compares them a million times.)
    """

    axes: tuple[str | int, ...]

    @property
    def partial_axes(self) -> tuple[int, ...]:
        return tuple(i for i, a in enumerate(self.axes) if a == PARTIAL)

    def axes_of(self, dim: int) -> tuple[int, ...]:
        """Mesh axes that split `dim`."""
        return tuple(i for i, a in enumerate(self.axes) if a == dim and not isinstance(a, str))

    def on(self, axis: int, to: str | int) -> Placement:
        """The same placement with another entry for mesh axis `axis`."""
        return Placement(tuple(to if i == axis else a for i, a in enumerate(self.axes)))

    def __str__(self) -> str:
        return "(" + ", ".join(a if isinstance(a, str) else f"S{a}" for a in self.axes) + ")"


@dataclass(frozen=True)
class Op:
    """One operation: `args` are `Ref`s to values, constants, or tuples of these; `attrs` are its named constants.

    `module` is the path of the innermost Hugging Face module that called it, `sources` are the captured (FX) nodes it stands for.
    `chain`: the planned operations that fuse/ joined to this one.
    """

    name: str
    args: tuple[Any, ...]
    outputs: tuple[str, ...]
    attrs: Mapping[str, Any] = field(default_factory=dict)
    module: str = ""
    sources: tuple[str, ...] = ()
    chain: tuple[Op, ...] = ()

    @property
    def members(self) -> tuple[Op, ...]:
        """The planned operations that it is: itself, or those that were joined."""
        return self.chain or (self,)

    @property
    def inputs(self) -> tuple[str, ...]:
        """All values the op reads, in order of its arguments."""
        return tuple(refs(self.args))

    def __str__(self) -> str:
        args = ", ".join(map(repr, self.args))
        attrs = "".join(f" {k}={'graph' if isinstance(v, Graph) else repr(v)}" for k, v in self.attrs.items())
        return f"{', '.join(self.outputs)} = {self.name}({args}){attrs}  # {self.module}"


def refs(args: tuple[Any, ...]) -> Iterator[Ref]:
    """The values among arguments and in tuples of them, in order."""
    for arg in args:
        if isinstance(arg, Ref):
            yield arg
        elif isinstance(arg, tuple):
            yield from refs(arg)


def rename(args: tuple, names: Mapping[str, str]) -> tuple:
    """Arguments with values renamed."""
    return tuple(
        rename(a, names) if isinstance(a, tuple) else Ref(names[a]) if isinstance(a, Ref) and a in names else a
        for a in args
    )


@dataclass(frozen=True)
class Graph:
    """Ops in execution order. `specs` holds every value; `parameters` maps a value to its name in the checkpoint.

    `constants` are values the model computes when it is built (such as rotary frequencies); they are torch tensors.
    """

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    ops: tuple[Op, ...]
    specs: Mapping[str, TensorSpec]
    parameters: Mapping[str, str] = field(default_factory=dict)
    constants: Mapping[str, Any] = field(default_factory=dict)

    def with_ops(self, ops: tuple[Op, ...], specs: Mapping[str, TensorSpec] | None = None) -> Graph:
        """The graph with other ops; `specs` are added to those of the values."""
        return replace(self, ops=ops, specs={**self.specs, **(specs or {})})

    def producers(self) -> dict[str, Op]:
        """The op that makes each value."""
        return {out: op for op in self.ops for out in op.outputs}

    def users(self) -> dict[str, list[Op]]:
        """The ops that read each value, in order."""
        found: dict[str, list[Op]] = {}
        for op in self.ops:
            for value in dict.fromkeys(op.inputs):
                found.setdefault(value, []).append(op)
        return found

    def __str__(self) -> str:
        lines = [f"graph {self.name}({', '.join(f'%{v}: {self.specs[v]}' for v in self.inputs)})"]
        lines += [f"  %{v} = parameter {name!r}: {self.specs[v]}" for v, name in self.parameters.items()]
        lines += [f"  %{v} = constant: {self.specs[v]}" for v in self.constants]
        for op in self.ops:
            lines.append(f"  {op}  -> " + ", ".join(str(self.specs[o]) for o in op.outputs))
        return "\n".join([*lines, f"  return {', '.join('%' + o for o in self.outputs)}", ""])


@dataclass(frozen=True)
class ModuleInfo:
    """A module of the Hugging Face model: its path, its class and, for a repeated layer, the path of the layer it equals.

    `numbers`: its attributes that are floats.
    """

    path: str
    class_name: str
    like: str | None = None
    numbers: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class OwnModule:
    """The file of a model that transformers does not have, as text, and the name of the model's class in it."""

    class_name: str
    text: str


@dataclass(frozen=True)
class Capture:
    """What capture knows of a model: the decode graph, its modules, and the configuration it was built from.

    In `graph` the first layer of each distinct structure is spelled out; each further one is a single op `layer` whose
    attribute `like` names the layer it was proven equal to. `batch` rows are traced; `users` of them are in use.
    `module` defines the model's class where transformers does not. `own_attention`: the model's own code computes attention.
    `part_of`: the type of the multimodal model whose language model this is.
    `own_positions`: the model counts positions on from the length of its cache, in which it knows of no users.
    `whole_layers`: how many layers the model has of which these are the first; None: these.
    """

    model_name: str
    config: Mapping[str, Any]
    graph: Graph
    modules: Mapping[str, ModuleInfo]
    parameter_specs: Mapping[str, TensorSpec]
    tied: Mapping[str, str]
    batch: int
    max_seq_len: int
    users: int
    module: OwnModule | None = None
    own_attention: bool = False
    part_of: str | None = None
    own_positions: bool = False
    whole_layers: int | None = None
