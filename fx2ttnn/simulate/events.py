"""A pytest plugin that says at once what happens, for a process that may be ended at any time: `-p fx2ttnn.simulate.events`.

Each line of the file that FX2TTNN_EVENTS names is a JSON object: a test that starts or ends, or a ttnn call of it that begins.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

import pytest

VARIABLE = "FX2TTNN_EVENTS"
_events: TextIO | None = None


def _say(**event: Any) -> None:
    if _events is not None:
        _events.write(json.dumps({"at": time.time(), **event}) + "\n")
        _events.flush()


def pytest_configure(config: pytest.Config) -> None:
    """Open the file, and let every ttnn operation say when it begins."""
    global _events
    from ttnn.decorators import FastOperation

    _events = Path(os.environ[VARIABLE]).open("a")  # noqa: SIM115 (it lives as long as the process)
    real_call = FastOperation.__call__

    def call(operation: Any, *args: Any, **kwargs: Any) -> Any:
        _say(event="call", name=operation.python_fully_qualified_name)
        return real_call(operation, *args, **kwargs)

    FastOperation.__call__ = call


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Before a test's fixtures, which open the mesh."""
    _say(event="start", test=item.nodeid.partition("::")[2])
    return (yield)


def pytest_collection_finish(session: pytest.Session) -> None:
    """The tests that are to run."""
    _say(event="collected", tests=[item.nodeid.partition("::")[2] for item in session.items])


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """After each part of a test that decides its outcome."""
    if report.when == "call" or not report.passed:
        failure = getattr(report.longrepr, "reprcrash", None)
        _say(
            event="end",
            test=report.nodeid.partition("::")[2],
            outcome=report.outcome,
            message=failure.message if failure else str(report.longrepr or ""),
            **dict(report.user_properties),
        )
