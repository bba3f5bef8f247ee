"""What the installed ttnn offers: its operations and their argument names, read from the library itself."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

NAMESPACES = ("ttnn", "ttnn.experimental", "ttnn.transformer")


@lru_cache(maxsize=1)
def start() -> subprocess.Popen | None:
    """Begin reading, once, in a process of its own (ttnn takes seconds to import); None where the result is already known."""
    if _file().exists():
        return None
    _file().parent.mkdir(parents=True, exist_ok=True)
    environment = os.environ | {"LOGURU_LEVEL": "WARNING", "TT_METAL_LOGGER_LEVEL": "FATAL"}
    # This file alone: with -m Python would import the package around it, and warn that this module is there already.
    command = [sys.executable, "-P", __file__, str(_file())]
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)


@lru_cache(maxsize=1)
def signatures() -> Mapping[str, tuple[str, ...]]:
    """Argument names of each ttnn operation, over all its overloads, in order."""
    process = start()
    if process is not None and process.wait() != 0:
        raise RuntimeError("ttnn could not be imported to read its operations: run `make setup`")
    return {name: tuple(args) for name, args in json.loads(_file().read_text()).items()}


def _file() -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "fx2ttnn"
    return cache / f"ttnn_api-{version('ttnn')}.json"


def _read() -> dict[str, list[str]]:
    import ttnn

    found = {}
    for namespace in NAMESPACES:
        holder = ttnn
        for part in namespace.split(".")[1:]:
            holder = getattr(holder, part)
        for name in dir(holder):
            operation = getattr(holder, name)
            if type(operation).__name__ == "FastOperation":
                found[f"{namespace}.{name}"] = _arguments(operation)
    return found


def _arguments(operation) -> list[str]:
    """Names from the signatures that the binding prints when it is called wrongly."""
    try:
        operation(_not_an_argument=None)
    except TypeError as error:
        lines = [line for line in str(error).splitlines() if "_not_an_argument" not in line]
        return list(dict.fromkeys(re.findall(r"(\w+): ", "\n".join(line for line in lines if "(" in line))))
    except Exception:  # an operation written in Python may fail otherwise; it then has no list of names
        return []
    return []


def main(path: str) -> None:
    """Write the signatures to `path`, atomically."""
    fresh = Path(f"{path}.{os.getpid()}")
    fresh.write_text(json.dumps(_read(), indent=1, sort_keys=True))
    fresh.replace(path)


if __name__ == "__main__":
    main(sys.argv[1])
