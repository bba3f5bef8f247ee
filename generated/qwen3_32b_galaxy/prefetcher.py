"""The prefetcher: some cores stream the weights of the layers from DRAM to the matmuls that read them, while the others compute."""

from contextlib import contextmanager

import torch
import ttnn

from . import model_config as cfg
from .mesh import to_mesh


class Prefetcher:
    """Streams `layers`, for each layer its weights in the order in which matmuls read them; all layers have weights of the same shapes.

    While it is loaded a program keeps to the cores of one sub-device: what a step runs before and behind the layers takes the
    whole grid, and so does a prefill.
    """

    def __init__(self, mesh_device, global_cb, layers):
        self.mesh_device, self.global_cb, self.layers = mesh_device, global_cb, layers
        grid = mesh_device.compute_with_storage_grid_size()
        if (grid.x, grid.y) != cfg.GRID:
            raise ValueError(
                f"the mesh has {grid.x} x {grid.y} cores, not {cfg.GRID}: open it with a column of dispatch cores"
            )
        senders = cfg.cores([(core, core) for core in cfg.SENDERS])
        sub_devices = [ttnn.SubDevice([senders]), ttnn.SubDevice([cfg.WORKER_CORES])]
        self.manager = mesh_device.create_sub_device_manager(sub_devices, 0)
        self.addresses = self._addresses() if layers else None

    @contextmanager
    def loaded(self):
        """While it lasts, programs run on one of the two sub-devices. No trace holds its beginning or its end, and a trace that was captured within is replayed and released within."""
        if self.layers:
            self.global_cb.get()
        self.mesh_device.load_sub_device_manager(self.manager)
        try:
            yield
        finally:
            self.mesh_device.reset_sub_device_stall_group()
            self.mesh_device.clear_loaded_sub_device_manager()

    def start(self):
        """Begin to stream; from then on programs wait for the workers only. Every weight is to be read, in order."""
        if self.layers:
            ttnn.dram_prefetcher(
                [*self.layers[0], self.addresses], num_layers=len(self.layers), global_cb=self.global_cb.get()
            )
        self.mesh_device.set_sub_device_stall_group([cfg.WORKERS])

    @contextmanager
    def running(self):
        """Loaded and started."""
        with self.loaded():
            self.start()
            yield

    def _addresses(self):
        """Those of the first layer's weights, then of the second's: a row of them for each sender, on its core."""
        row = torch.tensor([[weight.buffer_address() for layer in self.layers for weight in layer]], dtype=torch.int32)
        memory_config = cfg.sharded(
            ttnn.TensorMemoryLayout.HEIGHT_SHARDED,
            ttnn.BufferType.L1,
            (1, row.shape[1]),
            [(core, core) for core in cfg.SENDERS],
        )
        rows = row.repeat(len(cfg.SENDERS), 1)
        return to_mesh(self.mesh_device, rows, (None, None), ttnn.uint32, ttnn.ROW_MAJOR_LAYOUT, memory_config)


class GlobalCircularBuffer:
    """Where prefetched weights arrive: those of a DRAM bank on the receivers of the core that streams it.

    It takes L1 that prompts want: `free` gives it back, and `get` makes it anew, in the place where it was when traces were captured.
    """

    def __init__(self, mesh_device):
        self.mesh_device, self.buffer, self.place = mesh_device, None, None

    def get(self):
        if self.buffer is None:
            place = self._next_place()
            if self.place not in (None, place):
                raise RuntimeError(
                    f"the buffer for prefetched weights would lie at {place} and traces know it at {self.place}: L1 was allocated meanwhile"
                )
            self.place = place
            self.buffer = ttnn.create_global_circular_buffer(self.mesh_device, self._sent(), cfg.GLOBAL_CB_BYTES)
        return self.buffer

    def free(self):
        self.buffer = None

    def _sent(self):
        """(sender, receivers). ttnn wants every worker to have a part in it: cores beside the senders that send nothing take the rest."""
        received = [first for first, _ in cfg.RECEIVER_CORES]
        rows = range(self._grid().y)
        idle = [(x, y) for x in sorted({x for x, _ in cfg.SENDERS}) for y in rows if (x, y) not in cfg.SENDERS]
        rest = [core for core in _cores_of(cfg.WORKER_RECTANGLES) if core not in received]
        parts = [received[n : n + cfg.RECEIVERS] for n in range(0, len(received), cfg.RECEIVERS)]
        parts += [rest[n :: len(idle)] for n in range(len(idle))]
        senders = [ttnn.CoreCoord(*core) for core in (*cfg.SENDERS, *idle)]
        return [(sender, cfg.cores([(core, core) for core in part])) for sender, part in zip(senders, parts)]

    def _next_place(self):
        """Where ttnn puts so many bytes on every core."""
        grid = self._grid()
        memory_config = cfg.sharded(
            ttnn.TensorMemoryLayout.HEIGHT_SHARDED,
            ttnn.BufferType.L1,
            (1, cfg.GLOBAL_CB_BYTES // 4),
            [((0, 0), (grid.x - 1, grid.y - 1))],
        )
        shape = ttnn.Shape([grid.x * grid.y, cfg.GLOBAL_CB_BYTES // 4])
        layout = ttnn.ROW_MAJOR_LAYOUT
        probe = ttnn.allocate_tensor_on_device(shape, ttnn.uint32, layout, self.mesh_device, memory_config)
        return probe.buffer_address()

    def _grid(self):
        return self.mesh_device.compute_with_storage_grid_size()


def _cores_of(rectangles):
    """Every core of some rectangles."""
    return [
        (x, y)
        for (left, top), (right, bottom) in rectangles
        for y in range(top, bottom + 1)
        for x in range(left, right + 1)
    ]
