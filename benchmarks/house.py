"""The measures of the house: how much of it there is, in how many places a thing is said, and how long a compile takes.

    python benchmarks/house.py [--against COMMIT]

`--against` measures that commit too, in a work tree of its own, and prints both. Operations and attributes are those of today's table
(`fx2ttnn/ops`) on both sides. A file mentions an operation where its name stands as a word, in code or in prose.
"""

from __future__ import annotations

import argparse
import ast
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

MODEL = "qwen3-32b"
Measures = dict[str, float]


def lines(files: Iterable[Path]) -> int:
    """Lines of all `files`."""
    return sum(len(file.read_text().splitlines()) for file in files)


def sizes(root: Path) -> Measures:
    """Lines of the rules, and of the code of each stage."""
    folders = sorted({file.parent for file in (root / "fx2ttnn").rglob("*.py")})
    code = {f"lines of {folder.relative_to(root)}/*.py": lines(folder.glob("*.py")) for folder in folders}
    rules = lines((root / "lowering_rules").glob("*.toml"))
    return {"lines of lowering_rules/*.toml": rules, **code, "lines of fx2ttnn": sum(code.values())}


def mentions(root: Path, names: Sequence[str]) -> Measures:
    """How many files mention each operation, the mean last."""
    rules = (root / "lowering_rules").glob("*.toml")
    code = [file for kind in ("py", "j2") for file in (root / "fx2ttnn").rglob(f"*.{kind}")]
    found = Counter(word for file in (*code, *rules) for word in set(re.findall(r"\w+", file.read_text())))
    each = {f"files that mention {name}": found[name] for name in names}
    return {**each, "files that mention an operation, mean": sum(each.values()) / len(names)}


def bare_strings(root: Path, operations: Sequence[str], attributes: Sequence[str]) -> Measures:
    """String constants of the code outside `fx2ttnn/ops` that are the name of an operation or of an attribute."""
    table = root / "fx2ttnn" / "ops"
    code = [file for file in (root / "fx2ttnn").rglob("*.py") if table not in file.parents]
    nodes = (node for file in code for node in ast.walk(ast.parse(file.read_text())))
    found = Counter(node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str))
    return {
        "bare strings that name an operation": sum(found[name] for name in operations),
        "bare strings that name an attribute": sum(found[name] for name in attributes),
    }


def compile_seconds(root: Path, runs: int) -> Measures:
    """The fastest of `runs` compiles, each a process of its own; the first leaves its bytecode to the others."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"} | {"PYTHONPATH": str(root)}
    taken = []
    for _ in range(runs):
        with tempfile.TemporaryDirectory() as out:
            before = os.times()
            command = [sys.executable, "-m", "fx2ttnn", "compile", MODEL, "-o", f"{out}/package"]
            subprocess.run(command, cwd=root, env=environment, stdout=subprocess.DEVNULL, check=True)
            taken.append([b - a for a, b in zip(before, os.times(), strict=True)])
    _, _, user, system, wall = map(min, zip(*taken, strict=True))
    return {f"compile of {MODEL}, seconds": wall, f"compile of {MODEL}, seconds of CPU": user + system}


def measures(root: Path, runs: int) -> Measures:
    """All of them, for the checkout at `root`."""
    from fx2ttnn.ops import TABLE

    names = {name for entry in TABLE.values() for name in (*entry.attributes, *entry.earlier)}
    counted = {**mentions(root, list(TABLE)), **bare_strings(root, list(TABLE), sorted(names))}
    return {**compile_seconds(root, runs), **sizes(root), **counted}


def table(columns: dict[str, Measures], most: int = 10) -> str:
    """Markdown; of the operations the `most` that are mentioned in most files."""
    names = list(dict.fromkeys(name for column in columns.values() for name in column))
    each = [name for name in names if name.startswith("files that mention ") and not name.endswith("mean")]
    each.sort(key=lambda name: -max(column.get(name, 0) for column in columns.values()))
    rows = [f"| | {' | '.join(columns)} |", f"|---|{'---:|' * len(columns)}"]
    for name in [*(name for name in names if name not in each), *each[:most]]:
        found = [column.get(name, "-") for column in columns.values()]
        cells = (f"{value:.1f}" if isinstance(value, float) else f"{value}" for value in found)
        rows.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(rows)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--against", metavar="COMMIT", help="measure this commit too")
    parser.add_argument("--runs", type=int, default=3, help="compiles of each; the fastest counts")
    options = parser.parse_args()
    columns = {"now": measures(ROOT, options.runs)}
    if options.against:
        git = ["git", "-C", str(ROOT), "worktree"]
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run([*git, "add", "--quiet", "--detach", f"{folder}/tree", options.against], check=True)
            try:
                columns = {options.against: measures(Path(folder) / "tree", options.runs), **columns}
            finally:
                subprocess.run([*git, "remove", "--force", f"{folder}/tree"], check=True)
    print(table(columns))


if __name__ == "__main__":
    main()
