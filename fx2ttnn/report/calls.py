"""The ttnn calls of one step as plain data: tensors, rule row, emitted lines and op test of each."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from fx2ttnn.cost.calls import fidelity_of
from fx2ttnn.emit.classes import name_classes
from fx2ttnn.emit.distinct import distinct_calls
from fx2ttnn.emit.units import Unit, build
from fx2ttnn.ir import Placement
from fx2ttnn.lower.program import Program
from fx2ttnn.lower.values import Call, Construct, Lowered, Memory, Tensor


class Emitted:
    """What the calls of all modes share: the op tests, the emitted classes, and the rows of provenance.json, none where nothing was emitted."""

    def __init__(self, program: Program, provenance: Sequence[Mapping[str, Any]] = ()):
        self.program, self.provenance = program, provenance
        self.cases = _op_test_cases(program)
        self.units = named_units(program).tree() if provenance else []


class Calls:
    """Describes the calls of one mode of a program."""

    def __init__(self, shared: Emitted, mode: str, lowered: Lowered):
        self._lowered = lowered
        self._names = {o: n for c in lowered.calls for o, n in zip(c.outputs, c.names, strict=True)}
        self._cases = shared.cases
        emitted = _emitted_lines(shared, mode)
        # Calls of a chunk of a certain length, in the order of those that are emitted for all lengths.
        lines = [emitted.get(id(call)) for call in shared.program.modes[mode].calls] if emitted else []
        self._lines = {id(call): found for call, found in zip(lowered.calls, lines, strict=False)}

    def to_json(self, call: Call) -> dict[str, Any]:
        """`statement`: file, first and last line. `test`: file and number of the case; its name is in the file."""
        return {
            "ttnn": call.function,
            "rule": call.rule,
            "why": " ".join(call.why.split()),
            "composite": call.composite,
            "move": call.op.name == "reshard",
            "fidelity": fidelity_of(call) if "compute_kernel_config" in call.kwargs else "",
            "program": _program(call),
            "statement": self._lines.get(id(call)),
            "test": self._cases[id(call)],
            "inputs": [self._tensor(value) for value in call.inputs],
            "outputs": [self._tensor(value) for value in call.outputs],
        }

    def _tensor(self, value: str) -> dict[str, Any]:
        tensor = self._lowered.tensors[value]
        parameter = self._lowered.parameters.get(value)
        return {
            "name": self._names.get(value, str(value).rsplit(".", 1)[-1]),
            "parameters": list(parameter.sources) if parameter else [],
            **_tensor_json(tensor),
        }


def _program(call: Call) -> dict[str, Any]:
    """The class of the call's program configuration as `config`, and its numbers by name."""
    program = call.kwargs.get("program_config")
    if not isinstance(program, Construct):
        return {}
    numbers = {name: value for name, value in program.kwargs if type(value) is int}
    return {"config": program.name.rsplit(".", 1)[-1], **numbers}


def _tensor_json(tensor: Tensor) -> dict[str, Any]:
    """One chip's part of a tensor."""
    return {
        "shape": list(tensor.shape),
        "dtype": tensor.dtype,
        "memory": _memory_text(tensor.memory),
        "placement": str(Placement(tensor.axes)),
    }


def _memory_text(memory: Memory) -> str:
    """`L1, width sharded 32x64 on 20 cores`."""
    if memory.kind == "interleaved" or memory.shard is None:
        return f"{memory.buffer}, {memory.kind}"
    where = "banks" if memory.buffer == "DRAM" else "cores"
    rows, columns = memory.shard
    return f"{memory.buffer}, {memory.kind} sharded {rows}x{columns} on {memory.core_count} {where}"


def _op_test_cases(program: Program) -> dict[int, list[Any]]:
    """For each call, by identity, the file of its op test and the number of the case in it (see emit/op_tests.py)."""
    found: dict[int, list[Any]] = {}
    taken: Counter[str] = Counter()
    for (_, first), group in distinct_calls(program.calls()):
        file = f"tests/ops/test_{first.function.rsplit('.', 1)[-1]}.py"
        found |= {id(call): [file, taken[file]] for call in group}
        taken[file] += 1
    return found


def _emitted_lines(shared: Emitted, mode: str) -> dict[int, list[Any]]:
    """For each call, by identity, the statement that is emitted for it; equal modules share their class's."""
    waiting: dict[tuple, list[list[Any]]] = defaultdict(list)
    for row in shared.provenance:
        if row["mode"] == mode:
            key = (row["file"], row["ttnn"], row["rule"], row["op"], row["module"])
            waiting[key].append([row["file"], *row["lines"]])
    first: dict[str, list[list[Any] | None]] = {}
    found: dict[int, list[Any]] = {}
    for unit in shared.units:
        if mode not in unit.bodies:
            continue
        calls = [item for item in unit.bodies[mode].items if isinstance(item, Call)]
        if unit.class_name not in first:
            keys = [(f"{unit.file}.py", c.function, c.rule, c.op.name, c.op.module) for c in calls]
            first[unit.class_name] = [waiting[key].pop(0) if waiting[key] else None for key in keys]
        for call, lines in zip(calls, first[unit.class_name], strict=True):
            if lines:
                found[id(call)] = lines
    return found


def named_units(program: Program) -> Unit:
    """The tree of emitted classes, as `emit` makes it."""
    root = build(program)
    name_classes(root, program)
    return root
