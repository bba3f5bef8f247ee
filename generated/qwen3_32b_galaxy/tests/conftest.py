"""Where the tests run: on a real mesh where there is one, else on the fx2ttnn emulator over ttnn's mock mesh."""

from pathlib import Path

import pytest

from .. import model_config as cfg
from ..mesh import open_mesh


def pytest_report_header():
    return f"{cfg.MODEL_NAME} on {cfg.TARGET}: backend {backend()}"


def backend():
    """`card` where the Tenstorrent driver is loaded, else `emulator`."""
    return "card" if Path("/dev/tenstorrent").exists() else "emulator"


@pytest.fixture(scope="session")
def mesh_device():
    """The open mesh of the package."""
    if backend() == "card":
        import ttnn

        device = open_mesh()
        yield device
        ttnn.close_mesh_device(device)
    else:
        from fx2ttnn.emulate import emulated_mesh

        with emulated_mesh(target=cfg.TARGET) as device:
            yield device


@pytest.fixture(scope="session")
def reference():
    """Hugging Face's model with random weights, run for a few decode steps."""
    from .reference import Reference

    return Reference()
