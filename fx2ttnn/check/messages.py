"""Error messages of ttnn, cut down to ttnn's own words."""

from __future__ import annotations

import re

MAX_LINES = 12
MAX_LINE = 300


def plain_message(text: str) -> str:
    """The first lines of an error, without backtrace, and without what differs from run to run."""
    text = text.split("\nbacktrace:")[0]
    text = re.sub(r"0x[0-9a-fA-F]+", "0x…", text)
    lines = [line.rstrip() for line in text.splitlines() if line.strip() and line.strip() != "info:"]
    return "\n".join(line if len(line) <= MAX_LINE else f"{line[:MAX_LINE]}…" for line in lines[:MAX_LINES])


def without_colours(log: str) -> str:
    """ttnn colours its log where it believes in a terminal, which it also does where CI or GITHUB_ACTIONS is set."""
    return re.sub(r"\x1b\[[0-9;]*m", "", log)


def last_words(log: str) -> str:
    """What a process that died said last: of its log the last error that ttnn or the C++ runtime wrote."""
    said = r"(?:critical \|\s*\w+ \| |what\(\):\s*|terminate called )([^\n]*)"
    found = re.findall(said, without_colours(log))
    return plain_message(re.sub(r" \(\w+\.\w+:\d+\)$", "", found[-1])) if found else ""
