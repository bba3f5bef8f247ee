"""How large the weights that make queries and keys must be for attention's scores to be a few units.

With a model's initial weights attention is nearly flat: a scale or a window that is a little off would change little.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from fx2ttnn.ir import Capture, Graph, Op, refs
from fx2ttnn.names import layer_of
from fx2ttnn.ops import NORMS

# Their standard deviation over the keys of a query. A scale that is off changes most at 2 (measured: less at 1 and at 3). In mixtures of
# experts it is 1, where rounding changes no more choices than in flat attention.
SCORES, SCORES_OF_MIXTURES = 2.0, 1.0


@dataclass
class Sizes:
    """Of parameters by their name in the checkpoint, and of keys by layer.

    `matrices`: the standard deviation of a matrix's elements. `vectors`: a factor and a summand for weights of norms, and for sinks.
    `keys`: the size of a layer's keys.
    """

    matrices: dict[str, float] = field(default_factory=dict)
    vectors: dict[str, tuple[float, float]] = field(default_factory=dict)
    keys: dict[int, float] = field(default_factory=dict)


@dataclass(frozen=True)
class _Path:
    """How queries or keys come from a matrix: the weights [matrix's name, its columns], what else is multiplied (name, offset), and a norm's epsilon."""

    vectors: tuple[tuple[str, float], ...] = ()
    epsilon: float | None = None
    matrices: tuple[tuple[str, int], ...] = ()
    biased: bool = False


def sizes_of_scores(capture: Capture, scores: float) -> Sizes:
    """Sizes that give q . k * scaling the deviation `scores` in every layer: elements of queries and keys are of one size.

    A matrix's outputs have its elements' size times the root of its columns, for inputs of size 1; those of a norm have the size of its
    weights. What such a norm reads is made so small that its epsilon is a tenth of what it divides by. A norm without weights fixes the size.
    """
    found = Sizes()
    producers = capture.graph.producers()
    for op in capture.graph.ops:
        if op.name == "attention":
            _add(found, op, capture.graph, producers, scores)
    for op in capture.graph.ops:
        if op.name == "layer":
            _copy(found, op.attrs["like"], op.module)
    return found


def _add(found: Sizes, attention: Op, graph: Graph, producers: dict[str, Op], scores: float) -> None:
    update = producers[attention.args[1]]
    paths = [p for value in (attention.args[0], update.args[0]) for p in _paths(value, graph, producers)]
    valued = {name for path in _paths(update.args[1], graph, producers) for name, _ in path.matrices}
    order = next(iter(update.attrs.get("orders", ())), None)
    columns = order[0] if order else graph.specs[attention.args[0]].shape[-1]  # without those of zeros
    scores = min(scores, attention.attrs.get("softcap") or scores)
    size = math.sqrt(scores / (abs(attention.attrs["scaling"]) * math.sqrt(columns)))
    for path in paths:
        if path.epsilon is None:
            found.matrices |= {name: _short(size / math.sqrt(width)) for name, width in path.matrices}
        elif not path.biased:
            small = {name: width for name, width in path.matrices if name not in valued}
            found.matrices |= {name: _short(3 * math.sqrt(path.epsilon / width)) for name, width in small.items()}
        found.vectors |= {name: (_short(size), _short(offset * (size - 1))) for name, offset in path.vectors}
    if (layer := layer_of(attention.module)) and all(path.epsilon is None or path.vectors for path in paths):
        found.keys[int(layer.rsplit(".", 1)[1])] = _short(size)
    # Sinks weigh as much as a key with a high score.
    found.vectors |= {graph.parameters[s]: (1.0, 2 * scores) for s in attention.args[3:] if s in graph.parameters}


def _paths(value: str, graph: Graph, producers: dict[str, Op], part: int | None = None) -> Iterator[_Path]:
    """How `value` comes from the last matrices before it; of projections that are one `linear` it is that of `part`."""
    op = producers.get(value)
    if op is None:
        return
    if op.name == "linear":
        weights = op.args[1] if isinstance(op.args[1], tuple) else op.args[1:2]
        names = {
            graph.parameters[w]: graph.specs[w].shape[-1] for w in (weights if part is None else weights[part:][:1])
        }
        yield _Path(matrices=tuple(names.items()), biased=any(refs(op.args[2:])))
        return
    if op.name == "create_qkv_heads":
        part = op.outputs.index(value)
    vectors = tuple(
        (graph.parameters[w], op.attrs.get("offset") or 0.0) for w in refs(op.args[1:2]) if w in graph.parameters
    )
    for given in op.inputs:
        for path in _paths(given, graph, producers, part):
            yield replace(
                path,
                vectors=path.vectors + vectors,
                epsilon=op.attrs["eps"] if op.name in NORMS else path.epsilon,
            )


def _copy(found: Sizes, like: str, layer: str) -> None:
    """The same for a layer that equals another one."""
    start = f"{like}."
    for sizes in (found.matrices, found.vectors):
        copied: dict[str, Any] = {
            f"{layer}.{name[len(start) :]}": size for name, size in sizes.items() if name.startswith(start)
        }
        sizes.update(copied)
    first, index = (int(path.rsplit(".", 1)[1]) for path in (like, layer))
    if first in found.keys:
        found.keys[index] = found.keys[first]


def _short(number: float) -> float:
    """To four digits."""
    return float(f"{number:.4g}")
