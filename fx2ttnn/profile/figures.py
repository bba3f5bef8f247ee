"""Which figures of a target's description a prediction rests on, each with the source its file gives."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fx2ttnn import targets
from fx2ttnn.targets import Target

_FOLDER = Path(targets.__file__).parent
_LINE = re.compile(r"""^"?([\w.]+)"?\s*=\s*[^#]*#\s*(.+?)\s*$""")
_SECTION = re.compile(r"^\[([\w.]+)\]\s*(?:#\s*(.+?)\s*)?$")


@dataclass(frozen=True)
class Figure:
    """A named figure of a target, in the unit of `targets.Target` or of a section of its file, and where it comes from."""

    name: str
    value: float
    source: str


def figures(target: Target, *names: str) -> tuple[Figure, ...]:
    """The figures `names` of `target`; "cost" stands for all that device operations are priced with, by the names of their sections."""
    sources = _sources(target.name)
    found: list[Figure] = []
    for name in names:
        values = _flat("cost", target.costs.model_dump()) if name == "cost" else {name: getattr(target, name)}
        found += [Figure(one, value, _source(one, sources)) for one, value in values.items()]
    return tuple(found)


def _source(name: str, sources: dict[str, str]) -> str:
    """Of a figure, or else of its section."""
    name = name.partition(" at ")[0]
    return sources.get(name) or sources.get(name.rpartition(".")[0]) or "source not given"


def _flat(name: str, value: Any) -> dict[str, float]:
    """The numbers in nested sections by dotted names; a table of two columns by its first."""
    if isinstance(value, dict):
        return {k: v for key, one in value.items() for k, v in _flat(f"{name}.{key}", one).items()}
    if isinstance(value, (list, tuple)):
        return {f"{name} at {at:g}": one for at, one in value}
    return {name: value}


def _sources(target: str) -> dict[str, str]:
    """The comment behind each value in the files of a target, and behind the head of each section."""
    machine = _FOLDER / f"{target}.toml"
    if not machine.is_file():
        return {}
    chip = _FOLDER / "chips" / f"{tomllib.loads(machine.read_text())['chip']}.toml"
    return _commented(chip.read_text()) | _commented(machine.read_text())


def _commented(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    section = ""
    for line in text.splitlines():
        if head := _SECTION.match(line):
            section = f"{head[1]}."
            found |= {head[1]: head[2]} if head[2] else {}
        elif match := _LINE.match(line):
            found[section + match[1]] = match[2]
    return found
