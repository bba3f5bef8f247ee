"""Where the tests run (backend.py says on what), and what they found."""

import json
import os
from pathlib import Path

import pytest

from .. import model_config as cfg
from ..backend import backend, open_backend
from .pcc import measured

PACKAGE = Path(__file__).resolve().parents[1]
RESULTS = PACKAGE / "report" / "tests.json"  # what `fx2ttnn report` shows of these tests
QUICK = bool(
    os.environ.get("FX2TTNN_QUICK")
)  # modules and models in one decode step and with the shortest prompt alone
reports = []


def pytest_report_header():
    quick = ", one decode step and the shortest prompt" if QUICK else ""
    return f"{cfg.MODEL_NAME} on {cfg.TARGET}: backend {backend()}{quick}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    measured.clear()
    try:
        return (yield)
    finally:
        if measured:
            pccs, differences = zip(*measured)
            item.user_properties += [("pcc", round(min(pccs), 6)), ("difference", float(f"{max(differences):.3g}"))]


def pytest_runtest_logreport(report):
    if report.when == "call" or not report.passed:
        reports.append(report)


def pytest_sessionfinish(session):
    """Keep outcomes, and the least PCC and the largest difference of each test, beside those of earlier runs of other tests."""
    found = {"runs": {}, "pcc": {}, "difference": {}}
    for report in reports:
        file = (session.config.rootpath / report.fspath).resolve().relative_to(PACKAGE)
        test = f"{file}::{report.nodeid.partition('::')[2]}"
        found["runs"][test] = report.outcome
        for name, value in report.user_properties:
            found[name][test] = value
    kept = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for name, values in found.items():
        kept.setdefault(name, {}).setdefault(backend(), {}).update(values)
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

    return Reference(quick=QUICK)
