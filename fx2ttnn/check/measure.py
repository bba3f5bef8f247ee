"""What ttnn's graph capture and allocator say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ttnn

from fx2ttnn.check.device_ops import is_device_op


def captured(mode: Any, run: Callable[[], Any]) -> tuple[Any, Any]:
    """What `run` returns, and the trace of all that ttnn did meanwhile."""
    # Not ttnn.graph.begin_graph_capture: it records the arguments of every call in Python besides.
    ttnn._ttnn.graph.begin_graph_capture(mode)
    try:
        result = run()
    finally:
        trace = ttnn._ttnn.graph.end_graph_capture()
    return result, trace


def device_ops(trace: Any) -> list[str]:
    """Names of the device operations of a trace, in order."""
    return [name for name in ttnn.graph.extract_calltrace(trace) if is_device_op(name)]


def peak_l1(trace: Any) -> int:
    """Bytes on the fullest core: buffers, circular buffers, dataflow buffers and scratchpads that live at once.

    Only a trace of RunMode.NO_DISPATCH holds the last three.
    """
    return ttnn.graph.extract_resource_usage_per_core(trace).peak_total


def semaphores(device: Any) -> int:
    """Bytes of each core's L1_SMALL region that ttnn has given out: semaphores of collectives, which live as long as their programs."""
    return ttnn._ttnn.device.GetMemoryView(device, ttnn.BufferType.L1_SMALL).total_bytes_allocated_per_bank


def dram_in_use(device: Any) -> int:
    """Bytes that ttnn's allocator has given out in the DRAM of each chip; it allocates the same on all chips."""
    view = ttnn._ttnn.device.GetMemoryView(device, ttnn.BufferType.DRAM)
    return view.total_bytes_allocated_per_bank * view.num_banks
