"""The key/value cache that a model sees while it is traced: it records updates and holds nothing."""

from __future__ import annotations

from typing import Any, ClassVar, NoReturn

import torch
from transformers.cache_utils import Cache

from fx2ttnn.capture.length import Length
from fx2ttnn.errors import CaptureError


class IndexUsed(Exception):
    """A layer computed something from its own index, so that it cannot stand for its siblings."""


class LayerSlot:
    """Stands for a layer's index while that layer is traced on behalf of its siblings.

    Only the cache may read it. It is no int, so that any arithmetic, comparison, branch, lookup or conversion fails.
    """

    __slots__ = ("_index", "used")
    __hash__ = None  # type: ignore[assignment]  # a dict lookup by index is a use of the index

    def __init__(self, index: int) -> None:
        self._index = index
        self.used = False

    def _fail(self, *_: Any) -> NoReturn:
        self.used = True
        raise IndexUsed

    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = _fail  # type: ignore[assignment]
    __bool__ = __int__ = __index__ = __float__ = __str__ = __repr__ = __format__ = _fail  # type: ignore[assignment]
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = _fail
    __floordiv__ = __rfloordiv__ = __mod__ = __rmod__ = __pow__ = __rpow__ = __neg__ = __iter__ = _fail


def slot_number(slot: LayerSlot) -> int:
    """The index a slot stands for, without counting as a use."""
    return slot._index


class TracedCache(Cache):
    """Turns each update into one `update_cache` op; what it cannot express raises CaptureError.

    `plain_updates` counts updates whose layer index was a plain number. `positions` [B, S] are those of the step's tokens.
    """

    def __init__(self, max_seq_len: int, positions: torch.Tensor | None = None) -> None:
        super().__init__(layers=[])
        self.max_seq_len = max_seq_len
        self._positions = positions
        self.updates = 0
        self.plain_updates = 0

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: Any, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """key and value [B, Hkv, S, D] -> the layer's whole cache, [B, Hkv, max_seq_len, D] each."""
        self.updates += 1
        if isinstance(layer_idx, LayerSlot):
            layer_idx = slot_number(layer_idx)
        else:
            self.plain_updates += 1
        return torch.ops.fx2ttnn.update_cache(key_states, value_states, layer_idx, self.max_seq_len)

    def get_mask_sizes(self, query_length: int, layer_idx: Any) -> tuple[int, int]:
        """Key length and offset; only handed on to the mask function, which ignores them."""
        return self.max_seq_len, 0

    def get_query_offset(self, layer_idx: Any = 0) -> int:
        """Only handed on to the mask function, which ignores it."""
        return 0

    def get_seq_length(self, layer_idx: Any = 0) -> Any:
        """How much the cache holds: a value that can say nothing (see length.py)."""
        return Length(self._positions)

    def get_max_length(self, layer_idx: Any = None) -> int:
        """The number of positions each layer holds."""
        return self.max_seq_len

    def __len__(self) -> int:
        return 0

    def __bool__(self) -> bool:
        return True

    # Models look at these to choose masks and code paths; a static cache answers the same.
    is_compileable = True  # type: ignore[assignment]
    is_initialized = True  # type: ignore[assignment]
    is_sliding: ClassVar[list[bool]] = []  # type: ignore[assignment,misc]


class SizedCache(TracedCache):
    """A cache that holds `past` tokens and takes `tokens` more: for models whose own attention asks for its length."""

    is_compileable = False  # type: ignore[assignment]

    def __init__(self, past: int, tokens: int) -> None:
        super().__init__(past + tokens)
        self.past = past

    def get_seq_length(self, layer_idx: Any = 0) -> int:
        """The tokens it holds before the step."""
        return self.past

    def get_query_offset(self, layer_idx: Any = 0) -> int:
        """The position of the step's first token."""
        return self.past


def _refuse(name: str) -> Any:
    def refused(self: TracedCache, *args: Any, **kwargs: Any) -> NoReturn:
        raise CaptureError(
            f"the model calls `{name}` of its cache; only attention caches that are updated through `update` are supported"
        )

    return refused


# Everything else that transformers' caches can do would change the maths unseen (or depend on the length so far).
for _name, _member in list(vars(Cache).items()):
    if callable(_member) and not _name.startswith("_") and _name not in vars(TracedCache):
        setattr(TracedCache, _name, _refuse(_name))
