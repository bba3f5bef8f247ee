"""Names for memory and program configurations: what model_config.py defines and the modules refer to."""

from __future__ import annotations

from typing import Any

from fx2ttnn.lower.values import Call, Construct, Enum, Lowered, Memory

_PLAIN = {Memory("L1"): "ttnn.L1_MEMORY_CONFIG", Memory("DRAM"): "ttnn.DRAM_MEMORY_CONFIG"}


class Configs:
    """Every distinct configuration of a ttnn graph under one readable name, in order of first use."""

    def __init__(self, lowered: Lowered):
        self.lowered = lowered
        self.names: dict[Memory | Construct, str] = {}
        for parameter in lowered.parameters.values():
            self._memory(parameter.tensor.memory)
        for call in lowered.calls:
            for argument in (*call.args, *call.kwargs.values()):
                if isinstance(argument, Memory):
                    self._memory(argument)
                elif isinstance(argument, Construct) and argument not in self.names:
                    self._take(argument, _construct_name(argument, call, lowered))
            for value in (*call.inputs, *call.outputs):
                self._memory(lowered.tensors[value].memory)

    def expression(self, config: Memory | Construct, prefix: str = "cfg.") -> str:
        """How a module refers to `config`."""
        return _PLAIN[config] if config in _PLAIN else prefix + self.names[config]

    def _memory(self, memory: Memory) -> None:
        if memory not in _PLAIN and memory not in self.names:
            self._take(memory, _memory_name(memory))

    def _take(self, config: Memory | Construct, name: str) -> None:
        taken = set(self.names.values())
        unique, n = name, 1
        while unique in taken:
            n += 1
            unique = f"{name}_{n}"
        self.names[config] = unique

    def definitions(self) -> list[tuple[str, str]]:
        """(name, expression) of every configuration, sorted by name."""
        return sorted((name, _definition(config)) for config, name in self.names.items())


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
    if kind == "LINEAR":
        return f"LINEAR_{width}X{lowered.tensors[call.outputs[0]].width}"
    return f"{kind}_{width}"


def _definition(config: Memory | Construct) -> str:
    if isinstance(config, Construct):
        return f"{config.name}({', '.join(f'{k}={_field(v)}' for k, v in config.kwargs)})"
    kind = {"width": "WIDTH_SHARDED", "height": "HEIGHT_SHARDED"}[config.kind]
    return f"sharded(ttnn.TensorMemoryLayout.{kind}, ttnn.BufferType.{config.buffer}, {config.shard}, {list(config.cores)})"


def _field(value: Any) -> str:
    return value.name if isinstance(value, Enum) else repr(value)
