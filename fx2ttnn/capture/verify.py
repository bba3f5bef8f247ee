"""What must hold of a captured graph and cannot be seen while it is traced."""

from __future__ import annotations

from collections.abc import Iterator

from fx2ttnn.errors import CaptureError
from fx2ttnn.ir import Graph, Op
from fx2ttnn.names import lies_in


def check_attention(graph: Graph) -> None:
    """Raises CaptureError if a cache is read by anything but attention, or if there is no attention."""
    for cache, user in _other_readers(graph):
        raise CaptureError(
            f"{user.module}: {user.name} reads the cache of layer {cache.attrs['layer']}; only attention may"
        )
    if not any(op.name == "attention" for op in graph.ops):
        refuse_uncaptured(graph)
        raise CaptureError("the model has no attention layer with a cache")


def refuse_uncaptured(graph: Graph) -> None:
    """Raises CaptureError if a module stands as one op, for graphs of which a report would say nothing."""
    for op in graph.ops:
        if op.name == "uncaptured":
            raise CaptureError(f"{op.module}: {op.attrs['why']}")


def reads_caches_itself(graph: Graph) -> bool:
    """Whether something reads a cache that is no `attention` op: it was given no mask, so it attends to positions that hold nothing."""
    return any(True for _ in _other_readers(graph))


def _other_readers(graph: Graph) -> Iterator[tuple[Op, Op]]:
    """Each update of a cache with each op that reads what it gives and is no attention over it."""
    users = graph.users()
    for op in graph.ops:
        if op.name != "update_cache":
            continue
        for place, value in enumerate(op.outputs, start=1):
            for user in users.get(value, []):
                if user.name != "attention" or user.args[place] != value or user.inputs.count(value) != 1:  # type: ignore[arg-type]
                    yield op, user


def check_layers(graph: Graph) -> None:
    """Raises CaptureError unless each folded layer's `takes` is made outside, and `gives` inside, the layer it equals."""
    producers = graph.producers()
    for op in graph.ops:
        if op.name != "layer":
            continue
        like = op.attrs["like"]
        inside = {name for name, maker in producers.items() if lies_in(maker.module, like)}
        if op.attrs["takes"] in inside or op.attrs["gives"] not in inside:
            raise CaptureError(f"{op.module}: what {like} takes and gives cannot be told from its own values")
