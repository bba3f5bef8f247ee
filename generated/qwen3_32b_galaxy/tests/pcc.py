"""Comparison of tensors by Pearson's correlation coefficient."""

import math

import torch

measured = []  # (PCC, largest difference as a part of the largest number) of what the running test has compared


def pcc(found, expected):
    """Correlation of two tensors of the same number of elements, in float64; 1.0 for two equal constants."""
    a, b = found.double().flatten(), expected.double().flatten()
    assert a.numel() == b.numel(), f"{tuple(found.shape)} against {tuple(expected.shape)}"
    assert torch.isfinite(a).all(), "the result has infinite or undefined elements"
    a, b = a - a.mean(), b - b.mean()
    scale = a.norm() * b.norm()
    if scale == 0:
        return 1.0 if torch.equal(found.double().flatten(), expected.double().flatten()) else 0.0
    return (a @ b / scale).item()


def assert_pcc(found, expected, least, each_row=True):
    """Fail where the correlation is below `least`, or where the numbers differ in size or one row from the others by more than goes with it.

    Noise with the correlation `least` is sqrt(2 (1 - least)) of the numbers. No row, of the last dim, may be off by three times as much:
    among many, one that is wrong altogether would not show in the correlation of all. The size may differ by sqrt(1 - least).
    Not `each_row` where rounding may make a token choose other experts, rare as that is among those that choose clearly.
    """
    value = pcc(found, expected)
    largest = expected.double().abs().max().clamp(min=1e-30)
    measured.append(
        (value, ((found.double().reshape(expected.shape) - expected.double()).abs().max() / largest).item())
    )
    assert value >= least, f"PCC {value:.6f} is below {least}"
    expected = expected.double()
    found = found.double().reshape(expected.shape)
    if torch.equal(found, expected):
        return  # zeros, too
    scale = found.norm() / expected.norm().clamp(min=1e-30)
    assert abs(scale - 1) < math.sqrt(1 - least), f"PCC {value:.6f}, but the numbers are {scale:.4f} times as large"
    if not each_row:
        return
    sizes = expected.norm(dim=-1)
    off = (found - expected).norm(dim=-1) / sizes.clamp(min=sizes.square().mean().sqrt().item())
    assert off.max() < 3 * math.sqrt(2 * (1 - least)), (
        f"PCC {value:.6f}, but a row is off by {off.max():.4f} of its size"
    )
