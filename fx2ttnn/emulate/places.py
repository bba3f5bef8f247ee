"""Where tensors lie in the chips' memory, and where in the program a call stands."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Place:
    """The bytes from `begin` to `end` of every bank of one kind of memory."""

    memory: str
    begin: int
    end: int

    def overlaps(self, other: Place) -> bool:
        return self.memory == other.memory and self.begin < other.end and other.begin < self.end


def place(real: Any) -> Place | None:
    """Where the buffer of a device tensor lies; None for one on the host, or whose buffer is free again."""
    import ttnn

    if real.storage_type() != ttnn.StorageType.DEVICE or not real.is_allocated():
        return None
    config, pages = real.memory_config(), real.buffer_num_pages()
    if config.is_sharded():
        shard = config.shard_spec
        banks = pages if shard is None else min(pages, shard.grid.num_cores())
    else:
        banks = _banks(real.device(), config.buffer_type)
    size = -(-pages // banks) * real.buffer_aligned_page_size()
    return Place(config.buffer_type.name, real.buffer_address(), real.buffer_address() + size)


def _banks(device: Any, buffer_type: Any) -> int:
    """Over how many banks ttnn spreads the pages of an interleaved buffer."""
    import ttnn

    if buffer_type == ttnn.BufferType.DRAM:
        grid = device.dram_grid_size()
        return grid.x * grid.y
    return ttnn._ttnn.reports.get_device_info(device).l1_num_banks


def program_line() -> str:
    """`file:line` of the program's line that runs: the innermost outside of ttnn and of this package."""
    inside = tuple(
        str(Path(folder)) for folder in (Path(__file__).parent, Path(sys.modules["ttnn"].__file__ or "").parent)
    )
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(inside):
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"
