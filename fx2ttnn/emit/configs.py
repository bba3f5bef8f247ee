"""Names for memory and program configurations: what model_config.py defines and the modules refer to."""

from __future__ import annotations

import math
import struct
from typing import Any

from fx2ttnn.lower.lengths import ByLength
from fx2ttnn.lower.program import Program
from fx2ttnn.lower.values import Call, Construct, Enum, Lowered, Memory

_PLAIN = {Memory("L1"): "ttnn.L1_MEMORY_CONFIG", Memory("DRAM"): "ttnn.DRAM_MEMORY_CONFIG"}


# Arguments of ttnn's operations that are the model's own numbers, and what they are called, if all calls have the same.
_OF_THE_MODEL = {
    "num_heads": ("NUM_HEADS", "of queries, on one chip"),
    "num_kv_heads": ("NUM_KV_HEADS", "of keys and values, on one chip"),
    "scale": ("ATTENTION_SCALE", "of query x key"),
    "epsilon": ("NORM_EPS", ""),
    "sliding_window_size": ("SLIDING_WINDOW", "tokens that a layer with a window attends to"),
}


class Configs:
    """Every distinct configuration of a program under one readable name, in order of first use; the model's own numbers likewise."""

    def __init__(self, program: Program):
        self.names: dict[Memory | Construct | ByLength, str] = {}
        for parameter in program.parameters.values():
            self._memory(parameter.tensor.memory)
        for mode, lowered in program.modes.items():
            prefix = "" if mode == "decode" else f"{mode.upper()}_"
            for call in lowered.calls:
                for argument in (*call.args, *call.kwargs.values()):
                    self._argument(argument, call, lowered, prefix)
                for value in (*call.inputs, *call.outputs):
                    self._memory(lowered.tensors[value].memory)
        self.numbers = _numbers(program)
        self._of_length = {
            config: f"{name}[{length}]"
            for by_length, name in self.names.items()
            if isinstance(by_length, ByLength)
            for length, config in by_length.values
        }

    def _argument(self, argument: Any, call: Call, lowered: Lowered, prefix: str) -> None:
        if isinstance(argument, Memory):
            self._memory(argument)
        elif isinstance(argument, Construct) and argument not in self.names:
            name = _construct_name(argument, call, lowered)
            self._take(argument, name if name.startswith("COMPUTE") else prefix + name)
        elif isinstance(argument, ByLength) and argument not in self.names:
            last = argument.values[-1][1]
            if isinstance(last, Construct | Memory):
                name = _memory_name(last) if isinstance(last, Memory) else _construct_name(last, call, lowered)
                self._take(argument, prefix + name)

    def source(self, value: Any) -> str:
        """Python source of an argument that is no tensor."""
        if isinstance(value, Memory | Construct):
            return self.expression(value)
        if isinstance(value, ByLength):
            return f"cfg.{self.names[value]}[seq_len]" if value in self.names else _by_length(value)
        return literal(value)

    def keyword(self, name: str, value: Any) -> str:
        """Python source of a keyword argument that is no tensor."""
        return f"cfg.{_OF_THE_MODEL[name][0]}" if name in self.numbers else self.source(value)

    def constants(self) -> list[tuple[str, str, str]]:
        """(name, value, what it is) of the model's own numbers."""
        named = ((*_OF_THE_MODEL[name], value) for name, value in self.numbers.items())
        return [(name, repr(value), what) for name, what, value in named]

    def expression(self, config: Memory | Construct, prefix: str = "cfg.") -> str:
        """How a module refers to `config`."""
        if config in _PLAIN:
            return _PLAIN[config]
        return prefix + (self.names[config] if config in self.names else self._of_length[config])

    def _memory(self, memory: Memory) -> None:
        if memory not in _PLAIN and memory not in self.names:
            self._take(memory, _memory_name(memory))

    def _take(self, config: Memory | Construct | ByLength, name: str) -> None:
        taken = set(self.names.values())
        unique, n = name, 1
        while unique in taken:
            n += 1
            unique = f"{name}_{n}"
        self.names[config] = unique

    def definitions(self) -> list[tuple[str, str]]:
        """(name, expression) of every configuration, sorted by name."""
        return sorted((name, _definition(config)) for config, name in self.names.items())


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


def _memory_name(memory: Memory) -> str:
    assert memory.shard is not None
    rows, columns = memory.shard
    if memory.buffer == "DRAM":
        return f"DRAM_{rows}X{columns * memory.core_count}"
    cores = "_".join(f"{x1 - x0 + 1}X{y1 - y0 + 1}" for (x0, y0), (x1, y1) in memory.cores)
    if memory.kind == "height":
        return f"HEIGHT_SHARDED_{memory.core_count}X{rows}X{columns}"
    return f"WIDTH_SHARDED_{columns * memory.core_count}_ON_{cores}"


def _construct_name(config: Construct, call: Call, lowered: Lowered) -> str:
    fields = dict(config.kwargs)
    if "math_fidelity" in fields:
        return "COMPUTE_" + fields["math_fidelity"].name.rsplit(".", 1)[-1].upper()
    width = lowered.tensors[call.inputs[0]].width
    kind = call.op.name.upper()
    if config.name == "cores":
        return "CORES"
    if kind == "LINEAR":
        return f"LINEAR_{width}X{lowered.tensors[call.outputs[0]].width}"
    return f"{kind}_{width}"


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


def _definition(config: Memory | Construct | ByLength) -> str:
    if isinstance(config, ByLength):
        return "{" + ", ".join(f"{n}: {_PLAIN.get(c) or _definition(c)}" for n, c in config.values) + "}"
    if isinstance(config, Construct):
        return f"{config.name}({', '.join(f'{k}={_field(v)}' for k, v in config.kwargs)})"
    kind = {"width": "WIDTH_SHARDED", "height": "HEIGHT_SHARDED"}[config.kind]
    return f"sharded(ttnn.TensorMemoryLayout.{kind}, ttnn.BufferType.{config.buffer}, {config.shard}, {list(config.cores)})"


def _field(value: Any) -> str:
    return value.name if isinstance(value, Enum) else repr(value)
