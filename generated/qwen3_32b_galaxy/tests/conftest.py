"""Where the tests run: on a real mesh where there is one, else on the fx2ttnn emulator over ttnn's mock mesh."""

import json
from pathlib import Path

import pytest

from .. import model_config as cfg
from ..backend import CARD, backend, open_backend
from .pcc import measured

PACKAGE = Path(__file__).resolve().parents[1]
RESULTS = PACKAGE / "report" / "tests.json"  # what `fx2ttnn report` shows of these tests
reports = []


def pytest_report_header():
    return f"{cfg.MODEL_NAME} on {cfg.TARGET}: backend {backend()}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    measured.clear()
    try:
        return (yield)
    finally:
        item.user_properties += [("pcc", round(min(measured), 6))] if measured else []


def pytest_runtest_logreport(report):
    if report.when == "call" or not report.passed:
        reports.append(report)


def pytest_sessionfinish(session):
    """Keep outcomes, and the least PCC of each test, beside those of earlier runs of other tests."""
    outcomes, pccs = {}, {}
    for report in reports:
        file = (session.config.rootpath / report.fspath).resolve().relative_to(PACKAGE)
        test = f"{file}::{report.nodeid.partition('::')[2]}"
        outcomes[test] = report.outcome
        pccs.update((test, value) for name, value in report.user_properties if name == "pcc")
    kept = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for name, found in ("runs", outcomes), ("pcc", pccs):
        kept.setdefault(name, {}).setdefault("card" if backend() == CARD else "emulator", {}).update(found)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n")


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
