"""From ATen ops to the operations of a transformer: linear, rms_norm, rotary, attention, …"""

from __future__ import annotations

from dataclasses import replace

from fx2ttnn.graph.passes import Watch, run
from fx2ttnn.ir import Capture
from fx2ttnn.recognise.passes import passes


def recognise(capture: Capture, watch: Watch | None = None, neighbours: bool = False) -> Capture:
    """The capture with its graph in terms of transformer operations; ops that no pattern knows stay as they are.

    `watch` sees the graph before and after each pass. `neighbours`: columns of heads that rotate together come to stand side by side where they can.
    """
    graph = run(capture.graph, passes(capture.graph.name, capture.max_seq_len, neighbours), watch)
    return replace(capture, graph=graph)
