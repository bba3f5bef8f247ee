"""Traces: a list of calls that is captured once and executed again and again.

As on a card, a capture runs nothing: the results have no numbers until the trace is executed, and reading them says so. An
execution computes the recorded calls anew into the same tensors, without calling ttnn. Whatever passes between host and device
inside a capture is an error, for it would not be replayed. ttnn's own trace functions are never called: they crash on a mock.

A replay writes where its tensors lay when it was captured, whatever lies there now, and ttnn does not see to it. So a tensor
that was allocated since at such an address has lost its numbers, and programs must be compiled before the capture: their
kernels are allocated, too.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from fx2ttnn.emulate.call import Call, leaves
from fx2ttnn.emulate.places import Place, place, program_line
from fx2ttnn.emulate.sub_devices import SubDevices
from fx2ttnn.emulate.tensor import EmulatedTensor, EmulationError, Numbers


@dataclass(frozen=True)
class TraceId:
    """What a program holds of a trace."""

    number: int


@dataclass
class Trace:
    """The calls, the tensors they made and where, and after each call the numbers that nobody needs any more.

    `line`: of the program, that began the capture. `programs`: how many ttnn had compiled when it ended.
    """

    line: str
    manager: Any = None  # of the sub-devices that were loaded
    programs: int = 0
    ended: int = 0
    calls: list[Call] = field(default_factory=list)
    made: list[tuple[Numbers, weakref.ref[EmulatedTensor]]] = field(default_factory=list)
    places: set[Place] = field(default_factory=set)
    last_used: list[list[Numbers]] = field(default_factory=list)

    def finish(self) -> None:
        """Find where each tensor that the program has dropped already is used for the last time."""
        dropped = {id(numbers) for numbers, tensor in self.made if tensor() is None}
        for call in reversed(self.calls):
            used = {id(n): n for n in call.numbers()}
            self.last_used.append([n for key, n in used.items() if key in dropped])
            dropped -= used.keys()
        self.last_used.reverse()

    def execute(self) -> None:
        for numbers, _ in self.made:
            numbers.replay += 1
        for call, unused in zip(self.calls, self.last_used, strict=True):
            call.run()
            for numbers in unused:
                numbers.release()


@dataclass(frozen=True)
class Allocated:
    """The program's `number`th tensor, where it lies, and the line that made it."""

    number: int
    tensor: weakref.ref[EmulatedTensor]
    at: Place
    line: str

    def overwrite(self, trace: Trace) -> None:
        """Its numbers are lost if it is alive where a replay of `trace` has written."""
        tensor = self.tensor()
        if tensor is None or tensor.numbers.of_a_replay:
            return
        if any(self.at.overlaps(place) for place in trace.places):
            tensor.numbers.lose(
                f"that {self.line} allocated lies where the trace captured at {trace.line} writes: its numbers are lost. "
                "Allocate it before the capture"
            )


class Traces:
    """The traces of one mesh."""

    def __init__(self, sub_devices: SubDevices) -> None:
        self.sub_devices = sub_devices
        self._traces: dict[TraceId, Trace] = {}
        self._capturing: TraceId | None = None
        self._device: Any = None  # of the capture
        self._count = 0
        self._allocated: list[Allocated] = []  # while there is a trace
        self._number = 0  # of tensors that were allocated

    @property
    def capturing(self) -> bool:
        return self._capturing is not None

    def record(self, call: Call, result: Any) -> None:
        """Add a call to the capture. `result`: the tensor(s) that it returns to the program."""
        trace = self._found(self._capturing)
        trace.calls.append(call)
        if not call.overwrites:
            results = list(leaves(result, EmulatedTensor))
            trace.made += [(tensor.numbers, weakref.ref(tensor)) for tensor in results]
            trace.places.update(at for tensor in results if (at := place(tensor.real)) is not None)

    def allocated(self, result: Any) -> None:
        """Remember the tensor(s) that an operation has returned while there is a trace."""
        if not self._traces:
            return
        for tensor in leaves(result, EmulatedTensor):
            at = place(tensor.real)
            if at is not None:
                self._number += 1
                self._allocated.append(Allocated(self._number, weakref.ref(tensor), at, program_line()))

    def programs(self) -> int:
        """How many programs ttnn has compiled, inside a capture; 0 outside."""
        return self._device.num_program_cache_entries() if self.capturing else 0

    def refuse_compiling(self, name: str, before: int) -> None:
        """An error when the call `name` has compiled a program inside a capture. `before`: `programs` before the call."""
        if self.programs() > before:
            raise EmulationError(
                f"{name} compiles a program inside a trace capture, which a card cannot: run the same calls before it"
            )

    def refuse_in_capture(self, name: str) -> None:
        if self.capturing:
            raise EmulationError(f"{name} inside a trace capture: a trace holds no transfer between host and device")

    def begin(self, device: Any, *, cq_id: Any = None) -> TraceId:
        if self.capturing:
            raise EmulationError("ttnn.begin_trace_capture inside a trace capture")
        self._count += 1
        self._capturing, self._device = TraceId(self._count), device
        self._traces[self._capturing] = Trace(program_line(), self.sub_devices.loaded)
        return self._capturing

    def end(self, device: Any, trace_id: TraceId, *, cq_id: Any = None) -> None:
        if trace_id != self._capturing:
            raise EmulationError(f"ttnn.end_trace_capture: {trace_id} is not being captured")
        trace = self._found(trace_id)
        trace.finish()
        trace.programs, trace.ended = device.num_program_cache_entries(), self._number
        self._capturing = None

    def execute(self, device: Any, trace_id: TraceId, *, cq_id: Any = None, blocking: bool = True) -> None:
        if self.capturing:
            raise EmulationError("ttnn.execute_trace inside a trace capture")
        trace = self._of_manager(trace_id)
        programs = device.num_program_cache_entries()
        if programs > trace.programs:
            raise EmulationError(
                f"{programs - trace.programs} programs were compiled after the trace that is captured at {trace.line}: a "
                "replay may write where their kernels lie. Compile them first, or release the trace and capture it anew"
            )
        trace.execute()
        self._allocated = [a for a in self._allocated if a.tensor() is not None]
        for allocated in self._allocated:
            if allocated.number > trace.ended:
                allocated.overwrite(trace)

    def release(self, device: Any, trace_id: TraceId) -> None:
        self._of_manager(trace_id)
        del self._traces[trace_id]
        if not self._traces:
            self._allocated = []

    def functions(self) -> dict[str, Callable[..., Any]]:
        """ttnn's functions about traces and queues. Everything runs in order, so that events have nothing to wait for."""

        def no_wait(name: str) -> Callable[..., None]:
            return lambda *args, **kwargs: self.refuse_in_capture(f"ttnn.{name}")

        return {
            "begin_trace_capture": self.begin,
            "end_trace_capture": self.end,
            "execute_trace": self.execute,
            "release_trace": self.release,
            **{n: no_wait(n) for n in ("synchronize_device", "record_event", "wait_for_event", "event_synchronize")},
        }

    def _of_manager(self, trace_id: TraceId) -> Trace:
        trace = self._found(trace_id)
        if trace.manager != self.sub_devices.loaded:
            raise EmulationError(
                f"the trace captured at {trace.line} belongs to the sub-devices that were loaded then, and others are"
            )
        return trace

    def _found(self, trace_id: TraceId | None) -> Trace:
        if trace_id not in self._traces:
            raise EmulationError(f"there is no {trace_id}: it was never captured, or released")
        return self._traces[trace_id]
