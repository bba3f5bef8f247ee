"""ttnn's own warnings about the emitted calls: it writes them to the log, where nobody sees them."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ttnn.decorators import FastOperation

from fx2ttnn.check.messages import without_colours

Stack = list[tuple[str, int]]  # (file, line), outermost first
# 2026-01-31 12:00:00.000 | warning  |              Op | What is said. (all_gather.cpp:148)
_WARNING = re.compile(r"\| warning\s+\|\s+\w+ \| (.*?)(?: \(\w+\.\w+:\d+\))?$", re.M)


class Warnings:
    """From now on `found` is called with each warning that a ttnn operation draws, and the Python stack of its call.

    `log` is the file to which this process prints. A line that appears there between two calls was drawn by the first.
    """

    def __init__(self, log: Path, found: Callable[[str, Stack], None]):
        self._log = log.open("rb", buffering=0)  # read, not asked for its size, which some file systems tell late
        self._found = found
        self._rest = b""  # of a line that is not whole yet
        self._last: Stack = []
        real_call, depth = FastOperation.__call__, [0]

        def call(operation: Any, *args: Any, **kwargs: Any) -> Any:
            if not depth[0]:
                self.collect()
                self._last = _stack()
            depth[0] += 1
            try:
                return real_call(operation, *args, **kwargs)
            finally:
                depth[0] -= 1
                if not depth[0]:
                    self.collect()

        FastOperation.__call__ = call

    def collect(self) -> None:
        """Tell what has come into the log since the last time."""
        whole, newline, self._rest = (self._rest + (self._log.read() or b"")).rpartition(b"\n")
        for message in _WARNING.findall(without_colours((whole + newline).decode(errors="replace"))):
            self._found(message, self._last)


def _stack() -> Stack:
    frame, found = sys._getframe(2), []
    while frame:
        found.append((frame.f_code.co_filename, frame.f_lineno))
        frame = frame.f_back  # type: ignore[assignment]
    return found[::-1]
