"""Two host functions of ttnn that know no mock chip, passed over in the memory of a process that checks or emulates. No file is changed.

They matter for a mesh whose dispatch cores are a column, and for its sub-devices, which packages with a prefetcher have:
loading a sub-device manager writes a command into the queue of a chip that is not there, and programs are compared with the grid of
a mesh whose dispatch cores are a row.
"""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Callable
from pathlib import Path
from typing import Any

RETURN = b"\xc3"  # x86: both return nothing that anybody reads
# Mangled names in libtt_metal.so of ttnn 0.81.
PASSED_OVER = (
    "_ZN2tt8tt_metal16program_dispatch37reset_worker_dispatch_state_on_deviceEPNS0_11distributed10MeshDeviceE"
    "RNS0_19SystemMemoryManagerEhNS_7xy_pairERKSt5arrayIjLm8EEbSt4spanIKSt6vectorIjN4ttsl17aligned_allocatorIjLm16EEEELm18446744073709551615EE",
    "_ZN2tt8tt_metal12experimental22ValidateWorkUnitFieldsERKNS1_17ValidationContextERKNS_7xy_pairE",
)


def pass_over() -> None:
    """From now on the functions return at once. RuntimeError where this ttnn has them not, or another machine runs it."""
    import ttnn

    library = ctypes.CDLL(str(Path(ttnn.__file__).parent / "build/lib/libtt_metal.so"))
    for name in PASSED_OVER:
        try:
            function = getattr(library, name)
        except AttributeError as error:
            raise RuntimeError(f"this ttnn cannot mock a mesh with sub-devices: it has no {name}") from error
        _overwrite(ctypes.cast(function, ctypes.c_void_p).value or 0, RETURN)


def opening(open_mesh_device: Callable[..., Any]) -> Callable[..., Any]:
    """ttnn.open_mesh_device that passes over them first where the dispatch cores are chosen."""

    def opened(*args: Any, **kwargs: Any) -> Any:
        if kwargs.get("dispatch_core_config") is not None:
            pass_over()
        return open_mesh_device(*args, **kwargs)

    return opened


def _overwrite(at: int, code: bytes) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    page = ctypes.c_void_p(at // mmap.PAGESIZE * mmap.PAGESIZE)
    size = ctypes.c_size_t(2 * mmap.PAGESIZE)
    for access in (mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC, mmap.PROT_READ | mmap.PROT_EXEC):
        if libc.mprotect(page, size, access):
            raise OSError(ctypes.get_errno(), "mprotect")
        if access & mmap.PROT_WRITE:
            ctypes.memmove(at, code, len(code))
