"""From token ids to hidden states, and what stands for parts of a model."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F

from fx2ttnn.ir import Op
from fx2ttnn.ops.stored import selected
from fx2ttnn.ops.table import MOVEMENT, Strategy, operation, per_element


@operation(
    "ids# [...], weight [_ H] -> [... H]",
    "rows: tuple?",
    kind=MOVEMENT,
    split=lambda graph, op: [Strategy(("R", 1), (2,)), Strategy((0, "R"), (0,))],
)
def embedding(run: Any, op: Op, args: list[Any]) -> Any:
    """The row of each id."""
    return F.embedding(args[0], selected(args[1], op.attrs.get("rows")))


@operation("x [B _ H] -> [B T H]", split=lambda graph, op: [Strategy((2,), (2,))])
def last_tile(run: Any, op: Op, args: list[Any]) -> Any:
    """Of a chunk of a prompt the tile of 32 tokens that holds the last one that counts."""
    raise NotImplementedError("which token is the last one is known when a prompt is there")


@operation("hidden [...] -> [...]", "takes: value, gives: value, index: int, like: str", flops=per_element(0))
def layer(run: Any, op: Op, args: list[Any]) -> Any:
    """Layer `index`, which equals the layer `like`: that one's ops with `takes` replaced, up to `gives`, with weights and cache of its own."""
    return run.layer(op, args[0])


@operation("inputs [...]+? -> [...]", "why: str", planned=False)
def uncaptured(run: Any, op: Op, args: list[Any]) -> Any:
    """A module that could not be traced."""
    raise NotImplementedError(f"{op.module}: {op.attrs['why']}")
