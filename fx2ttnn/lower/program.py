"""All that is emitted of a model: the decode step and the prefill of a chunk of a prompt, for each supported length."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from fx2ttnn.lower.host import on_host
from fx2ttnn.lower.lengths import merge
from fx2ttnn.lower.values import Call, Lowered, Parameter
from fx2ttnn.names import layer_of
from fx2ttnn.plan import Plan
from fx2ttnn.plan.segments import layer_counts


@dataclass(frozen=True)
class Program:
    """`prefill` and `lengths` go by the number of tokens of a chunk; weights and caches are those of decode."""

    plan: Plan
    decode: Lowered
    prefill_plan: Plan
    lengths: Mapping[int, Lowered]
    sampling: Lowered | None = None  # from the logits to the next tokens

    @cached_property
    def modes(self) -> dict[str, Lowered]:
        """The ttnn graph of each method that a module has; that of prefill with arguments by length."""
        model = {"decode": self.decode, "prefill": merge(self.lengths)}
        return model if self.sampling is None else {**model, "sample": self.sampling}

    @property
    def plans(self) -> dict[str, Plan]:
        """The plan of each mode; prefill's is that of the longest chunk."""
        return {"decode": self.plan, "prefill": self.prefill_plan}

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
        if mode != "prefill" or len(self.lengths) < 2:
            return [*longest]
        sizes = {n: lowered.tensors[value].shape for n, lowered in self.lengths.items()}
        return [
            size if len({s[dim] for s in sizes.values()}) == 1
            else "seq_len" if all(s[dim] == n for n, s in sizes.items())
            else f"seq_len * {size / max(sizes):g}"
            for dim, size in enumerate(longest)
        ]  # fmt: skip
