"""Fixtures that several files share."""

import os
import subprocess
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


@pytest.fixture(scope="session")
def ttnns_log(tmp_path_factory):
    """What ttnn itself prints, on this machine, of a product on a mock that it warns of: not everywhere anything."""
    from fx2ttnn import targets
    from fx2ttnn.check.mock import mock_environment, without_hardware

    log = tmp_path_factory.mktemp("log") / "log"
    environment = without_hardware(os.environ) | mock_environment(targets.load("n150"))
    with log.open("w") as file:
        subprocess.run(
            [sys.executable, "-c", WARNED],
            env=environment | {"TT_METAL_LOGGER_LEVEL": "warning"},
            stdout=file,
            stderr=subprocess.STDOUT,
            check=True,
        )
    return log.read_text()


WARNED = """
import ttnn
device = ttnn.open_mesh_device(ttnn.MeshShape(1, 1))
x = ttnn.zeros((32, 32), dtype=ttnn.bfloat16, layout=ttnn.TILE_LAYOUT, device=device)
exact = ttnn.WormholeComputeKernelConfig(math_fidelity=ttnn.MathFidelity.HiFi4, fp32_dest_acc_en=True)
ttnn.linear(x, x, compute_kernel_config=exact)
"""
