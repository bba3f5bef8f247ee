"""Fixtures that several files share."""

import os
import sys

import pytest

# Where there is a simulator, packages would run on it, minutes a test; those that do ask for it.
os.environ.setdefault("FX2TTNN_BACKEND", "emulator")


@pytest.fixture(scope="module")
def mesh(request):
    """An open emulated mesh of the module's shape `MESH`, as the module's `device`."""
    import torch

    from fx2ttnn.emulate import emulated_mesh

    with emulated_mesh(request.module.MESH, torus=True) as device:
        torch.manual_seed(0)
        request.module.device = device
        yield device


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    """Calls the command line in a folder of its own, without a hub: (exit code, what it printed, its messages)."""
    from fx2ttnn import cli

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["fx2ttnn", *map(str, arguments)])
        code = 0
        try:
            cli.main()
        except SystemExit as stop:
            code = stop.code or 0
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call
