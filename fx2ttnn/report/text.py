"""Numbers as people read them."""

from __future__ import annotations


def seconds(value: float) -> str:
    """`34.5 µs`, `21.23 ms`."""
    if value < 1e-3:
        return f"{value * 1e6:.1f} µs"
    return f"{value * 1e3:.2f} ms" if value < 1 else f"{value:.2f} s"


def scaled(value: float, unit: str) -> str:
    """With three digits and the prefix that leaves the fewest: 34_000_000 B -> `34 MB`."""
    for prefix, size in (("P", 1e15), ("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:.3g} {prefix}{unit}"
    return f"{value:.3g} {unit}"


def size(value: float) -> str:
    """Bytes."""
    return scaled(value, "B")


def gigabytes(value: float) -> str:
    """Bytes as GB, so that they can be compared."""
    return f"{value / 1e9:.2f} GB"


def shape(dims: list[int]) -> str:
    """`[1, 1, 32, 1280]`"""
    return "[" + ", ".join(map(str, dims)) + "]"


def number(value: float) -> str:
    """A figure of a target, exact enough to recognise it in its file."""
    return f"{value:.4g}"


def plural(count: int, word: str) -> str:
    """`1 call`, `2 calls`"""
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


def cut(text: str, length: int) -> str:
    """At most `length` characters."""
    return text if len(text) <= length else text[: length - 1] + "…"
