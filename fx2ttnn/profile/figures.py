"""Which figures of a target's description a prediction rests on, each with the source its file gives."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

from fx2ttnn import targets
from fx2ttnn.targets import Target

_FOLDER = Path(targets.__file__).parent
_LINE = re.compile(r"^(\w+)\s*=\s*[^#]*#\s*(.+?)\s*$")


@dataclass(frozen=True)
class Figure:
    """A named figure of a target, in the unit of `targets.Target`, and where it comes from."""

    name: str
    value: float
    source: str


def figures(target: Target, names: tuple[str, ...]) -> tuple[Figure, ...]:
    """The figures `names` of `target`."""
    sources = _sources(target.name)
    return tuple(Figure(name, getattr(target, name), sources.get(name, "source not given")) for name in names)


def _sources(target: str) -> dict[str, str]:
    """The comment behind each value in the files of a target."""
    machine = _FOLDER / f"{target}.toml"
    if not machine.is_file():
        return {}
    chip = _FOLDER / "chips" / f"{tomllib.loads(machine.read_text())['chip']}.toml"
    lines = [*chip.read_text().splitlines(), *machine.read_text().splitlines()]
    return {found[1]: found[2] for line in lines if (found := _LINE.match(line))}
