"""The predicted time of a step: that of its ttnn calls, each as often as the model has its layer, with where each figure comes from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from fx2ttnn.cost.calls import DeviceOp, Load, Pricer
from fx2ttnn.cost.kernels import PER_MICROSECOND
from fx2ttnn.cost.prefetching import waiting
from fx2ttnn.lower.program import Program
from fx2ttnn.lower.values import Call, Lowered
from fx2ttnn.names import layer_of
from fx2ttnn.plan import Plan
from fx2ttnn.plan.segments import layer_counts
from fx2ttnn.profile.census import Row
from fx2ttnn.profile.figures import Figure, figures
from fx2ttnn.targets import Target

SHORT = 128  # tokens behind a step: what published figures are mostly of
PROMPTS = (128, 4096, 32_768)  # tokens of prompts whose first token is told


@dataclass(frozen=True)
class Priced:
    """One call, the device operations that it runs, microseconds before each of them, and how often a step runs the call."""

    call: Call
    device_ops: tuple[DeviceOp, ...]
    gap: float
    count: int
    prefetched: float = 0.0  # bytes of the weight that it reads, where that is prefetched

    @cached_property
    def seconds(self) -> float:
        """Of one run."""
        return sum(self.gap + op.kernel.us for op in self.device_ops) / 1e6


@dataclass(frozen=True)
class Predicted:
    """A step on `target` under one load."""

    target: Target
    load: Load
    calls: tuple[Priced, ...]

    @property
    def rests_on(self) -> tuple[Figure, ...]:
        """All figures of device operations; their sources are read from the target's files."""
        return figures(self.target, "cost", "channel_bandwidth")

    @cached_property
    def seconds(self) -> float:
        return self.waiting + sum(priced.count * priced.seconds for priced in self.calls)

    @cached_property
    def waiting(self) -> float:
        """Seconds that matmuls of layers wait for prefetched weights; of each kind of layer as if it stood alone."""
        prefetcher = self.target.working_prefetcher
        if prefetcher is None:
            return 0.0
        layers: dict[str, list[Priced]] = {}
        for priced in self.calls:
            if layer := layer_of(priced.call.op.module):
                layers.setdefault(layer, []).append(priced)
        room, stream = (
            prefetcher.buffer_bytes * len(prefetcher.ring),
            self.target.costs.ring_matmul.stream * PER_MICROSECOND,
        )
        return sum(
            waiting([(one.seconds * 1e6, one.prefetched) for one in calls] * calls[0].count, room, stream) / 1e6
            for calls in layers.values()
        )

    @property
    def tokens_per_second_per_user(self) -> float:
        """A step gives each user one token."""
        return 1 / self.seconds

    @cached_property
    def by_value(self) -> Mapping[str, float]:
        """Seconds of one planned operation over all layers, by its first output; a joined one by that of the last it stands for."""
        found: dict[str, float] = {}
        for priced in self.calls:
            value = str(priced.call.op.members[-1].outputs[0])
            found[value] = found.get(value, 0.0) + priced.count * priced.seconds
        return found

    @cached_property
    def by_op(self) -> Mapping[str, float]:
        """Seconds of a step by the device operation's name, with the gaps, the longest first."""
        found: dict[str, float] = {}
        for priced in self.calls:
            for op in priced.device_ops:
                found[op.name] = found.get(op.name, 0.0) + priced.count * (priced.gap + op.kernel.us) / 1e6
        if self.waiting:
            found["waiting for prefetched weights"] = self.waiting
        return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))

    @cached_property
    def device_ops(self) -> int:
        """How many a step runs."""
        return sum(priced.count * len(priced.device_ops) for priced in self.calls)

    @cached_property
    def unmeasured(self) -> Mapping[str, int]:
        """Device operations of which nobody published a time, with how many a step has."""
        found: dict[str, int] = {}
        for priced in self.calls:
            for op in priced.device_ops:
                if not op.kernel.measured:
                    found[op.name] = found.get(op.name, 0) + priced.count
        return dict(sorted(found.items()))

    def of_call(self, call: Call) -> Priced:
        """What is predicted of one of the calls."""
        return self._by_call[id(call)]

    @cached_property
    def _by_call(self) -> Mapping[int, Priced]:
        return {id(priced.call): priced for priced in self.calls}

    def of_row(self, row: Row) -> float:
        """Seconds of all runs of a census row in one step."""
        return sum(self.by_value.get(value, 0.0) for value in row.values)

    def to_json(self) -> dict[str, Any]:
        return {
            "users": self.load.users,
            "context": self.load.context,
            "step_seconds": self.seconds,
            "tokens_per_second_per_user": self.tokens_per_second_per_user,
            "device_ops": self.device_ops,
            "seconds_by_op": dict(self.by_op),
            "unmeasured": dict(self.unmeasured),
            "rests_on": [vars(figure) for figure in self.rests_on],
        }


def predicted(plan: Plan, lowered: Lowered, load: Load | None = None) -> Predicted:
    """A step of `lowered`, which `plan` became; without a `load` with all users and full caches."""
    load = load or Load(plan.capture.users, plan.capture.max_seq_len)
    pricer, counts = Pricer(plan.target, lowered.tensors, load), layer_counts(plan.capture.graph)
    gap = plan.target.costs.gap
    calls = tuple(
        Priced(
            call,
            pricer.device_ops(call),
            gap,
            counts.get(layer_of(call.op.module) or "", 1),
            pricer.prefetched(call),
        )
        for call in lowered.calls
    )
    return Predicted(plan.target, load, calls)


def loads(plan: Plan) -> tuple[Load, ...]:
    """What a decode step is told for: one user and all, with a short text and with a full cache."""
    contexts = dict.fromkeys((min(SHORT, plan.capture.max_seq_len), plan.capture.max_seq_len))
    return tuple(Load(users, context) for context in contexts for users in dict.fromkeys((1, plan.capture.users)))


def chunks(count: int, lengths: Iterable[int]) -> list[tuple[int, int]]:
    """(first token, length) of the chunks in which the emitted generator runs a prompt of `count` tokens."""
    first, found = 0, []
    while first < count:
        fitting = [n for n in lengths if first % n == 0 and 2 * (count - first) >= n]
        found.append((first, max(fitting, default=min(lengths))))
        first += found[-1][1]
    return found


@dataclass(frozen=True)
class FirstToken:
    """Predicted seconds from a prompt of one user to the token behind it: its `chunks` (tokens of each) one after another, and the draw.

    The host is not in it: as if all chunks were submitted before the first one ends, which holds for traces.
    """

    tokens: int
    chunks: tuple[int, ...]
    seconds: float

    def to_json(self) -> dict[str, Any]:
        return {"tokens": self.tokens, "chunks": list(self.chunks), "seconds": self.seconds}


def first_tokens(program: Program, prompts: Iterable[int] = PROMPTS) -> tuple[FirstToken, ...]:
    """The first token of prompts of so many tokens, as far as the cache takes them."""
    longest = program.plan.capture.max_seq_len
    draw = program.sampling and predicted(program.plan, program.sampling, Load(1, longest)).seconds
    found = []
    for tokens in dict.fromkeys(min(n, longest) for n in prompts):
        steps = [
            (length, predicted(program.prefill_plans[length], program.lengths[length], Load(1, first + length)).seconds)
            for first, length in chunks(tokens, program.lengths)
        ]
        seconds = sum(seconds for _, seconds in steps) + (draw or 0.0)
        found.append(FirstToken(tokens, tuple(length for length, _ in steps), seconds))
    return tuple(found)
