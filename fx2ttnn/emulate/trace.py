"""Traces: a list of calls that is captured once and executed again and again.

As on a card, a capture runs nothing: the results have no numbers until the trace is executed, and reading them says so. An
execution computes the recorded calls anew into the same tensors, without calling ttnn. Whatever passes between host and device
inside a capture is an error, for it would not be replayed. ttnn's own trace functions are never called: they crash on a mock.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from fx2ttnn.emulate.call import Call
from fx2ttnn.emulate.tensor import EmulatedTensor, EmulationError, Numbers


@dataclass(frozen=True)
class TraceId:
    """What a program holds of a trace."""

    number: int


@dataclass
class Trace:
    """The calls, the tensors they made, and after each call the numbers that nobody needs any more."""

    calls: list[Call] = field(default_factory=list)
    made: list[tuple[Numbers, weakref.ref[EmulatedTensor]]] = field(default_factory=list)
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
        for call, unused in zip(self.calls, self.last_used, strict=True):
            call.run()
            for numbers in unused:
                numbers.release()


class Traces:
    """The traces of one mesh."""

    def __init__(self) -> None:
        self._traces: dict[TraceId, Trace] = {}
        self._capturing: TraceId | None = None
        self._count = 0

    @property
    def capturing(self) -> bool:
        return self._capturing is not None

    def record(self, call: Call, result: Any) -> None:
        """Add a call to the capture. `result`: the tensor(s) that it returns to the program."""
        trace = self._found(self._capturing)
        trace.calls.append(call)
        if not call.overwrites:
            results = result if isinstance(result, (list, tuple)) else [] if result is None else [result]
            trace.made += [(tensor.numbers, weakref.ref(tensor)) for tensor in results]

    def refuse_in_capture(self, name: str) -> None:
        if self.capturing:
            raise EmulationError(f"{name} inside a trace capture: a trace holds no transfer between host and device")

    def begin(self, device: Any, *, cq_id: Any = None) -> TraceId:
        if self.capturing:
            raise EmulationError("ttnn.begin_trace_capture inside a trace capture")
        self._count += 1
        self._capturing = TraceId(self._count)
        self._traces[self._capturing] = Trace()
        return self._capturing

    def end(self, device: Any, trace_id: TraceId, *, cq_id: Any = None) -> None:
        if trace_id != self._capturing:
            raise EmulationError(f"ttnn.end_trace_capture: {trace_id} is not being captured")
        self._found(trace_id).finish()
        self._capturing = None

    def execute(self, device: Any, trace_id: TraceId, *, cq_id: Any = None, blocking: bool = True) -> None:
        if self.capturing:
            raise EmulationError("ttnn.execute_trace inside a trace capture")
        self._found(trace_id).execute()

    def release(self, device: Any, trace_id: TraceId) -> None:
        self._found(trace_id)
        del self._traces[trace_id]

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

    def _found(self, trace_id: TraceId | None) -> Trace:
        if trace_id not in self._traces:
            raise EmulationError(f"there is no {trace_id}: it was never captured, or released")
        return self._traces[trace_id]
