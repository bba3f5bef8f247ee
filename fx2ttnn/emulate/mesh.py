"""Opens a mock mesh with the emulator on."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fx2ttnn import targets
from fx2ttnn.check.mock import mock_environment, without_hardware
from fx2ttnn.emulate.tensor import EmulationError
from fx2ttnn.targets import Target

_served: tuple[tuple[int, int], bool] | None = None  # the one cluster that ttnn serves in this process


@contextmanager
def emulated_mesh(
    mesh_shape: tuple[int, int] | None = None,
    torus: bool | None = None,
    target: Target | str = "galaxy",
    cache: Path | None = None,
    **open_arguments: Any,
) -> Iterator[Any]:
    """A mesh device of `target` (or of `mesh_shape` chips of its kind) on which ttnn's operations also compute numbers.

    ttnn reads the cluster once per process: the first call decides mesh shape and torus for all that follow.
    """
    target = targets.load(target) if isinstance(target, str) else target
    shape = mesh_shape or target.mesh_shape
    ring = target.torus if torus is None else torus
    if (shape, ring) != (target.mesh_shape, target.torus):
        name = f"{target.name}-{shape[0]}x{shape[1]}{'-torus' if ring else ''}"
        target = dataclasses.replace(target, name=name, mesh_shape=shape, torus=ring, trays=None)
    with emulation(target, cache):
        import ttnn

        if target.chips > 1:
            ttnn.set_fabric_config(getattr(ttnn.FabricConfig, target.fabric))
            open_arguments = {"l1_small_size": target.l1_small_bytes, **open_arguments}
        device = ttnn.open_mesh_device(ttnn.MeshShape(*shape), **open_arguments)
        try:
            yield device
        finally:
            ttnn.close_mesh_device(device)
            if target.chips > 1:
                ttnn.set_fabric_config(ttnn.FabricConfig.DISABLED)


@contextmanager
def emulation(target: Target | str, cache: Path | None = None) -> Iterator[None]:
    """While it lasts, a mesh of `target` that anybody opens is a mock, on which ttnn's operations also compute numbers."""
    global _served
    target = targets.load(target) if isinstance(target, str) else target
    wanted = (target.mesh_shape, target.torus)
    if _served is None:
        environment = without_hardware(os.environ) | mock_environment(target, cache)
        os.environ.clear()
        os.environ.update(environment)  # ttnn reads it when it first opens a device
    elif _served != wanted:
        raise EmulationError(
            f"ttnn serves the mesh {_served[0]} in this process and cannot serve {wanted[0]}: use another process"
        )
    from fx2ttnn.emulate import patch
    from fx2ttnn.emulate.chips import MESH

    _served = wanted
    MESH.shape = target.mesh_shape
    patch.install()
    try:
        yield
    finally:
        patch.uninstall()


def emulate(mesh_device: Any) -> None:
    """From now on ttnn's operations compute numbers on a mock mesh that somebody else has opened; nothing where they do already.

    The process was started with the mock's environment (`check/mock.py`).
    """
    from fx2ttnn.emulate import patch
    from fx2ttnn.emulate.chips import MESH

    MESH.shape = tuple(mesh_device.shape)
    if not patch.installed():
        patch.install()
