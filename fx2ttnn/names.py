"""Names of modules as names in Python."""

from __future__ import annotations

import keyword
import re


def identifier(text: str) -> str:
    """A Python identifier made from a module's name."""
    cleaned = re.sub(r"\W", "_", text)
    return f"_{cleaned}" if not cleaned or cleaned[0].isdigit() or keyword.iskeyword(cleaned) else cleaned
