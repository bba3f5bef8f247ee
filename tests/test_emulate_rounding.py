"""The emulator's rounding against ttnn's own conversion on the host."""

import pytest
import torch
import ttnn
from hypothesis import given, settings
from hypothesis import strategies as st

from fx2ttnn.emulate import emulated_mesh, rounding
from fx2ttnn.emulate.rounding import round_to, stored_dtype


@pytest.fixture(scope="module", autouse=True)
def mesh():
    with emulated_mesh((2, 4), torus=True):  # ttnn looks for a cluster even to convert on the host
        yield


def on_host(value: torch.Tensor, dtype: str) -> torch.Tensor:
    """`value` to the real ttnn (below the emulator) and back, without any device."""
    host = ttnn.from_torch.function(value, dtype=getattr(ttnn, dtype), layout=ttnn.TILE_LAYOUT)
    return ttnn.to_torch.function(host)


@pytest.mark.parametrize("dtype", ["bfloat16", "bfloat8_b", "bfloat4_b", "float32"])
@settings(max_examples=40, deadline=None)
@given(
    shape=st.lists(st.integers(1, 70), min_size=1, max_size=3),
    spread=st.floats(0, 8),
    scale=st.sampled_from([1.0, 1e-38, 1e-30, 1e30]),
    source=st.sampled_from([torch.float32, torch.bfloat16]),
    seed=st.integers(0, 99),
)
def test_rounds_as_ttnn(dtype, shape, spread, scale, source, seed):
    torch.manual_seed(seed)
    value = (torch.randn(shape) * torch.exp(torch.randn(shape) * spread) * scale).clamp(-3e38, 3e38).to(source)
    value[..., :3] = 0
    assert torch.equal(round_to(value, dtype.upper()).float(), on_host(value, dtype).float())


@pytest.mark.parametrize("dtype", ["bfloat8_b", "bfloat4_b"])
def test_ties_and_lost_bits(dtype):
    """Halves go to even, and bits below the shared exponent's 24 are lost before that."""
    value = torch.tensor(
        [64.0, 0.5, 1.5, 2.5, 0.5 + 2**-18, 0.5 + 2**-20, 12.0, 20.0, -0.5, -1.5, 127.49, 63.5, 16.0, 48.0, 80.0, 1e-9]
    )
    assert torch.equal(round_to(value, dtype.upper()).float(), on_host(value, dtype))


def test_rounding_in_chunks_is_the_same(monkeypatch):
    value = torch.randn(2, 3, 100, 48)
    whole = round_to(value, "BFLOAT8_B")
    monkeypatch.setattr(rounding, "_CHUNK", 1000)
    assert torch.equal(round_to(value, "BFLOAT8_B"), whole)


@pytest.mark.parametrize(
    ("dtype", "numbers"), [("uint32", [0, 1, 2**31 - 1]), ("int32", [-5, 0, 7]), ("uint16", [0, 65535])]
)
def test_integers(dtype, numbers):
    value = torch.tensor(numbers, dtype=torch.int32)
    assert torch.equal(round_to(value, dtype.upper()).long(), on_host(value, dtype).long())


def test_negative_to_unsigned_wraps_as_ttnn():
    value = torch.tensor([1.5, -1.5, 300.2, -7.0])
    assert torch.equal(round_to(value, "UINT32"), on_host(value, "uint32").long())


def test_unknown_type_is_an_error():
    with pytest.raises(TypeError, match="FP8_E4M3"):
        stored_dtype("FP8_E4M3")
