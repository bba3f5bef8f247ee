"""Rotary embeddings may depend on how long a sequence is: the largest of a step's positions and one.

It is in the graph as the maximum of the positions. But what a model asks about it is often known when it is traced, as positions
stay below `max_seq_len`; and where it is not, the model may do the same whatever the answer is. Only a model that goes two
ways cannot be one graph.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

_COMPARISONS = {name: getattr(operator, name) for name in ("gt", "ge", "lt", "le")}


class Branches:
    """Answers to what a model asks with `if` where both are possible: `given` ones first, then True. Equal questions have equal answers."""

    def __init__(self, given: list[bool]) -> None:
        self._given = given
        self._answers: dict[tuple[str, int], bool] = {}

    def answer(self, question: tuple[str, int]) -> bool:
        """The answer of this trace."""
        asked = len(self._answers)
        return self._answers.setdefault(question, self._given[asked] if asked < len(self._given) else True)

    def shortest(self) -> int:
        """The least number of tokens behind which an answer changes."""
        return min(number + (name in ("gt", "le")) for name, number in self._answers)

    def others(self) -> list[list[bool]]:
        """What traces have to be given to go the ways that branched off from this one."""
        answers = list(self._answers.values())
        return [[*answers[:n], False] for n in range(len(self._given), len(answers))]


@dataclass(frozen=True)
class _Known:
    """What is known of a tensor: a number from `low` to `high`, or the answer to a `question`, a comparison with such a number."""

    tensor: torch.Tensor  # kept, so that its identity stays its own
    low: int = 0
    high: int = 0
    question: tuple[str, int] | None = None
    answer: bool | None = None


class LastPosition(TorchFunctionMode):
    """While it is active, comparisons with the maximum of `positions`, which are below `max_seq_len`, are answered where that is possible."""

    def __init__(self, positions: torch.Tensor, max_seq_len: int, branches: Branches) -> None:
        super().__init__()
        self._positions, self._max_seq_len, self._branches = positions, max_seq_len, branches
        self._known: dict[int, _Known] = {}

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(function, "__name__", "").strip("_")
        known = self._known.get(id(args[0])) if args and not kwargs else None
        if known and known.question and name == "bool":
            return self._branches.answer(known.question) if known.answer is None else known.answer
        if known and not known.question and name == "bool":  # of the number itself: it is not below 0
            return known.low > 0 or self._branches.answer(("gt", -known.low))
        if known and known.answer is not None and name == "where" and len(args) == 3:
            return args[1] if known.answer else args[2]
        result = function(*args, **(kwargs or {}))
        if name == "max" and len(args) == 1 and args[0] is self._positions and not kwargs:
            self._note(_Known(result, 0, self._max_seq_len - 1))
        elif known and not known.question and len(args) == 2 and type(args[1]) is int:
            self._note_step(known, name, args[1], result)
        return result

    def _note_step(self, known: _Known, name: str, number: int, result: torch.Tensor) -> None:
        if name == "add":
            self._note(_Known(result, known.low + number, known.high + number))
        elif name in _COMPARISONS:
            at_low, at_high = (_COMPARISONS[name](bound, number) for bound in (known.low, known.high))
            answer = at_low if at_low == at_high else None
            self._note(_Known(result, question=(name, number - known.low), answer=answer))

    def _note(self, known: _Known) -> None:
        self._known[id(known.tensor)] = known
