"""The attention and mask functions registered with transformers under the name `fx2ttnn`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

import torch

from fx2ttnn.capture.known import holds
from fx2ttnn.capture.length import NoPadding
from fx2ttnn.errors import CaptureError, OwnAttention

NAME = "fx2ttnn"

# Arguments of the attention interface that say nothing about the maths of one decode step.
_NEUTRAL = {
    "position_ids",
    "cache_position",
    "use_cache",
    "output_attentions",
    "past_key_values",
    "position_embeddings",
}


@dataclass(frozen=True)
class Mask:
    """Stands for a mask: each query sees the positions up to its own, of these the last `window`, or those of its own chunk of `chunk`.

    `unsupported` says what other mask this is. A model may ask for masks that no layer uses, so only use is an error.
    """

    window: int | None = None
    chunk: int | None = None
    unsupported: str | None = None

    def _read(self, *_: Any, **__: Any) -> NoReturn:
        raise OwnAttention("the model reads its mask itself")

    __getattr__ = __getitem__ = __add__ = __mul__ = __rsub__ = __lt__ = __gt__ = __invert__ = _read

    @classmethod
    def __torch_function__(cls, *_: Any, **__: Any) -> NoReturn:
        raise OwnAttention("the model reads its mask itself")


def mask_function(
    *args: Any,
    mask_function: Callable[..., Any],
    attention_mask: Any = None,
    local_size: int | None = None,
    batch_size: int = 1,
    **_: Any,
) -> Mask:
    """Names the mask a model asks for instead of building it."""
    from transformers import masking_utils

    if attention_mask is not None and not isinstance(attention_mask, NoPadding):
        return Mask(unsupported="a mask that the model brings itself")
    if mask_function is masking_utils.causal_mask_function:
        return Mask()
    if local_size and _same(mask_function, masking_utils.sliding_window_causal_mask_function(local_size)):
        return Mask(local_size)
    no_padding: Any = (0,) * batch_size
    if local_size and _same(mask_function, masking_utils.chunked_causal_mask_function(local_size, no_padding)):
        return Mask(chunk=local_size)
    return Mask(unsupported=f"{mask_function.__qualname__.split('.')[0]} with local size {local_size}")


def _same(a: Any, b: Any) -> bool:
    """Whether two functions have the same code and close over the same values."""
    if isinstance(a, torch.Tensor):
        return isinstance(b, tuple) and holds(a, b)
    if not (callable(a) and callable(b) and hasattr(a, "__code__") and hasattr(b, "__code__")):
        same = a == b if not isinstance(a, tuple) else len(a) == len(b) and all(map(_same, a, b))
        return type(a) is type(b) and same
    cells_a, cells_b = a.__closure__ or (), b.__closure__ or ()
    return a.__code__ is b.__code__ and all(
        _same(x.cell_contents, y.cell_contents) for x, y in zip(cells_a, cells_b, strict=False)
    )


def attention_function(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: Mask | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: torch.Tensor | None = None,
    is_causal: bool | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """q [B, H, S, D], k and v [B, Hkv, L, D] -> [B, S, H, D]. Raises CaptureError for what the op cannot express."""
    unknown = [n for n, given in kwargs.items() if given is not None and given is not False and n not in _NEUTRAL]
    if unknown:
        raise CaptureError(f"attention argument {', '.join(unknown)} is not supported")
    if dropout:
        raise CaptureError(f"attention dropout {dropout} in a model that is not training")
    if not (getattr(module, "is_causal", True) if is_causal is None else is_causal):
        raise CaptureError("bidirectional attention is not supported")
    if attention_mask is not None:
        # What the model does is in the mask; the argument is a hint for kernels that read no mask.
        sliding_window = _window(attention_mask, key.shape[2])
    if scaling is None:
        scaling = query.shape[-1] ** -0.5
    op = torch.ops.fx2ttnn.attention
    return op(query, key, value, float(scaling), sliding_window, softcap, s_aux), None


def _window(mask: Mask, length: int) -> int | None:
    """The window that the mask leaves of a cache of `length` positions."""
    other = mask.unsupported if isinstance(mask, Mask) else "one that the model builds itself"
    if other:
        raise CaptureError(f"attention mask is not supported: {other}; only causal and sliding-window causal masks are")
    if mask.chunk is not None and length > mask.chunk:
        raise CaptureError(
            f"each token attends within its chunk of {mask.chunk} positions, which is supported for sequences of one chunk:"
            f" --max-seq-len is {length} and may be {mask.chunk} at most"
        )
    return mask.window


def register() -> None:
    """Makes both known to transformers; doing it again changes nothing."""
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    from fx2ttnn.capture import ops  # noqa: F401  (defines the ops)

    ALL_ATTENTION_FUNCTIONS.register(NAME, attention_function)
    ALL_MASK_ATTENTION_FUNCTIONS.register(NAME, mask_function)
