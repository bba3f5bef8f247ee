"""Where the package runs: on a card; else on the vendor's kernels in the vendor's simulator; else on the fx2ttnn emulator over ttnn's mock mesh."""

import os
from contextlib import contextmanager, nullcontext
from pathlib import Path

from . import model_config as cfg
from .mesh import close_mesh, open_mesh

CARD, SIMULATOR, EMULATOR = BACKENDS = "card", "simulator", "emulator"
SIMULATOR_LIBRARY = "libttsim_wh_x32.so"  # looked for in ~/sim where TT_METAL_SIMULATOR names none


def backend():
    """What `FX2TTNN_BACKEND` names; else the first of card, simulator and emulator that is here."""
    named = os.environ.get("FX2TTNN_BACKEND")
    if named:
        if named not in BACKENDS:
            raise RuntimeError(f"FX2TTNN_BACKEND is {named!r}: it may be {', '.join(BACKENDS)}")
        return named
    if Path("/dev/tenstorrent").exists():
        return CARD
    simulator = os.environ.get("TT_METAL_SIMULATOR") or (Path.home() / "sim" / SIMULATOR_LIBRARY).is_file()
    return SIMULATOR if simulator else EMULATOR


@contextmanager
def open_backend():
    """The open mesh of the package, and the name of what it runs on."""
    name = backend()
    with _emulation() if name == EMULATOR else nullcontext():
        if name == SIMULATOR:
            _simulation()
        mesh_device = open_mesh()
        try:
            yield mesh_device, name
        finally:
            close_mesh(mesh_device)


def emulate_here(mesh_device):
    """Where the package runs on the emulator: numbers on a mesh that somebody else has opened."""
    if backend() == EMULATOR:
        try:
            from fx2ttnn.emulate import emulate
        except ImportError as error:
            raise _without_fx2ttnn("emulator") from error
        emulate(mesh_device)


def _emulation():
    try:
        from fx2ttnn.emulate import emulation
    except ImportError as error:
        raise _without_fx2ttnn("emulator") from error
    return emulation(cfg.TARGET)


def _simulation():
    """The environment in which ttnn opens the simulator, as far as it is not set already."""
    if "TT_METAL_RUNTIME_ROOT" in os.environ and "TT_METAL_SIMULATOR" in os.environ:
        return
    try:
        from fx2ttnn import targets
        from fx2ttnn.simulate import simulator_environment
    except ImportError as error:
        raise _without_fx2ttnn("simulator") from error
    os.environ.update(simulator_environment(targets.load(cfg.TARGET)) | os.environ)


def _without_fx2ttnn(name):
    return RuntimeError(
        f"there is no Tenstorrent card here (/dev/tenstorrent), and the {name} of {cfg.TARGET} needs fx2ttnn:"
        " install it, or run on a machine with the card"
    )
