"""A traced model may ask how long its cache is; the answer goes nowhere but into a mask of ones."""

import pytest
import torch

from fx2ttnn.capture.attention import Mask, mask_function
from fx2ttnn.capture.cache import TracedCache
from fx2ttnn.capture.length import NoPadding, Unknown
from fx2ttnn.errors import CaptureError


def test_a_mask_of_ones_is_no_mask():
    from transformers.masking_utils import causal_mask_function

    with Unknown():
        ones = torch.ones(2, TracedCache(8).get_seq_length() + 1, device="cpu")
    assert isinstance(ones, NoPadding)
    assert mask_function(mask_function=causal_mask_function, attention_mask=ones.to(torch.bool)) == Mask()


USES = {
    "compare": lambda n, x: n > 0,
    "branch": lambda n, x: 1 if n else 0,
    "convert": lambda n, x: int(n),
    "full": lambda n, x: torch.full((2, n), 1.0),
    "slice": lambda n, x: x[:, n:],
    "add": lambda n, x: x + n,
    "grow": lambda n, x: n + x,
    "zeros": lambda n, x: torch.zeros(2, n),
    "list": lambda n, x: x.expand([2, n]),
    "cumsum": lambda n, x: torch.cumsum(torch.ones(2, n), dim=1),
    "product": lambda n, x: x * torch.ones(2, n),
    "method": lambda n, x: torch.ones(2, n).sum(),
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_any_other_use_is_refused(use):
    # Torch itself refuses what is no tensor where it wants one; tracing makes a CaptureError of any error.
    with Unknown(), pytest.raises((CaptureError, TypeError), match=r"length of its cache|must be Tensor"):
        use(TracedCache(8).get_seq_length(), torch.ones(2, 8))
