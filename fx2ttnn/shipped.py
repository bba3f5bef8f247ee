"""Files that come with fx2ttnn: rules, targets, configurations, templates."""

from __future__ import annotations

from pathlib import Path

from fx2ttnn.errors import UserError


def shipped(folder: Path, pattern: str) -> list[Path]:
    """The files of `folder` that match. Raises UserError where there are none: without them fx2ttnn would know nothing and not say so."""
    found = sorted(folder.glob(pattern))
    if not found:
        raise UserError(f"{folder} holds no {pattern}: this installation of fx2ttnn is incomplete, install it again")
    return found
