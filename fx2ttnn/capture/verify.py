"""What must hold of a captured graph and cannot be seen while it is traced."""

from __future__ import annotations

from fx2ttnn.errors import CaptureError
from fx2ttnn.ir import Graph


def check_attention(graph: Graph) -> None:
    """Raises CaptureError if a cache is read by anything but attention, or if there is no attention.

    A model that computes attention itself would attend to positions that hold nothing: it was given no mask.
    """
    users = graph.users()
    for op in graph.ops:
        if op.name != "update_cache":
            continue
        for place, value in enumerate(op.outputs, start=1):
            for user in users.get(value, []):
                if user.name != "attention" or user.args[place] != value or user.inputs.count(value) != 1:  # type: ignore[arg-type]
                    raise CaptureError(
                        f"{user.module}: {user.name} reads the cache of layer {op.attrs['layer']};"
                        " only transformers' attention interface may"
                    )
    if not any(op.name == "attention" for op in graph.ops):
        raise CaptureError("the model has no attention layer with a cache")


def check_layers(graph: Graph) -> None:
    """Raises CaptureError unless each folded layer's `takes` is made outside, and `gives` inside, the layer it equals."""
    producers = graph.producers()
    for op in graph.ops:
        if op.name != "layer":
            continue
        like = op.attrs["like"]
        inside = {name for name, maker in producers.items() if f"{maker.module}.".startswith(f"{like}.")}
        if op.attrs["takes"] in inside or op.attrs["gives"] not in inside:
            raise CaptureError(f"{op.module}: what {like} takes and gives cannot be told from its own values")
