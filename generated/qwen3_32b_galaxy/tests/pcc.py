"""Comparison of tensors by Pearson's correlation coefficient."""

import torch

measured = []  # what the running test has compared: conftest.py keeps the least


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


def assert_pcc(found, expected, least):
    """Fail where the correlation is below `least`, or the sizes of the numbers differ by more than a few percent."""
    value = pcc(found, expected)
    measured.append(value)
    assert value >= least, f"PCC {value:.6f} is below {least}"
    if value == 1.0 and torch.equal(found.double().flatten(), expected.double().flatten()):
        return  # zeros, too
    scale = found.double().norm() / expected.double().norm().clamp(min=1e-30)
    assert 0.9 < scale < 1.1, f"PCC {value:.6f}, but the numbers are {scale:.3f} times as large"
