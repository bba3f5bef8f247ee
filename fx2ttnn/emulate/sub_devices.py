"""Sub-devices and the prefetcher: what ttnn does not see to, and a card answers with a hang or wrong numbers.

Every weight that is prefetched must be read, in order, by a matmul with the same global circular buffer. A trace belongs to the
sub-device manager that was loaded when it was captured.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from fx2ttnn.emulate.tensor import EmulatedTensor, EmulationError


class SubDevices:
    """Those of one mesh: the manager that is loaded, and addresses of the weights that are on their way to each global circular buffer."""

    def __init__(self) -> None:
        self.loaded: Any = None
        self._coming: dict[int, deque[int]] = {}

    def begin(self, name: str, args: tuple, kwargs: dict[str, Any]) -> None:
        """What a call of the operation `name` means for the stream, before it runs."""
        if name == "ttnn.dram_prefetcher":
            self._start(args[0], kwargs.get("global_cb"))
        elif kwargs.get("global_cb") is not None:
            self._take(name, args[1], kwargs["global_cb"])

    def _start(self, tensors: list[EmulatedTensor], global_cb: Any) -> None:
        if self.loaded is None:
            raise EmulationError(
                "ttnn.dram_prefetcher without a sub-device manager: whatever comes next waits for it for ever"
            )
        addresses = tensors[-1].value[0, 0, 0].tolist()
        self._coming.setdefault(id(global_cb), deque()).extend(int(address) for address in addresses)

    def _take(self, name: str, weight: EmulatedTensor, global_cb: Any) -> None:
        coming = self._coming.get(id(global_cb))
        if not coming:
            raise EmulationError(f"{name} reads a prefetched weight, and none is on its way: a card hangs")
        if coming.popleft() != weight.buffer_address():
            raise EmulationError(f"{name} reads a prefetched weight, and another one comes first")

    def cleared(self) -> None:
        """The manager is loaded no longer; an error where weights are left over."""
        left = sum(map(len, self._coming.values()))
        self.loaded, self._coming = None, {}
        if left:
            raise EmulationError(f"{left} prefetched weights were read by no matmul: a card hangs")

    def methods(self, mesh_device: Any, refuse_in_capture: Callable[[str], None]) -> dict[str, Callable[..., Any]]:
        """Replacements for methods of ttnn's `mesh_device` class."""
        load, clear = mesh_device.load_sub_device_manager, mesh_device.clear_loaded_sub_device_manager

        def load_sub_device_manager(device: Any, manager: Any) -> None:
            refuse_in_capture("load_sub_device_manager")
            load(device, manager)
            self.loaded = manager

        def clear_loaded_sub_device_manager(device: Any) -> None:
            refuse_in_capture("clear_loaded_sub_device_manager")
            clear(device)
            self.cleared()

        return {
            "load_sub_device_manager": load_sub_device_manager,
            "clear_loaded_sub_device_manager": clear_loaded_sub_device_manager,
        }
