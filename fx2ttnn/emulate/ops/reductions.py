"""Sums, extremes, orders and choices along a dim."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from fx2ttnn.emulate.chips import LEAD, common_chips, on_chips, own_dim
from fx2ttnn.emulate.registry import emulates

_REDUCE: dict[str, Callable[..., torch.Tensor]] = {
    "sum": torch.sum,
    "mean": torch.mean,
    "max": torch.amax,
    "min": torch.amin,
}


def _reduction(function: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    def emulation(
        input_tensor: torch.Tensor, dim: Any = None, keepdim: bool = False, scalar: float = 1.0
    ) -> torch.Tensor:
        dims = range(input_tensor.dim() - LEAD) if dim is None else [dim] if isinstance(dim, int) else dim
        out = function(input_tensor, dim=tuple(own_dim(input_tensor, d) for d in dims), keepdim=keepdim)
        return out if scalar == 1.0 else out * scalar

    return emulation


for _name, _function in _REDUCE.items():
    emulates(f"ttnn.{_name}")(_reduction(_function))


@emulates("ttnn.softmax", "ttnn.softmax_in_place")
def softmax(input_tensor: torch.Tensor, dim: int = -1) -> torch.Tensor:
    return torch.softmax(input_tensor, dim=own_dim(input_tensor, dim))


@emulates("ttnn.argmax")
def argmax(input_tensor: torch.Tensor, dim: int | None = None, keepdim: bool = False, *, real: Any) -> torch.Tensor:
    flat = input_tensor.flatten(LEAD) if dim is None else input_tensor
    out = flat.argmax(dim=-1 if dim is None else own_dim(flat, dim), keepdim=keepdim and dim is not None)
    return out.reshape(*out.shape[:LEAD], *real.shape) if dim is None else out


@emulates("ttnn.topk")
def topk(
    input_tensor: torch.Tensor,
    k: int = 32,
    dim: int = -1,
    largest: bool = True,
    sorted: bool = True,
    *,
    indices_tensor: torch.Tensor | None = None,
    stable: bool = False,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Values and their places along the dim, or what `indices_tensor` holds at these places."""
    at = own_dim(input_tensor, dim)
    if stable:
        values, places = (x.narrow(at, 0, k) for x in input_tensor.sort(dim=at, descending=largest, stable=True))
    else:
        values, places = torch.topk(input_tensor, k, dim=at, largest=largest)
    if indices_tensor is None:
        return values, places
    chips = common_chips(places, indices_tensor)
    return values, on_chips(indices_tensor, chips).gather(at, on_chips(places, chips))


@emulates("ttnn.sort")
def sort(input_tensor: torch.Tensor, dim: int = -1, descending: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    found = torch.sort(input_tensor, dim=own_dim(input_tensor, dim), descending=descending, stable=True)
    return found.values, found.indices


class Chance:
    """A generator of random numbers for each user's core, which goes on where its last draw ended unless it is seeded."""

    KEPT = 2**32 - 1  # a seed that leaves the generator as it is

    def __init__(self) -> None:
        self._users: dict[int, torch.Generator] = {}

    def seed(self, user: int, seed: int) -> None:
        if seed != self.KEPT:
            self._of(user).manual_seed(seed)

    def draw(self, users: int) -> torch.Tensor:
        """A number from 0 to 1 for each of so many users."""
        return torch.cat([torch.rand(1, generator=self._of(user)) for user in range(users)])

    def _of(self, user: int) -> torch.Generator:
        if user not in self._users:
            self._users[user] = torch.Generator().manual_seed(user)
        return self._users[user]


USERS = 32  # that one call samples for, each on a core of its own
CHANCE = Chance()


@emulates("ttnn.manual_seed", raw=True)
def manual_seed(seeds: Any, *, user_ids: Any = None, real: Any) -> torch.Tensor:
    """Starts the random numbers of some users anew, or of all. The result has no meaning."""
    users = list(range(USERS)) if user_ids is None else _listed(user_ids)
    for user, seed in zip(users, [seeds] * len(users) if isinstance(seeds, int) else _listed(seeds), strict=False):
        CHANCE.seed(user, seed)
    return torch.zeros(1, 1, *real.shape)


def _listed(numbers: Any) -> list[int]:
    """An integer, or those of a tensor that is the same on all chips."""
    return [numbers] if isinstance(numbers, int) else numbers.value[0, 0].flatten().tolist()


@emulates("ttnn.sampling")
def sampling(
    input_values_tensor: torch.Tensor,
    input_indices_tensor: torch.Tensor,
    k: torch.Tensor,
    p: torch.Tensor,
    temp: torch.Tensor,
    seed: int | None = None,
) -> torch.Tensor:
    """One of the top k within the mass p for each user: values [1, 1, B, W] -> [1, 1, 1, B].

    A user's random number is the same on all chips. The chip draws other numbers from the same distribution. `seed` is one for
    all users, who then draw the same number; 0 is none.
    """
    inputs = (input_values_tensor, input_indices_tensor, k, p, temp)
    values, indices, k, p, temp = (on_chips(x, common_chips(*inputs)) for x in inputs)
    order = (values[:, :, 0, 0] * temp[..., None]).sort(dim=-1, descending=True, stable=True)  # `temp`: 1 / temperature
    rank = torch.arange(values.shape[-1])
    kept = order.values.masked_fill(rank >= k[..., None], float("-inf"))
    probabilities = torch.softmax(kept, dim=-1)
    before = probabilities.cumsum(-1) - probabilities
    mass = probabilities.masked_fill((before > p[..., None]) | (rank >= k[..., None]), 0).cumsum(-1)
    users = values.shape[-2]
    if seed:
        for user in range(users):
            CHANCE.seed(user, seed)
    drawn = CHANCE.draw(users)[:, None] * mass[..., -1:]
    chosen = order.indices.gather(-1, (mass[..., :-1] <= drawn).sum(-1, keepdim=True))
    return indices[:, :, 0, 0].gather(-1, chosen).transpose(-1, -2)[:, :, None, None]
