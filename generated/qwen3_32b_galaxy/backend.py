"""Where the package runs: on a real mesh where there is one, else on the fx2ttnn emulator over ttnn's mock mesh."""

from contextlib import contextmanager
from pathlib import Path

from . import model_config as cfg
from .mesh import close_mesh, open_mesh

CARD, EMULATOR = "card", "fx2ttnn emulator"


def backend():
    """`CARD` where the Tenstorrent driver is loaded, else `EMULATOR`."""
    return CARD if Path("/dev/tenstorrent").exists() else EMULATOR


@contextmanager
def open_backend():
    """The open mesh of the package, and the name of what it runs on."""
    name = backend()
    if name == EMULATOR:
        with _emulated_mesh() as mesh_device:
            yield mesh_device, name
        return
    mesh_device = open_mesh()
    try:
        yield mesh_device, name
    finally:
        close_mesh(mesh_device)


def _emulated_mesh():
    try:
        from fx2ttnn.emulate import emulated_mesh
    except ImportError as error:
        raise RuntimeError(
            f"there is no Tenstorrent card here (/dev/tenstorrent), and without fx2ttnn no emulator of {cfg.TARGET}:"
            " install fx2ttnn, or run on a machine with the card"
        ) from error
    return emulated_mesh(target=cfg.TARGET)
