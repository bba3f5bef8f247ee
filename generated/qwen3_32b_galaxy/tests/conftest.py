"""Where the tests run: on a real mesh where there is one, else on the fx2ttnn emulator over ttnn's mock mesh."""

import json
from pathlib import Path

import pytest

from .. import model_config as cfg
from ..backend import CARD, backend, open_backend

PACKAGE = Path(__file__).parents[1]
RESULTS = PACKAGE / "report" / "tests.json"  # what `fx2ttnn report` shows of these tests
outcomes = {}


def pytest_report_header():
    return f"{cfg.MODEL_NAME} on {cfg.TARGET}: backend {backend()}"


def pytest_runtest_logreport(report):
    if report.when == "call" or not report.passed:
        test = report.nodeid.partition("::")[2]
        outcomes[f"{Path(report.fspath).resolve().relative_to(PACKAGE)}::{test}"] = report.outcome


def pytest_sessionfinish(session):
    """Keep the outcomes beside those of earlier runs of other tests."""
    runs = json.loads(RESULTS.read_text())["runs"] if RESULTS.exists() else {}
    runs.setdefault("card" if backend() == CARD else "emulator", {}).update(outcomes)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps({"runs": runs}, indent=1, sort_keys=True) + "\n")


@pytest.fixture(scope="session")
def mesh_device():
    """The open mesh of the package."""
    with open_backend() as (device, _):
        yield device


@pytest.fixture(scope="session")
def reference():
    """Hugging Face's model with random weights, run for a few decode steps."""
    from .reference import Reference

    return Reference()
