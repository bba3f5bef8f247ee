"""The table from the name of a ttnn operation to its emulation."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

# Arguments that say where and how a result is computed, not what it is.
NO_EFFECT = frozenset(
    """
    memory_config compute_kernel_config program_config core_grid queue_id cq_id num_links topology subdevice_id
    sub_device_id sub_core_grids num_workers_per_link num_buffers_per_channel chunks_per_sync
    intermediate_memory_config use_multicore use_low_perf reshape_tile_mode skip_padding_fill tile output_tile
    use_2d_core_grid overlap_qk_coregrid fast_and_approximate_mode numeric_stable global_cb prefetcher_pipes
    keep_l1_aligned sorted recip_tensor use_l1_small_for_semaphores enable_secondary_dm output_layout dtype
    layout pad_value device input_dtype output_dtype mesh_device multi_device_global_semaphore barrier_semaphore
    persistent_output_buffers global_semaphore stats buffer_tensor final_memory_config
    """.split()  # noqa: SIM905
)


@dataclass(frozen=True)
class Emulation:
    """One operation's emulation.

    `raw`: gets Numbers, not float32 values. `moves`: only moves numbers, so it gets and gives stored values.
    `inplace`: the names of the arguments that the results overwrite and that are returned; a function that returns None has
    written them itself. `host`: passes numbers between host and device, so that no trace can hold it. `full`: does everything
    itself, the call of the real operation included. `composed`: the operation is Python that calls others, so it just runs.
    """

    function: Callable[..., Any]
    parameters: tuple[str, ...]
    open_ended: bool
    raw: bool = False
    moves: bool = False
    inplace: tuple[str, ...] = ()
    host: bool = False
    full: bool = False
    composed: bool = False


EMULATIONS: dict[str, Emulation] = {}


def emulates(*names: str, **how: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Registers a function as the emulation of the operations called `names`.

    It takes the operation's arguments by the same names and order, tensors as values [r, c, *shard shape], and returns
    the value(s) of the result(s). Numbers are rounded to the result's data type afterwards. A parameter `real` receives
    the TensorSpec(s) of what the real operation returned. Arguments in NO_EFFECT need not be named.
    """

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        signature = inspect.signature(function).parameters
        open_ended = any(p.kind is p.VAR_KEYWORD for p in signature.values())
        for name in names:
            if name in EMULATIONS:
                raise ValueError(f"{name} is emulated twice")
            EMULATIONS[name] = Emulation(function, tuple(signature), open_ended, **how)
        return function

    return register
