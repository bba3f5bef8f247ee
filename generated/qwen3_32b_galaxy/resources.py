"""What ttnn's operations need beside tensors of the model: made once, shared by all modules that ask for the same."""

import itertools

import torch
import ttnn

from .mesh import to_mesh
from .prefetcher import GlobalCircularBuffer


class Turns:
    """Things of one kind, taken in turn: a chip that is ahead by one call does not write where its neighbours still read."""

    def __init__(self, *things):
        self._things = itertools.cycle(things)

    def next(self):
        return next(self._things)


class Resources:
    """`made` holds what was asked for so far, by what it is."""

    def __init__(self, mesh_device):
        self.mesh_device, self.made = mesh_device, {}

    def global_semaphore(self):
        """A semaphore on all cores: those that hold a tensor, and those that ttnn takes beside them to send and receive."""
        return self._two("semaphore", self._semaphore)

    def two_semaphores(self):
        """As above one for each direction, for an operation that sends both ways."""
        return self._two("semaphores", lambda: [self._semaphore(), self._semaphore()])

    def persistent_buffer(self, shape, dtype, memory_config):
        """A tensor of zeros, `shape` on each chip, in which an operation keeps what its neighbours send."""
        return self._tensor("buffer", shape, dtype, memory_config)

    def persistent_output(self, shape, dtype, memory_config):
        """A tensor that is an operation's result, where its neighbours may write at any time: the next but one such operation overwrites it."""
        return self._tensor("output", shape, dtype, memory_config)

    def quarter_turn(self):
        """A tile by which a row is multiplied to turn each two neighbours: (a, b) becomes (-b, a)."""
        if "turn" not in self.made:
            turn = torch.kron(torch.eye(ttnn.TILE_SIZE // 2), torch.tensor([[0.0, 1.0], [-1.0, 0.0]]))
            self.made["turn"] = to_mesh(self.mesh_device, turn[None, None], (None, None), ttnn.bfloat16)
        return self.made["turn"]

    def quarter_turns(self, shape, dtype, memory_config):
        """As above, `shape[2] // TILE_SIZE` of them one below the other, each on a core of its own."""
        key = "turns", tuple(shape), str(memory_config)
        if key not in self.made:
            turn = torch.kron(torch.eye(ttnn.TILE_SIZE // 2), torch.tensor([[0.0, 1.0], [-1.0, 0.0]]))
            turns = turn.repeat(shape[2] // ttnn.TILE_SIZE, 1)[None, None]
            self.made[key] = ttnn.to_memory_config(to_mesh(self.mesh_device, turns, (None, None), dtype), memory_config)
        return self.made[key]

    def global_circular_buffer(self):
        """Where prefetched weights arrive: see GlobalCircularBuffer."""
        if "global_cb" not in self.made:
            self.made["global_cb"] = GlobalCircularBuffer(self.mesh_device)
        return self.made["global_cb"]

    def _semaphore(self):
        grid = self.mesh_device.compute_with_storage_grid_size()
        cores = ttnn.CoreRangeSet([ttnn.CoreRange(ttnn.CoreCoord(0, 0), ttnn.CoreCoord(grid.x - 1, grid.y - 1))])
        # In the region that the mesh is opened with for semaphores: elsewhere its zero may overwrite what a queued program still reads.
        return ttnn.create_global_semaphore(self.mesh_device, cores, 0, ttnn.BufferType.L1_SMALL)

    def _tensor(self, kind, shape, dtype, memory_config):
        zeros = torch.zeros(shape)

        def make():
            return ttnn.to_memory_config(to_mesh(self.mesh_device, zeros, (None, None), dtype), memory_config)

        return self._two((kind, tuple(shape), dtype, str(memory_config)), make)

    def _two(self, key, make):
        if key not in self.made:
            self.made[key] = Turns(make(), make())
        return self.made[key]
