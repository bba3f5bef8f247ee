"""The ttnn graph: device tensors, where they lie on a chip, and calls with every argument."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any

from fx2ttnn.ir import PARTIAL, Op, Ref, refs
from fx2ttnn.targets import Range, core_count


@dataclass(frozen=True)
class Memory:
    """Where a tensor lies on a chip. `shard` is (rows, columns) of elements; `cores` the rectangles that hold shards, in order."""

    buffer: str  # "L1" or "DRAM"
    kind: str = "interleaved"  # or "width", "height", "block"
    shard: tuple[int, int] | None = None
    cores: tuple[Range, ...] = ()

    @property
    def core_count(self) -> int:
        return core_count(self.cores)


@dataclass(frozen=True)
class Enum:
    """A name of the ttnn package, such as `ttnn.bfloat16`; its attributes are names, too."""

    name: str

    def __getattr__(self, name: str) -> Enum:
        if name.startswith("_"):  # what Python asks every object for
            raise AttributeError(name)
        return Enum(f"{self.name}.{name}")


@dataclass(frozen=True)
class Construct:
    """A configuration object: the ttnn class and its arguments."""

    name: str
    kwargs: tuple[tuple[str, Any], ...]


@dataclass(frozen=True)
class Tensor:
    """A tensor on the mesh: one chip's logical shape, and for each mesh axis how chips along it differ.

    `axes` is a placement in dims of the device tensor: `"R"` same data, `"P"` summands, an int the dim that is split.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    layout: str
    memory: Memory
    axes: tuple[str | int, ...] = ("R", "R")

    def axes_of(self, dim: int) -> tuple[int, ...]:
        """Mesh axes that split device dim `dim` (negative counts from the end)."""
        return tuple(i for i, a in enumerate(self.axes) if a == dim % len(self.shape) and not isinstance(a, str))

    @property
    def mesh_dims(self) -> tuple[int | None, ...]:
        """`dims` of a ttnn mesh mapper."""
        return tuple(None if isinstance(a, str) else a for a in self.axes)

    @property
    def partial_axes(self) -> tuple[int, ...]:
        """Mesh axes along which the value is the sum of what the chips hold."""
        return tuple(i for i, a in enumerate(self.axes) if a == PARTIAL)

    @property
    def stored_elements(self) -> int:
        """With what fills its last shards."""
        memory = self.memory
        return prod(self.shape) if memory.shard is None else prod(memory.shard) * memory.core_count

    @property
    def width(self) -> int:
        return self.shape[-1]

    @property
    def rows(self) -> int:
        return self.shape[-2]

    @property
    def tiles(self) -> int:
        """Width in tiles."""
        return -(-self.shape[-1] // 32)


@dataclass(frozen=True)
class Parameter:
    """A tensor made from the checkpoint (or from nothing, for constants) when a module is built.

    `transform` names a method of the emitted `Weights`; `sources` are checkpoint names; `arguments` go to the transform.
    `part` is a name for it where it is only a part of its source. A `resource` holds nothing of the model: its transform is a method of
    the emitted `Resources`, and all parameters that ask for the same share it.
    """

    attribute: str
    transform: str
    sources: tuple[str, ...]
    tensor: Tensor
    arguments: Mapping[str, Any] = field(default_factory=dict)
    part: str = ""
    resource: bool = False


@dataclass(frozen=True)
class Call:
    """One ttnn call. `args` and `kwargs` hold `Ref`s to tensors or tuples of them, `Memory`, `Construct`, `Enum` or plain literals.

    `names` are the Python names its outputs get, `rule` is `file:line` of the row that made it, `op` the planned operation.
    """

    function: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    outputs: tuple[str, ...]
    names: tuple[str, ...]
    op: Op
    rule: str
    why: str
    pcc: float = 0.999  # of its op test
    writes: tuple[str, ...] = ()  # tensors changed in place
    composite: bool = False  # one of several calls that together are the operation: ttnn has none of its own

    @property
    def inputs(self) -> tuple[Ref, ...]:
        return tuple(refs((*self.args, *self.kwargs.values())))

    @property
    def is_view(self) -> bool:
        """Whether the bytes stay where they are, and nothing runs: a reshape that is told the padded shape, too."""
        return self.function == "ttnn.reshape" and len(self.args) > 2


@dataclass(frozen=True)
class Lowered:
    """The ttnn graph of one mode: calls in order, every tensor, and the parameters of each module path."""

    calls: tuple[Call, ...]
    tensors: Mapping[str, Tensor]
    parameters: Mapping[str, Parameter]
    owners: Mapping[str, str]  # parameter value -> module path
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    states: Mapping[
        str, str
    ]  # tensor -> scope of the run-time state it is: "model" (page_table) or "layer" (key_cache)
    unsupported: tuple[tuple[Op, str], ...] = ()  # ops that no row takes, and why
    mode: str = "decode"

    def __str__(self) -> str:
        lines = []
        for call in self.calls:
            outs = ", ".join(f"{o}: {self.tensors[o].dtype}{list(self.tensors[o].shape)}" for o in call.outputs)
            args = ", ".join([*map(str, call.args), *(f"{k}={v}" for k, v in call.kwargs.items())])
            lines.append(f"{outs} = {call.function}({args})  # {call.op.module} {call.rule}")
        return "\n".join(lines) + "\n"
