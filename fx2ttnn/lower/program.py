"""All that is emitted of a model: the decode step and the prefill of a chunk of a prompt, for each supported length."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from fx2ttnn.lower.host import on_host
from fx2ttnn.lower.lengths import alike, merge
from fx2ttnn.lower.values import Call, Lowered, Parameter
from fx2ttnn.names import layer_of
from fx2ttnn.plan import Plan
from fx2ttnn.plan.segments import layer_counts

SHORT = "short_prefill"  # a mode beside prefill where short chunks run otherwise than long ones


@dataclass(frozen=True)
class Program:
    """`prefill_plans` and `lengths` go by the number of tokens of a chunk; weights and caches are those of decode."""

    plan: Plan
    decode: Lowered
    prefill_plans: Mapping[int, Plan]
    lengths: Mapping[int, Lowered]
    sampling: Lowered | None = None  # from the logits to the next tokens

    @cached_property
    def by_mode(self) -> dict[str, dict[int, Lowered]]:
        """The lengths of a chunk that each mode of prefill serves: those whose calls are not the longest chunk's have a mode of their own."""
        longest = self.lengths[max(self.lengths)]
        short = {n: lowered for n, lowered in self.lengths.items() if not alike(lowered, longest)}
        found = {"prefill": {n: lowered for n, lowered in self.lengths.items() if n not in short}}
        return {**found, SHORT: short} if short else found

    def mode_of(self, tokens: int) -> str:
        """The mode that runs a chunk of so many tokens."""
        return next(mode for mode, lengths in self.by_mode.items() if tokens in lengths)

    @cached_property
    def modes(self) -> dict[str, Lowered]:
        """The ttnn graph of each method that a module has; that of prefill with arguments by length."""
        model = {"decode": self.decode, **{mode: merge(lengths) for mode, lengths in self.by_mode.items()}}
        return model if self.sampling is None else {**model, "sample": self.sampling}

    @property
    def prefill_plan(self) -> Plan:
        """That of the longest chunk."""
        return self.prefill_plans[max(self.prefill_plans)]

    @property
    def plans(self) -> dict[str, Plan]:
        """The plan of each mode; a prefill's is that of its longest chunk."""
        return {"decode": self.plan} | {mode: self.prefill_plans[max(found)] for mode, found in self.by_mode.items()}

    @property
    def whole_prompts_only(self) -> tuple[int, ...]:
        """Lengths of chunks for prompts of which no tokens were cached before: their attention divides a prompt's tokens among groups of chips
        of which only one keeps its keys and values, the others have what the same prompt's chunks left in spare pages."""
        groups = self.plan.attention_axes(0)
        return tuple(n for n, plan in self.prefill_plans.items() if plan.attention_axes(2) & groups)

    @cached_property
    def parameters(self) -> dict[str, Parameter]:
        """Every tensor made from the checkpoint."""
        return {key: p for lowered in reversed(self.modes.values()) for key, p in lowered.parameters.items()}

    @property
    def has_resources(self) -> bool:
        """Whether any operation needs semaphores or persistent buffers."""
        return any(parameter.resource for parameter in self.parameters.values())

    @cached_property
    def owners(self) -> dict[str, str]:
        """The module path that holds each parameter."""
        return {key: owner for lowered in reversed(self.modes.values()) for key, owner in lowered.owners.items()}

    @property
    def graphs(self) -> tuple[Lowered, ...]:
        """Every ttnn graph: of decode, of prefill at each length, and of sampling."""
        return (self.decode, *self.lengths.values(), *([] if self.sampling is None else [self.sampling]))

    def host_operations(self) -> int:
        """Operations of a whole decode step that run on the host."""
        counts = layer_counts(self.plan.capture.graph)
        return sum(counts.get(layer_of(call.op.module) or "", 1) for call in on_host(self.decode.calls))

    def calls(self) -> Iterator[tuple[Lowered, Call]]:
        """Every call with the graph it is in."""
        for lowered in self.graphs:
            for call in lowered.calls:
                yield lowered, call

    def shape(self, mode: str, value: str) -> list[int | str]:
        """Shape of one chip's part for a comment; `seq_len` where it is the length of the chunk."""
        longest = self.modes[mode].tensors[value].shape
        lengths = self.by_mode.get(mode, {})
        if len(lengths) < 2:
            return [*longest]
        sizes = {n: lowered.tensors[value].shape for n, lowered in lengths.items()}
        return [
            size if len({s[dim] for s in sizes.values()}) == 1
            else "seq_len" if all(s[dim] == n for n, s in sizes.items())
            else f"seq_len * {size / max(sizes):g}"
            for dim, size in enumerate(longest)
        ]  # fmt: skip
