"""From ATen ops to the operations of a transformer: linear, rms_norm, rotary, attention, …"""

from __future__ import annotations

from dataclasses import replace

from fx2ttnn.graph.passes import Watch, run
from fx2ttnn.ir import Capture
from fx2ttnn.recognise.passes import passes


def recognise(capture: Capture, watch: Watch | None = None, neighbours: bool = False, parts: int = 1) -> Capture:
    """The capture with its graph in terms of transformer operations; ops that no pattern knows stay as they are.

    `watch` sees the graph before and after each pass. `neighbours`: columns of heads that rotate together come to stand side by side where they can. Columns
    between linear layers get zeros behind them so that each of `parts` chips has whole tiles.
    """
    graph = run(capture.graph, passes(capture.graph.name, capture.max_seq_len, neighbours, parts), watch)
    return replace(capture, graph=graph)
