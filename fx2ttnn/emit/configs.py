"""Names for memory and program configurations: what model_config.py defines and the modules refer to."""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain, count
from typing import Any

from fx2ttnn.emit.units import Unit, attribute_of
from fx2ttnn.lower.lengths import ByLength
from fx2ttnn.lower.program import Program
from fx2ttnn.lower.values import Call, Construct, Enum, Lowered, Memory
from fx2ttnn.names import identifier, layer_of

Config = Memory | Construct | ByLength

_PLAIN: dict[Config, str] = {Memory("L1"): "ttnn.L1_MEMORY_CONFIG", Memory("DRAM"): "ttnn.DRAM_MEMORY_CONFIG"}
_WEIGHTS = ("linear", "norm", "norm_in_tiles")  # transforms of weights that an operation is called after

BY_LENGTH = "[seq_len]"  # behind a table of configurations by the length of a chunk
RESIDUAL = "RESIDUAL_MEMORY"  # where the hidden state lies between layers: many others are equal to it

# What a collective has done to a tensor that keeps its name.
COLLECTED = {
    "all_gather": "Gathered",
    "all_reduce": "Reduced",
    "reduce_scatter": "Scattered",
    "mesh_partition": "Partitioned",
}


# Arguments of ttnn's operations that are the model's own numbers, and what they are called, if all calls have the same.
_OF_THE_MODEL = {
    "num_heads": ("NUM_HEADS", "of queries, on one chip"),
    "num_kv_heads": ("NUM_KV_HEADS", "of keys and values, on one chip"),
    "scale": ("ATTENTION_SCALE", "of query x key"),
    "epsilon": ("NORM_EPS", ""),
    "sliding_window_size": ("SLIDING_WINDOW", "tokens that a layer with a window attends to"),
}


class Configs:
    """The configurations of a program, each named by its role: what it is for. Equal ones are defined once, and have a name for each role.

    Names are given as code asks for them: `definitions` are those asked for so far.
    """

    def __init__(self, program: Program, root: Unit):
        self.numbers = _numbers(program)
        self._program = program
        self._named: dict[str, tuple[Config, str]] = {}  # name -> configuration, what it works on
        self._owners = {key: unit for unit in root.tree() for key in unit.parameters}
        self._uses = _uses(program, root)
        self._makers = {
            (id(lowered), value): call
            for lowered in (*program.graphs, *program.modes.values())
            for call in lowered.calls
            for value in call.outputs
        }

    def argument(self, call: Call, key: str | int, value: Any) -> str:
        """Python source of an argument of `call` that is no tensor; `key` is its keyword or place."""
        if key in self.numbers:
            return f"cfg.{_OF_THE_MODEL[str(key)][0]}"
        use = self._uses[id(call)]
        whole = use.call.kwargs[key] if isinstance(key, str) else use.call.args[key]
        if isinstance(value, Memory | Construct) and isinstance(whole, ByLength):  # a call at one length
            return f"{self._role(use, whole)}[{next(n for n, config in whole.values if config == value)}]"
        if isinstance(value, ByLength):
            return f"{self._role(use, value)}{BY_LENGTH}" if _holds_configs(value) else _by_length(value)
        return self._role(use, value) if isinstance(value, Memory | Construct) else literal(value)

    def memory(self, lowered: Lowered, value: str) -> str:
        """Python source of where a tensor lies on a chip."""
        memory = lowered.tensors[value].memory
        if memory in _PLAIN:
            return _PLAIN[memory]
        if value in self._owners:
            return self.of_parameter(value)
        call = self._makers.get((id(lowered), value))
        if call is None:
            return self._take(memory, value, "MEMORY")
        given: list[tuple[str | int, Any]] = [*enumerate(call.args), *call.kwargs.items()]
        asked = [key for key, argument in given if argument == memory]
        return self.argument(call, asked[0], memory) if asked else self._role(self._uses[id(call)], memory)

    def of_parameter(self, key: str) -> str:
        """Python source of where a parameter lies on a chip."""
        parameter, unit = self._program.parameters[key], self._owners[key]
        attribute = attribute_of(key, unit, self._program.parameters)
        called = not parameter.resource and attribute != "weight"  # else after the class that holds it
        words = (attribute, "WEIGHT" if called and parameter.transform != "bias" else "", "MEMORY")
        of_class = (unit.role, *words)
        return self._take(parameter.tensor.memory, *(words if called else of_class), other=of_class)

    def constants(self) -> list[tuple[str, str, str]]:
        """(name, value, what it is) of the model's own numbers."""
        named = ((*_OF_THE_MODEL[name], value) for name, value in self.numbers.items())
        return [(name, repr(value), what) for name, what, value in named]

    def definitions(self) -> list[tuple[str, str, str]]:
        """(name, expression, what it works on) of every configuration in order of first use; of a further role the expression is a name."""
        first: dict[Config, str] = {}
        target = self._program.plan.target
        named = (
            {target.prefetcher.ring: "RING_CORES", target.prefetcher.received: "RECEIVER_CORES"}
            if target.prefetcher
            else {}
        )
        residual_first = sorted(self._named.items(), key=lambda item: item[0] != RESIDUAL)
        return [
            (name, _definition(config, named), what)
            if first.setdefault(config, name) == name
            else (name, first[config], "")
            for name, (config, what) in residual_first
        ]

    def _role(self, use: _Use, config: Config) -> str:
        """The expression for a configuration that a call takes."""
        call, mode, unit = use.of_class, use.mode, use.unit
        last = config.values[-1][1] if isinstance(config, ByLength) else config
        if isinstance(last, Memory):
            kind = ("" if mode == "decode" else mode, "MEMORY")
            if call.op.name == "add" and unit.path == layer_of(unit.path):
                return self._take(config, "residual", *kind)
            keyword = next((k for k, v in call.kwargs.items() if v == config), "")
            # A keyword before `memory_config`, as in final_memory_config: of what the last step gives.
            which = keyword.removesuffix("memory_config") or COLLECTED.get(call.op.members[0].name, "")
            value = (unit.role, *call.names[:1])
            return self._take(config, *value, which, *kind, other=(*value, which or call.op.name, *kind))
        fields = dict(last.kwargs)
        if "math_fidelity" in fields:
            return self._take(config, "COMPUTE", fields["math_fidelity"].name.rsplit(".", 1)[-1])
        if last.name == "cores":
            return self._take(config, mode, "CORES", other=(unit.role, mode, "CORES"))
        weights = [v for v in call.inputs if v in self._owners and self._program.parameters[v].transform in _WEIGHTS]
        stem = attribute_of(weights[0], unit, self._program.parameters) if weights else call.op.name
        shapes = (str(self._program.shape(mode, v)).replace("'", "") for v in (*call.inputs[:1], *call.outputs[:1]))
        words = (unit.role if stem == "weight" else stem, mode, "PROGRAM")
        return self._take(config, *words, other=(unit.role, *words), what=" -> ".join(shapes))

    def _take(self, config: Config, *words: str, other: tuple[str, ...] = (), what: str = "") -> str:
        """The expression for a configuration, under a name of these words; of `other` words, or with a number, where another has it."""
        if config in _PLAIN:
            return _PLAIN[config]
        name = constant(*words)
        names = chain((name, constant(*(other or words))), (f"{name}_{n}" for n in count(2)))
        free = next(n for n in names if self._named.setdefault(n, (config, what or _size(config)))[0] == config)
        return f"cfg.{free}"


def _numbers(program: Program) -> dict[str, int | float]:
    """Arguments of `_OF_THE_MODEL` that have one value in all calls of the program, or one and what float32 holds of it, which some insist on."""
    found: dict[str, list[Any]] = {}
    for lowered in program.modes.values():
        for call in lowered.calls:
            for name in call.kwargs.keys() & _OF_THE_MODEL.keys():
                found.setdefault(name, []).append(call.kwargs[name])
    return {
        name: next((v for v in values if struct.unpack("f", struct.pack("f", v))[0] == v), values[0])
        for name, values in sorted(found.items())
        if all(isinstance(v, int | float) and math.isclose(v, values[0], rel_tol=1e-7) for v in values)
    }


def literal(value: Any) -> str:
    """Python source of a plain argument."""
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, tuple):
        return "[" + ", ".join(literal(v) for v in value) + "]"
    return repr(value)


class ByValue(Configs):
    """The same, where only the code's structure matters: a configuration is what it says."""

    def __init__(self, program: Program):
        self.numbers, self._program = _numbers(program), program

    def argument(self, call: Call, key: str | int, value: Any) -> str:
        """An argument that is no tensor."""
        return str(key) if key in self.numbers else repr(value)

    def of_parameter(self, key: str) -> str:
        """Where a parameter lies on a chip."""
        return repr(self._program.parameters[key].tensor.memory)


@dataclass(frozen=True)
class _Use:
    """A call with what names its configurations: the first unit of its class, and the call in its place there."""

    call: Call
    mode: str
    unit: Unit
    of_class: Call


def _uses(program: Program, root: Unit) -> dict[int, _Use]:
    """Every call of the program by identity; those of a chunk's other lengths are used as the one in the merged graph."""
    first: dict[str, Unit] = {}
    found: dict[int, _Use] = {}
    for unit in root.tree():
        like = first.setdefault(unit.class_name, unit)
        for mode, body in unit.bodies.items():
            for call, of_class in zip(body.items, like.bodies[mode].items, strict=True):
                if isinstance(call, Call) and isinstance(of_class, Call):
                    found[id(call)] = _Use(call, mode, like, of_class)
    for mode, lengths in program.by_mode.items():
        for lowered in lengths.values():
            for call, merged in zip(lowered.calls, program.modes[mode].calls, strict=True):
                found[id(call)] = found[id(merged)]
    return found


def constant(*words: str) -> str:
    """Words as the name of a constant, whatever a checkpoint or a module class calls its parts; the same word twice running once."""
    parts = [re.sub(r"[^A-Z0-9]+", "_", word.upper()).strip("_") for word in words]
    return identifier("_".join(part for n, part in enumerate(parts) if part and part not in parts[n - 1 : n]))


def is_constant(value: Any) -> bool:
    """Whether an argument of a call is a number or a configuration, which a constructor may be given."""
    return isinstance(value, int | float | Construct | Memory) or (
        isinstance(value, ByLength) and _holds_configs(value)
    )


def _holds_configs(value: ByLength) -> bool:
    return isinstance(value.values[-1][1], Construct | Memory)


def _size(config: Config) -> str:
    """Rows and columns that the shards make up."""
    if not isinstance(config, Memory) or config.shard is None:
        return ""
    rows, columns = config.shard
    many = config.core_count
    return f"{rows * many} x {columns}" if config.kind == "height" else f"{rows} x {columns * many}"


def _by_length(value: ByLength) -> str:
    """A plain argument that differs by length: with `seq_len` where it is the length, else a table of its values."""
    lengths = [length for length, _ in value.values]
    items = [item for _, item in value.values]
    if items == lengths:
        return "seq_len"
    if all(isinstance(item, int) and item and n % item == 0 for n, item in value.values):
        parts = {n // item for n, item in value.values}
        if len(parts) == 1:
            return f"seq_len // {parts.pop()}"
    if all(isinstance(item, tuple) and len(item) == len(items[0]) for item in items):
        columns = [ByLength(tuple(zip(lengths, column, strict=True))) for column in zip(*items, strict=True)]
        return (
            "["
            + ", ".join(
                _by_length(c) if len({v for _, v in c.values}) > 1 else literal(c.values[0][1]) for c in columns
            )
            + "]"
        )
    return "{" + ", ".join(f"{n}: {literal(v)}" for n, v in value.values) + "}[seq_len]"


def _definition(config: Memory | Construct | ByLength, named: Mapping[tuple, str]) -> str:
    """`named`: lists of single cores that have a name."""
    if isinstance(config, ByLength):
        return "{" + ", ".join(f"{n}: {_PLAIN.get(c) or _definition(c, named)}" for n, c in config.values) + "}"
    if isinstance(config, Construct):
        return f"{config.name}({', '.join(f'{k}={_field(v)}' for k, v in config.kwargs)})"
    kind = f"{config.kind.upper()}_SHARDED"
    single = tuple(first for first, last in config.cores if first == last)
    cores = named.get(single if len(single) == len(config.cores) else (), str(list(config.cores)))
    return f"sharded(ttnn.TensorMemoryLayout.{kind}, ttnn.BufferType.{config.buffer}, {config.shard}, {cores})"


def _field(value: Any) -> str:
    return value.name if isinstance(value, Enum) else repr(value)
