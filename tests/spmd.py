"""A mesh of chips that each hold a torch tensor, moved about by the textbook meaning of each collective."""

from __future__ import annotations

import torch

from fx2ttnn.ir import PARTIAL, REPLICATED, Placement

Chips = dict[tuple[int, ...], torch.Tensor]  # coordinates on the mesh -> what the chip holds


def distribute(whole: torch.Tensor, placement: Placement, mesh: tuple[int, ...]) -> Chips:
    """Each chip's part. A dim split over two axes is split over the first of them first; summands are random."""
    chips: Chips = {(): whole}
    for entry, n in zip(placement.axes, mesh, strict=True):
        chips = {(*at, i): part for at, held in chips.items() for i, part in enumerate(_parts(held, entry, n))}
    return chips


def _parts(held: torch.Tensor, entry: str | int, n: int) -> list[torch.Tensor]:
    if entry == REPLICATED:
        return [held] * n
    if entry == PARTIAL:
        noise = [torch.randint(-9, 9, held.shape).to(held.dtype) for _ in range(n - 1)]
        return [*noise, held - sum(noise)] if noise else [held]
    assert held.shape[int(entry)] % n == 0, "a split that does not divide"
    return list(held.chunk(n, dim=int(entry)))


def collective(chips: Chips, name: str, axis: int, dim: int | None = None) -> Chips:
    """One collective over a mesh axis: what every chip holds afterwards."""
    out: Chips = {}
    for at in chips:
        line = [
            chips[key]
            for key in sorted(chips)
            if all(k == a for i, (k, a) in enumerate(zip(key, at, strict=True)) if i != axis)
        ]
        n, mine = len(line), at[axis]
        match name:
            case "all_reduce":
                out[at] = sum(line)
            case "reduce_scatter":
                out[at] = sum(line).chunk(n, dim=dim)[mine]
            case "all_gather":
                out[at] = torch.cat(line, dim=dim)
            case "mesh_partition":
                out[at] = chips[at].chunk(n, dim=dim)[mine]
            case _:
                raise AssertionError(f"unknown collective {name}")
    return out


def summed(chips: Chips, placement: Placement) -> Chips:
    """The chips with the summands of every partial axis added up."""
    for axis in placement.partial_axes:
        chips = collective(chips, "all_reduce", axis)
    return chips


def lies(
    chips: Chips, whole: torch.Tensor, placement: Placement, mesh: tuple[int, ...], tolerance: float = 1e-9
) -> bool:
    """Whether the chips hold `whole` as `placement` says."""
    goal = distribute(whole, Placement(tuple(REPLICATED if a == PARTIAL else a for a in placement.axes)), mesh)
    found = summed(chips, placement)
    return all(
        found[at].shape == goal[at].shape and torch.allclose(found[at], goal[at], atol=tolerance, rtol=tolerance)
        for at in goal
    )
